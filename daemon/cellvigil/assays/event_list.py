"""`events.csv`: what happened to a plate that no image shows. Reads the one file it is given; docs/response.md."""

from __future__ import annotations

import difflib
from datetime import datetime
from pathlib import Path

from cellvigil.assays.sheet import Faults, Line, Wrong, read_sheet
from cellvigil.assays.times import moment
from cellvigil.assays.wells import wells_of
from cellvigil.events import KINDS, Event, EventRow

COLUMNS = {
    "at": ("time", "date"),
    "kind": ("event",),
    "wells": ("well",),
    "experiment": (),
    "plate": (),
    "note": ("comment", "remark"),
}
"""The columns, and other names that are taken for them."""


def read_events(path: Path, *, timezone: str = "") -> tuple[EventRow, ...]:
    """The rows of an event list. `timezone`: of times without an offset; "" = UTC, as for the images.

    Raises UsageError that names every wrong cell.
    """
    sheet = read_sheet(path, COLUMNS, needs=("at", "kind"))
    faults = Faults(path)
    rows = [_row(line, timezone, faults) for line in sheet.lines]
    faults.settle()
    return tuple(row for row in rows if row is not None)


def _row(line: Line, timezone: str, faults: Faults) -> EventRow | None:
    cells, number = line.cells, line.number
    at = faults.taken(number, "at", lambda: _at(cells["at"], timezone))
    kind = faults.taken(number, "kind", lambda: kind_of(cells["kind"]))
    wells = faults.taken(number, "wells", lambda: wells_of(cells["wells"]))
    if at is None or kind is None or wells is None:
        return None
    return EventRow(Event(at, kind, wells, cells["note"]), cells["experiment"], cells["plate"])


def _at(text: str, timezone: str) -> datetime:
    if not text:
        raise Wrong("when? Write it like 2026-11-20 18:05")
    return moment(text, timezone)


def kind_of(text: str) -> str:
    """An event's kind, in any case, a blank or hyphen for "_". Raises Wrong."""
    kind = "_".join(text.lower().replace("-", " ").replace("_", " ").split())
    if kind in KINDS:
        return kind
    near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
    raise Wrong(f"{text!r} is no kind of event, did you mean {near!r}? There are {', '.join(KINDS)}")
