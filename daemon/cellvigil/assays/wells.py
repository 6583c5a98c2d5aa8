"""Wells as people list them: "B1 B2", "B1-B6", "B:C", "3". Pure."""

from __future__ import annotations

import re

from cellvigil.assays.sheet import Wrong
from cellvigil.sources.folders import well_name

_ROWS, _COLUMNS = 32, 48  # of the largest plate, with 1536 wells
_RANGE = re.compile(r"\s*(?:-|:|\u2013|\u2014|\.\.)\s*")
_END = re.compile(r"(?P<row>[A-Za-z]{0,2})(?P<column>\d{0,3})", re.ASCII)


def well_of(text: str) -> str:
    """A well as `FrameKey` spells it: "b03" -> "B3". Raises Wrong."""
    try:
        return well_name(text)
    except ValueError:
        raise Wrong(f"{text!r} is no well: write it like B3") from None


def row_and_column(well: str) -> tuple[int, int]:
    """The place of a well, from 1: "B3" is (2, 3). Raises Wrong."""
    row, column = _end(well_of(well), well)
    return (row or 0) + 1, (column or 0) + 1


def wells_of(text: str) -> tuple[str, ...]:
    """The wells of a list, in order of row and column; () for a blank: the whole plate.

    Parted by blanks, commas or semicolons: a well "B3", a rectangle by two of its corners "B1-C6", a row "B", rows
    "B-C" (all columns of a 1536-well plate), a column "3" or columns "3-5". Raises Wrong.
    """
    places: set[tuple[int, int]] = set()
    for part in re.split(r"[\s,;]+", _RANGE.sub(":", text.strip())):
        if part:
            places |= _places(part)
    return tuple(f"{_letters(row)}{column + 1}" for row, column in sorted(places))


def _places(part: str) -> set[tuple[int, int]]:
    ends = [_end(end, part) for end in part.split(":")]
    if len(ends) > 2:
        raise Wrong(f"{part!r} is no range of wells: write it like B1-B6")
    (row0, column0), (row1, column1) = ends[0], ends[-1]
    if (row0 is None) != (row1 is None) or (column0 is None) != (column1 is None):
        raise Wrong(f"{part!r} mixes wells with rows or columns: write it like B1-B6, B-C or 3-5")
    rows = _between(row0, row1, _ROWS)
    columns = _between(column0, column1, _COLUMNS)
    return {(row, column) for row in rows for column in columns}


def _between(one: int | None, other: int | None, every: int) -> range:
    if one is None or other is None:
        return range(every)
    return range(min(one, other), max(one, other) + 1)


def _end(text: str, part: str) -> tuple[int | None, int | None]:
    """Row and column, from 0, of a well, a row or a column."""
    match = _END.fullmatch(text)
    if match is None or not text:
        raise Wrong(f"{part!r} is no well: write them like B1 B2, B1-B6 or B-C")
    well_of(f"{match['row'] or 'A'}{match['column'] or '1'}")  # that there is such a row and column
    letters = match["row"].upper()
    row = sum((ord(letter) - 64) * 26**place for place, letter in enumerate(reversed(letters))) - 1
    return (row if letters else None), (int(match["column"]) - 1 if match["column"] else None)


def _letters(row: int) -> str:
    return chr(65 + row) if row < 26 else f"A{chr(65 + row - 26)}"
