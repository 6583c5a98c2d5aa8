"""How bright the channels of a series are that are not segmented, and how far its fields of view have moved. Pure."""

from __future__ import annotations

import math

from cellvigil.ledger.entries import Entries
from cellvigil.ledger.packed import NONE
from cellvigil.ledger.series import Book
from cellvigil.ledger.values import NONE_COMPARED, Series, Shift

Signals = dict[str, dict[tuple[str, int], tuple[bytes, ...]]]


def signals(entries: Entries, series: Series, well: str) -> Signals:
    """What `Ledger.signals` tells of one well."""
    frames, book = entries.frames, entries.books.get(series)
    found: Signals = {}
    for timepoint, last in book.wells.get(well, {}).items() if book is not None else ():
        newest: dict[int, tuple[int, int]] = {}  # field -> revision and row
        for row, field, revision, t in frames.chain(last):
            if t != NONE:
                newest[field] = max(newest.get(field, (NONE, NONE)), (revision, row))
        rows = [newest[field][1] for field in sorted(newest, key=lambda number: frames.names[number])]
        for channel, kept in entries.signals.items():
            fields = tuple(kept[row] for row in rows if row in kept)
            if fields:
                found.setdefault(channel, {})[(well, timepoint)] = fields
    return found


def shifts(book: Book) -> dict[tuple[str, int], float]:
    """See `Ledger.shifts`."""
    standing = {
        place: [one.share for _, one in fields.values() if one.before != NONE_COMPARED]
        for place, fields in book.shifts.items()
    }
    return {
        place: max((share for share in told if math.isfinite(share)), default=math.nan)
        for place, told in standing.items()
        if told
    }


def shift(book: Book, well: str) -> dict[tuple[int, str], Shift]:
    """See `Ledger.shift`."""
    return {
        (timepoint, name): one
        for (of, timepoint), fields in book.shifts.items()
        if of == well
        for name, (_, one) in fields.items()
    }
