"""Nanolive CX-A, holotomography: maximum projections or stacks as TIFF, and `.vol` archives of them.

Private TIFF tag 65000 holds [RI_min, RI_max]; integer pixels are scaled between the two, float pixels below 3.0 are
refractive index already (reference/microscopes.md). Slices are stored upside down. Stacks become the 2-D maximum
projection that the EWC-FAISS papers use.

A `.vol` is a zip with one multi-page TIFF a frame. Its member names are not documented, so none is relied upon: TIFF
members whose names differ in their digits only are one channel, and natural order is their time. Members are read in
memory, one at a time and in bounds (`archive`).
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import tifffile

from cellvigil import config
from cellvigil.data import Array, FileStat, Plane, Sighting
from cellvigil.errors import BadFile
from cellvigil.sources import archive, tiff
from cellvigil.sources.complete import finished
from cellvigil.sources.load import load, sha256, too_large
from cellvigil.sources.names import NameRule
from cellvigil.sources.natural import natural_key

INDEX = "RI"
"""The channel name of refractive index."""

_TAG = 65000
_MOST_INDEX = 3.0  # float pixels below are refractive index; no material in a dish reaches it
_PART = re.compile(r"(?P<container>.+\.vol)!(?P<channel>[^!]*)@(?P<number>\d+)!(?P<member>.+)", re.DOTALL | re.I)


@dataclass(frozen=True, slots=True)
class Nanolive:
    """The files of one Nanolive folder."""

    source: config.Source
    limits: config.Limits
    suffixes: tuple[str, ...] = (".tif", ".tiff", ".vol")
    first_number: int = 0

    def sight(self, path: str) -> Sighting | None:
        """What the name says; None for what is no image. Raises BadFile("bad_name")."""
        part = _PART.fullmatch(path)
        if part is None:
            return NameRule(self.source, self.suffixes).sight(path)
        whole = NameRule(self.source, self.suffixes).sight(part["container"])
        if whole is None:
            return None
        number = int(part["number"])
        return replace(whole, folder=part["container"], number=number, channel=part["channel"])

    def finished(self, root: Path, path: str) -> None:
        """Return if the TIFF or the archive is whole. Raises NotYet or BadFile."""
        part = _PART.fullmatch(path)
        path = part["container"] if part else path
        finished(root / path, path, "zip" if path.lower().endswith(".vol") else "tiff", self.limits)

    def expand(self, root: Path, stat: FileStat) -> tuple[FileStat, ...]:
        """The frames of a `.vol`, each with its own size and date; `(stat,)` for a TIFF. Raises NotYet, BadFile."""
        if not stat.path.lower().endswith(".vol"):
            return (stat,)
        with archive.opened(root / stat.path, stat.path, self.limits) as opened:
            channels = _channels(opened, stat.path, self.limits)
        zone = ZoneInfo(self.source.timezone or "UTC")
        return tuple(
            FileStat(f"{stat.path}!{channel}@{number:06d}!{info.filename}", info.file_size, _date(info, stat, zone))
            for channel, members in channels.items()
            for number, info in enumerate(members)
        )

    def read(self, root: Path, path: str) -> Plane:
        """Decode one image: refractive index as f32, or fluorescence as it is. Raises NotYet or BadFile."""
        part = _PART.fullmatch(path)
        data = self._bytes(root, path)
        with tiff.opened(data, path, self.limits, final=part is not None) as file:
            ranged = _index_range(file.pages.first) is not None
            convert = partial(_refractive_index, path)
            pixels = tiff.read_planes(file, data, path, rule="max", limits=self.limits, convert=convert)
            names = tiff.only_image(file, len(pixels), path)
            size = tiff.pixel_size_um(file)
        if names == ("",):
            names = (INDEX if ranged or _is_index(pixels) else part["channel"] if part else "",)
        number = int(part["number"]) if part else None
        return Plane(pixels[:, ::-1], names, size, None, number=number, digest=sha256(data))

    def _bytes(self, root: Path, path: str) -> bytes:
        """A file's own bytes, or those of one member of an archive."""
        part = _PART.fullmatch(path)
        if part is None:
            return load(root, path, self.limits)
        with archive.opened(root / part["container"], path, self.limits) as opened:
            return archive.read_member(opened, opened.getinfo(part["member"]), path, self.limits)


def _refractive_index(path: str, pixels: Array, page: tifffile.TiffPage) -> Array:
    """One page as refractive index (f32) where tag 65000 gives the range; else as it is."""
    ranged = _index_range(page)
    if ranged is None or _is_index(pixels):
        return pixels
    low, high = ranged
    if not 0 < low < high < _MOST_INDEX:
        raise BadFile("bad_metadata", f"a refractive index from {low} to {high} (tag {_TAG})", where=path)
    if pixels.dtype.kind != "u":
        raise BadFile(
            "bad_metadata", f"pixels of type {pixels.dtype} with a refractive index range (tag {_TAG})", where=path
        )
    scale = (high - low) / np.iinfo(pixels.dtype).max
    return (low + pixels.astype(np.float32) * np.float32(scale)).astype(np.float32)


def _index_range(page: tifffile.TiffPage) -> tuple[float, float] | None:
    value = page.tags.valueof(_TAG)
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    return float(value[0]), float(value[1])


def _is_index(pixels: Array) -> bool:
    return pixels.dtype.kind == "f" and bool(pixels.max() < _MOST_INDEX)


def _channels(opened: zipfile.ZipFile, name: str, limits: config.Limits) -> dict[str, list[zipfile.ZipInfo]]:
    """The TIFF members by channel, each in order of time; the only channel is "" (the content will say)."""
    images = [info for info in opened.infolist() if info.filename.lower().endswith((".tif", ".tiff"))]
    if not images:
        raise BadFile("wrong_type", "the archive holds no TIFF", where=name)
    archive.check_members(images, name)
    alike: dict[str, list[zipfile.ZipInfo]] = {}
    for info in images:
        alike.setdefault(re.sub(r"\d+", "#", info.filename), []).append(info)
    if len(alike) > limits.max_pages:  # each would be a channel, and is opened to learn what it is
        raise too_large(name, f"the archive holds {len(alike)} channels", "limits.max_pages")
    for members in alike.values():
        members.sort(key=lambda info: natural_key(info.filename))
    if len(alike) == 1:
        return {"": next(iter(alike.values()))}
    channels: dict[str, list[zipfile.ZipInfo]] = {}
    for shape in sorted(alike):
        label = INDEX if _is_volume(opened, alike[shape][0], name, limits) else _label(shape)
        while label in channels:
            label += "'"
        channels[label] = alike[shape]
    return channels


def _label(shape: str) -> str:
    """A channel's name from what its members' names have in common: "fluo/GFP_####.tif" -> "GFP"."""
    stem = shape.rpartition("/")[2].rpartition(".")[0]
    return re.sub(r"[!@#]", "", stem).strip(" _-.") or "channel"


def _is_volume(opened: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, limits: config.Limits) -> bool:
    """True for refractive index: several slices, or its range in tag 65000."""
    data = archive.read_member(opened, info, name, limits)
    with tiff.opened(data, name, limits, final=True) as file:
        return len(file.pages) > 1 or _index_range(file.pages.first) is not None


def _date(info: zipfile.ZipInfo, stat: FileStat, zone: ZoneInfo) -> int:
    """The member's own date in ns since 1970; the archive's where the member has none (zip's epoch)."""
    try:
        date = datetime(*info.date_time, tzinfo=zone)
    except ValueError:
        return stat.mtime_ns
    return int(date.astimezone(UTC).timestamp()) * 1_000_000_000 if date.year > 1980 else stat.mtime_ns
