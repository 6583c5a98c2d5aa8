"""The plate map and the events of every plate, followed while a service runs. Reads the files; writes none.

A spreadsheet is saved half-edited, locked or away for a moment: the last good one stands, then what the record says of
the plate. Nothing here raises for what a file holds. One thread calls `refresh`; any may ask the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from cellvigil import config
from cellvigil.assays.added import FILE, Entry, read_added
from cellvigil.assays.event_list import read_events
from cellvigil.assays.plate_map import read_plate_map
from cellvigil.errors import CellvigilError
from cellvigil.events import Event, EventRow, events_of
from cellvigil.ledger import Design, Series
from cellvigil.platemap import NO_PLAN, PlatePlan, Row, plan_of
from cellvigil.plates import covers

PLATE_MAP, EVENTS = WHAT = ("plate_map", "events")
"""The keys of `sources[]` that name the two files."""

_T = TypeVar("_T")
_Stamp = tuple[int, int, int] | str


@dataclass(slots=True, eq=False)
class _Followed(Generic[_T]):
    """One file: its last good content, and what is wrong with it now."""

    path: Path
    read: Callable[[Path], _T]
    value: _T | None = None  # None = it was never read well
    trouble: str = ""
    _stamp: _Stamp | None = None

    def look(self) -> bool:
        """Read the file if it is not as it was; returns whether its good content changed."""
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        if self.value and isinstance(stamp, str):  # what was there is gone: nobody said that it no longer holds
            self.trouble = f"cannot be read any more: {stamp} ({self.path})"
            return False
        try:
            value, self.trouble = self.read(self.path), ""
        except CellvigilError as error:
            self.trouble = str(error)
            return False
        changed = value != self.value
        self.value = value
        return changed


class Plans:
    """What is known of every plate's wells and events.

    `recorded`: what the record says of a plate; it stands in for a file that was never read well.
    """

    def __init__(self, settings: config.Config, recorded: Callable[[Series], Design | None] = lambda _: None) -> None:
        zones = {source.name: source.timezone for source in settings.sources}
        self._sources = tuple(zones)
        self._maps: Mapping[str, _Followed[tuple[Row, ...]]] = {
            source.name: _Followed(source.plate_map, partial(read_plate_map, timezone=zones[source.name]))
            for source in settings.sources
            if source.plate_map is not None
        }
        self._lists: Mapping[str, _Followed[tuple[EventRow, ...]]] = {
            source.name: _Followed(source.events, partial(read_events, timezone=zones[source.name]))
            for source in settings.sources
            if source.events is not None
        }
        self._added = _Followed(settings.store.path / FILE, lambda path: tuple(read_added(path.parent)))
        self._recorded = recorded
        self._designs: dict[tuple[Series, bool], Design] = {}

    def refresh(self) -> frozenset[str]:
        """Look at the files, and read those that changed; returns the names of sources of which something changed."""
        first = self._added.value is None
        before = _by_source(self._added.value)
        changed = {name for followed in (self._maps, self._lists) for name, one in followed.items() if one.look()}
        if self._added.look():
            after = _by_source(self._added.value)
            changed |= {name for name in self._sources if before.get(name) != after.get(name)}
        if changed or first:
            self._designs = {}
        return frozenset(changed)

    def of(self, series: Series) -> PlatePlan:
        """The plate map of one plate; an empty one where none is known."""
        return self.design(series).plan

    def events(self, series: Series) -> tuple[Event, ...]:
        """The events of one plate, from file and command, in order of time; what was taken back is not among them."""
        return self.design(series).events

    def design(self, series: Series, *, ended: bool = False) -> Design:
        """Both. Of a plate that has `ended`, what is recorded stands, unless the file has rows with its experiment: the
        next assay's map, typed over this one's, says nothing of it.
        """
        designs = self._designs  # a refresh meanwhile begins a new one
        if (series, ended) not in designs:
            designs[series, ended] = Design(self._plan(series, ended), self._events(series, ended))
        return designs[series, ended]

    def troubles(self) -> dict[tuple[str, str], str]:
        """What is wrong with a file now, by source and "plate_map" or "events"; "" where all is well.

        Only sources that name such a file; the events added by command count under every source's "events".
        """
        told = {(name, PLATE_MAP): one.trouble for name, one in self._maps.items()}
        told |= {(name, EVENTS): one.trouble for name, one in self._lists.items()}
        if self._added.trouble:
            told |= {(name, EVENTS): told.get((name, EVENTS)) or self._added.trouble for name in self._sources}
        return told

    def stands_in(self, source: str, what: str) -> bool:
        """Whether good content of a source's file is in use, be it an older one."""
        followed: Mapping[str, _Followed[tuple[Row, ...]] | _Followed[tuple[EventRow, ...]]]
        followed = self._maps if what == PLATE_MAP else self._lists
        return source in followed and followed[source].value is not None

    def _plan(self, series: Series, ended: bool) -> PlatePlan:
        source, experiment, plate = series
        followed = self._maps.get(source)
        recorded = self._recorded(series) or Design()
        if ended and recorded.plan.wells and not _is_named(followed.value if followed else None, series):
            return recorded.plan
        if followed is None:
            return NO_PLAN
        return recorded.plan if followed.value is None else plan_of(followed.value, experiment, plate)

    def _events(self, series: Series, ended: bool) -> tuple[Event, ...]:
        source, experiment, plate = series
        entries = [entry for entry in self._added.value or () if entry.source == source]
        standing = [entry.row for entry in entries if entry.removed_at is None]
        followed = self._lists.get(source)
        known = (self._recorded(series) or Design()).events
        stands = ended and known and not _is_named(followed.value if followed else None, series)
        if not stands and (followed is None or followed.value is not None):
            listed = followed.value or () if followed is not None else ()
            return events_of((*listed, *standing), experiment, plate)
        taken_back = {entry.row.event for entry in entries if entry.removed_at is not None}
        return tuple(
            sorted({*events_of(standing, experiment, plate), *(one for one in known if one not in taken_back)})
        )


def _is_named(rows: tuple[Row, ...] | tuple[EventRow, ...] | None, series: Series) -> bool:
    """Whether rows speak of a plate by its experiment: "Plate 1" alone is every experiment's."""
    return any(row.experiment and covers((row.experiment, row.plate), *series[1:]) for row in rows or ())


def _by_source(entries: tuple[Entry, ...] | None) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries or ():
        found.setdefault(entry.source, []).append(entry)
    return found


def _stamp(path: Path) -> _Stamp:
    """What tells one version of a file from another; a text where it cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked every round
    except OSError as error:
        return str(error.strerror)
    return (found.st_size, found.st_mtime_ns, found.st_ino)
