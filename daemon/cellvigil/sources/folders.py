"""What the folders above an image say: its experiment, its plate, and which part of a series it belongs to.

Gen5 writes `YYMMDD_HHMMSS_<experiment>/YYMMDD_HHMMSS_Plate 1/`, sometimes with a folder a well below
(`B2/`, `ID_A9 info/`), and calls every plate "Plate 1". Pure: names only, nothing is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cellvigil import config

PLATE = "Plate 1"
"""The plate's name where no folder names one: what Gen5 calls every plate."""

_DATED = re.compile(r"(?P<date>\d{6}_\d{6})(?:_(?P<name>.*))?", re.ASCII | re.DOTALL)
_WELL = re.compile(r"(?P<row>[A-Za-z]|[Aa][A-Fa-f])0*(?P<column>[1-9]\d?)", re.ASCII)
_TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".lock")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image stands."""

    experiment: str
    plate: str
    folder: str  # relative path down to the last dated folder, else to the image's own; "" at the root


def well_name(text: str) -> str:
    """A well's name as `FrameKey` spells it: "a01" -> "A1". Raises ValueError for what is no well (1,536 at most)."""
    match = _WELL.fullmatch(text)
    if match is None or int(match["column"]) > 48:
        raise ValueError(f"{text!r} is no well")
    return f"{match['row'].upper()}{match['column']}"


def is_noise(path: str) -> bool:
    """True for what is no finished image by its name: hidden, temporary, or a file manager's own."""
    parts = path.split("/")
    name = parts[-1].lower()
    hidden = any(part.startswith((".", "~")) for part in parts)
    return hidden or name.endswith(_TEMPORARY) or name in ("thumbs.db", "desktop.ini")


def place_of(path: str, source: config.Source, *, well: str = "") -> Place:
    """Experiment, plate and folder of the image at `path` by the source's rules.

    `experiment_rule`: `dated_folder` takes the top dated folder and the plate folder in it (without a dated folder:
    the top folder); `parent` takes the image's own folder; `source` takes the source's name for everything.
    `series: merge` leaves the date out of the experiment's name, so that dated folders join. A folder that only
    repeats the image's `well` does not count.
    """
    parts = path.split("/")[:-1]
    if parts and well and _is_well_folder(parts[-1], well):
        parts = parts[:-1]
    dated = [i for i, part in enumerate(parts) if _DATED.fullmatch(part)]
    folder = "/".join(parts[: dated[-1] + 1] if dated else parts)
    if source.experiment_rule == "source":
        return Place(source.name, PLATE, folder)
    if source.experiment_rule == "parent":
        return Place("_".join(_names(parts, source)) or source.name, PLATE, folder)
    inside = parts[dated[0] :] if dated else parts
    if not inside:
        return Place(source.name, PLATE, folder)
    top = inside[0]
    own = _without_date(inside[1] if len(inside) > 1 else top)
    plate = own if len(inside) > 1 or dated else PLATE
    return Place(_names([top], source)[0], plate, folder)


def started(folder: str) -> str:
    """The date and time "YYMMDD_HHMMSS" that the innermost dated folder of `folder` begins with; "" without one."""
    for part in reversed(folder.split("/")):
        if match := _DATED.fullmatch(part):
            return match["date"]
    return ""


def _names(parts: list[str], source: config.Source) -> list[str]:
    return [_without_date(part) if source.series == "merge" else part for part in parts]


def _without_date(part: str) -> str:
    match = _DATED.fullmatch(part)
    return (match["name"] or PLATE) if match else part


def _is_well_folder(part: str, well: str) -> bool:
    match = re.fullmatch(r"(?:ID_)?(?P<well>[A-Za-z]{1,2}\d{1,3})(?: info)?", part, re.ASCII)
    if match is None:
        return False
    try:
        return well_name(match["well"]) == well
    except ValueError:
        return False
