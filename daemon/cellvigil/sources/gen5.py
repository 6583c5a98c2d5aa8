"""BioTek Gen5 (Lionheart, Cytation): one TIFF a well, field, channel, z slice and time point.

Three forms of names (reference/microscopes.md; the third is the newer "T001" spelling), well first, not padded:

    A  WELL_READSTEP_CHANNELINDEX_FIELD[Zk]_CHANNEL_NNN     A1_01_1_4_Phase Contrast_001
    B  WELL_FIELD[Zk]_CHANNEL_INDEX_NNN_[READSTEP]          P24_1_Bright Field_1_001_02
    C  WELL_READSTEP_SPFIELD[Zk]_CINDEX_CHANNEL_TNNN        B2_02_SP10Z10_C1_Bright Field_T001

NNN is the time point, 1-based. The last token of form B is taken for the read step: it is -1 for stitched images,
exactly where form A has read step -1, and the public Gen5 reader ignores it. The metadata's `KineticSequence` is the
better witness of the time, but the key must come from the name alone; `read` reports what the metadata says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from cellvigil import config
from cellvigil.data import FileStat, Plane, Sighting
from cellvigil.errors import BadFile
from cellvigil.sources import bti, tiff
from cellvigil.sources.complete import finished
from cellvigil.sources.folders import is_noise, place_of, started, well_name
from cellvigil.sources.load import load, sha256

_WELL = r"(?P<well>[A-Z]{1,2}\d{1,2})(?:ROI(?P<roi>\d{1,9}))?"
_FIELD = r"(?P<field>\d{1,9})(?:Z(?P<z>\d{1,9}))?"
_FORMS = tuple(
    re.compile(_WELL + form, re.ASCII | re.DOTALL)
    for form in (
        rf"_-?\d+_\d+_{_FIELD}_(?P<channel>(?=.*[^\d_-]).+)_(?P<number>-?\d{{1,18}})",
        rf"_{_FIELD}_(?P<channel>.+)_\d+_(?P<number>\d{{1,18}})_(?:-?\d+)?",
        rf"_-?\d+_SP{_FIELD}_C\d+_(?P<channel>.+)_T(?P<number>\d{{1,18}})",
    )
)
_DERIVED = re.compile(r"([^\[\]]+)\[(.*)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gen5:
    """The files of one Gen5 folder."""

    source: config.Source
    limits: config.Limits
    suffixes: tuple[str, ...] = (".tif", ".tiff")
    first_number: int = 1

    def sight(self, path: str) -> Sighting | None:
        """What the name says; None for what is no image. Raises BadFile("bad_name")."""
        if is_noise(path) or not path.lower().endswith(self.suffixes):
            return None
        match, well = _parts(path)
        channel, derived = unwrap(match["channel"])
        place = place_of(path, self.source, well=well)
        return Sighting(
            experiment=place.experiment,
            plate=place.plate,
            well=well,
            field=_field(match["field"], match["roi"]),
            number=int(match["number"]),
            folder=place.folder,
            channel=channel,
            z=int(match["z"]) if match["z"] else None,
            derived=derived,
        )

    def finished(self, root: Path, path: str) -> None:
        """Return if the TIFF is whole. Raises NotYet or BadFile."""
        finished(root / path, path, "tiff", self.limits)

    def expand(self, root: Path, stat: FileStat) -> tuple[FileStat, ...]:  # noqa: ARG002 - the protocol's signature
        """Every file is one image."""
        return (stat,)

    def read(self, root: Path, path: str) -> Plane:
        """Decode one image; several pages are z slices. Raises NotYet or BadFile."""
        data = load(root, path, self.limits)
        with tiff.opened(data, path, self.limits) as file:
            metadata = bti.parse(tiff.description(file), path, self.limits)
            pixels = tiff.read_planes(file, data, path, rule=self.source.z, limits=self.limits)
            names = tiff.only_image(file, len(pixels), path)
        zone = ZoneInfo(self.source.timezone)
        return Plane(
            pixels=pixels,
            channels=names if len(names) > 1 else (unwrap(_parts(path)[0]["channel"])[0],),
            pixel_size_um=metadata.pixel_size_um if metadata else None,
            acquired_at=bti.acquired_at(metadata, zone, started(path.rpartition("/")[0])) if metadata else None,
            elapsed_ms=metadata.elapsed_ms if metadata else None,
            number=metadata.sequence if metadata else None,
            digest=sha256(data),
        )


def _parts(path: str) -> tuple[re.Match[str], str]:
    """The name's parts by the first form that fits, and the well."""
    stem = path.rpartition("/")[2].rpartition(".")[0]
    match = next((found for form in _FORMS if (found := form.fullmatch(stem))), None)
    if match is None:
        hint = "a Gen5 name is like A1_02_1_1_Bright Field_001.tif; for other names use kind plain"
        raise BadFile("bad_name", "this is no Gen5 image name", where=path, hint=hint)
    try:
        return match, well_name(match["well"])
    except ValueError as error:
        raise BadFile("bad_name", str(error), where=path) from None


def unwrap(token: str) -> tuple[str, str]:
    """Channel and derivation of a channel token: "Tsf[Stitched[DAPI]]" -> ("DAPI", "Tsf[Stitched]").

    Inside brackets, text before the last underscore names the images that were joined, not the channel.
    """
    kinds: list[str] = []
    while match := _DERIVED.fullmatch(token):
        kinds.append(match[1])
        token = match[2]
    if kinds:
        token = token.rpartition("_")[2]
    derived = "[".join(kinds) + "]" * (len(kinds) - 1)
    return token, derived


def _field(field: str, roi: str | None) -> str:
    """The field of view: its number, or the region of interest, with its field where it has more than the one."""
    number = str(int(field))
    if roi is None:
        return number
    return f"ROI{int(roi)}" if number == "1" else f"ROI{int(roi)}-{number}"
