"""OME-TIFF (and ImageJ hyperstacks): one file may hold channels, slices, time points and positions.

A file of several time points or positions is a container: its parts are named "file.ome.tif!s0t3" (series, time).
Without a pattern for the names, each single image is a time point of well A1, and a container's positions are fields.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import tifffile

from cellvigil import config
from cellvigil.data import FileStat, Plane, Sighting
from cellvigil.errors import BadFile
from cellvigil.sources import ome, tiff
from cellvigil.sources.complete import finished
from cellvigil.sources.load import load, sha256, too_large
from cellvigil.sources.names import NameRule

_PART = re.compile(r"(?P<container>.+\.tiff?)!s(?P<series>\d{1,6})t(?P<time>\d{1,6})", re.DOTALL | re.I | re.ASCII)


@dataclass(frozen=True, slots=True)
class OmeTiff:
    """The files of one folder of OME-TIFFs."""

    source: config.Source
    limits: config.Limits
    suffixes: tuple[str, ...] = (".tif", ".tiff")
    first_number: int = 0

    def sight(self, path: str) -> Sighting | None:
        """What the name says; None for what is no image. Raises BadFile("bad_name")."""
        part = _PART.fullmatch(path)
        if part is None:
            return NameRule(self.source, self.suffixes).sight(path)
        whole = NameRule(self.source, self.suffixes).sight(part["container"])
        if whole is None:
            return None
        series = int(part["series"])
        field = whole.field if series == 0 else f"{whole.field}-{series + 1}"
        return replace(whole, folder=part["container"], field=field, number=int(part["time"]))

    def finished(self, root: Path, path: str) -> None:
        """Return if the TIFF is whole. Raises NotYet or BadFile."""
        container, _, _ = _split(path)
        finished(root / container, container, "tiff", self.limits, pages=self.limits.max_members)

    def expand(self, root: Path, stat: FileStat) -> tuple[FileStat, ...]:
        """The time points of every position, or `(stat,)` if there is but one of each. Raises NotYet, BadFile."""
        with tiff.opened(root / stat.path, stat.path, self.limits) as file:
            _check_kind(file, stat.path)
            times = [dict(zip(part.axes, part.shape, strict=True)).get("T", 1) for part in file.series]
        if times == [1]:
            return (stat,)
        if sum(times) > self.limits.max_members:
            raise too_large(stat.path, f"the file holds {sum(times)} time points", "limits.max_members")
        return tuple(
            replace(stat, path=f"{stat.path}!s{series}t{time}")
            for series, count in enumerate(times)
            for time in range(count)
        )

    def read(self, root: Path, path: str) -> Plane:
        """Decode one time point of one position. Raises NotYet or BadFile."""
        container, series, time = _split(path)
        content = load(root, path, self.limits) if time is None else root / container
        with tiff.opened(content, path, self.limits) as file:
            _check_kind(file, path)
            pixels = tiff.read_planes(
                file, content, path, rule=self.source.z, limits=self.limits, series=series, time=time
            )
            image = self._image(file, path, series)
            size = image.pixel_size_um if file.is_ome else tiff.pixel_size_um(file)
            names = tiff.channel_names(file, len(pixels), series)
        if len(image.channels) == len(pixels):
            names = image.channels
        elapsed = image.elapsed_s.get(time or 0)
        return Plane(
            pixels=pixels,
            channels=_distinct(names),
            pixel_size_um=size,
            acquired_at=ome.moment(image, time or 0) or self._by_interval(image.acquired_at, time),
            elapsed_ms=None if elapsed is None else elapsed * 1000,
            number=time,
            digest=sha256(content) if isinstance(content, bytes) else hashlib.sha256(pixels.tobytes()).hexdigest(),
        )

    def _image(self, file: tifffile.TiffFile, path: str, series: int) -> ome.OmeImage:
        if not file.is_ome:
            return ome.OmeImage(None, (), None, {})
        images = ome.parse(tiff.description(file), path, ZoneInfo(self.source.timezone or "UTC"), self.limits)
        if series >= len(images):
            raise BadFile("bad_metadata", f"the metadata describes {len(images)} images", where=path)
        return images[series]

    def _by_interval(self, first: datetime | None, time: int | None) -> datetime | None:
        """A later time point of a file that times only its first: by the source's own interval, if that is known."""
        if first is None or self.source.interval_s is None:
            return None
        return ome.later(first, self.source.interval_s * (time or 0))


def _split(path: str) -> tuple[str, int, int | None]:
    """Container, series, and time point (None for a file that is one image)."""
    part = _PART.fullmatch(path)
    return (part["container"], int(part["series"]), int(part["time"])) if part else (path, 0, None)


def _check_kind(file: tifffile.TiffFile, path: str) -> None:
    hint = "use kind plain for such files"
    if not (file.is_ome or file.is_imagej):
        raise BadFile("wrong_type", "the TIFF has no OME metadata", where=path, hint=hint)
    if file.series[0].kind not in ("ome", "imagej"):  # tifffile reads such a file as pages without a meaning
        what = "the OME metadata is of a set of several files, or does not fit the pages"
        raise BadFile("wrong_type", what, where=path, hint=hint)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Channel names that differ: unnamed ones of several are C1, C2, ...; repeated ones get their place added."""
    if len(names) == 1:
        return names
    named = [name or f"C{i + 1}" for i, name in enumerate(names)]
    return tuple(name if named.count(name) == 1 else f"{name} {i + 1}" for i, name in enumerate(named))
