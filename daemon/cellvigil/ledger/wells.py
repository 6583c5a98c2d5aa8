"""A well's value at a time point, put together from its fields' rows. Pure.

The rules are DESIGN's, "What a count means": of each field the highest revision; fields that are left out show, and do
not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from cellvigil.ledger.entries import Entries
from cellvigil.ledger.packed import NONE, Frames, Row, moment
from cellvigil.ledger.values import FieldCounts, Series, WellTime


def well_time(entries: Entries, series: Series, well: str, timepoint: int, expected_fields: int) -> WellTime | None:
    """The value of one place; None where no frame line was read of it. See `Ledger.well_times`."""
    frames, book = entries.frames, entries.books.get(series)
    last = NONE if book is None else book.wells.get(well, {}).get(timepoint, NONE)
    every = [frames[row] for row, _, _, t in frames.chain(last) if t != NONE]
    if book is None or not every:
        return None
    current = _current(every)
    newest = max(current, key=lambda row: (row.committed, frames.names[row.field]))
    fields = _fields(frames, current)
    counted = [row for row, field in zip(current, fields, strict=True) if field.counted]
    counts: dict[str, int] = {}
    for field in fields:
        for state, cells in field.counts.items() if field.counted else ():
            counts[state] = counts.get(state, 0) + cells
    expected = max(expected_fields, len(book.fields[well]))
    first = min(row.acquired for row in current)
    return WellTime(
        series=series,
        well=well,
        timepoint=timepoint,
        acquired_at=moment(first) + timedelta(microseconds=median(row.acquired - first for row in current)),
        counts=counts,
        fields_present=len(current),
        fields_missing=expected - len(current),
        fields_excluded=len(current) - len(counted),
        focus=median([row.focus for row in current if math.isfinite(row.focus)] or [math.nan]),
        bundle=frames.names[newest.bundle],
        committed_at=moment(min(row.committed for row in every)),
        fields=tuple(sorted(fields, key=lambda field: field.field)),
        probability=_ratio(sum(row.probability for row in counted), sum(row.rated for row in counted)),
        novel=_ratio(sum(row.novel for row in counted), sum(row.tested for row in counted)),
        typical=_ratio(sum(row.typical for row in counted), sum(row.tested for row in counted)),
        agreement=_ratio(sum(row.agreement for row in counted), sum(row.voted for row in counted)),
    )


def _current(every: list[Row]) -> list[Row]:
    """Of each field the highest revision; `every` is a chain, which begins with the last that came."""
    every.reverse()
    every.sort(key=lambda row: row.revision)
    return list({row.field: row for row in every}.values())


def _fields(frames: Frames, rows: Sequence[Row]) -> list[FieldCounts]:
    names = frames.names
    return [
        FieldCounts(names[row.field], frames.counts(row), names[row.outcome] == "counted", row.focus) for row in rows
    ]


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
