"""The ledger itself: what is done, and the well-by-time table of counts. Pure.

Lines may come in any order (plates side by side, a replay after a restart): the answers are the same, because a frame's
highest revision stands, and of a revision's calls those with the highest `seq`. The rules of a well's value are
DESIGN's, "What a count means". One thread may add while others ask.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from cellvigil.data import Baseline, FrameKey
from cellvigil.ledger.entries import Entries
from cellvigil.ledger.packed import NONE, Row, moment
from cellvigil.ledger.series import Book
from cellvigil.ledger.values import TIERS, CalledBy, CommittedFrame, FileNote, Series, Unit, WellTime


class Ledger:
    """The state of a store, from its journals' lines. `add` takes them; everything else only asks."""

    def __init__(self) -> None:
        self._entries = Entries()
        self._lock = threading.RLock()

    def add(self, line: Mapping[str, Any]) -> None:
        """Take one good journal line. Kinds that say nothing to the ledger are passed over."""
        with self._lock:
            self._entries.take(line)

    def series(self) -> tuple[Series, ...]:
        """Every series that has a baseline or a frame, sorted."""
        with self._lock:
            return tuple(sorted(name for name, book in self._entries.books.items() if book.baseline or book.newest))

    def is_done(self, source: str, path: str, size: int, mtime_ns: int) -> bool:
        """Whether this file, as it is now listed, is in the store already."""
        # Without the lock, since a scan asks this of every file: a record is whole before its path points at it.
        entries = self._entries
        number = entries.last_of.get(source, {}).get(path)
        if number is None:
            return False
        kept = entries.files[number]
        return kept.size == size and kept.mtime_ns == mtime_ns and not entries.frames[kept.row].lost

    def file(self, source: str, path: str) -> FileNote | None:
        """The last that was read of a file, or None if it never was, or what became of it is lost."""
        entries = self._entries
        number = entries.last_of.get(source, {}).get(path)
        if number is None:
            return None
        kept = entries.files[number]
        row = entries.frames[kept.row]
        if row.lost:
            return None
        return FileNote(entries.files.ref(number), self._key(row), row.revision, moment(kept.committed))

    def revision(self, key: FrameKey) -> int:
        """The highest committed revision of a frame; -1 if it has none."""
        with self._lock:
            return max(self._revisions(key), default=-1)

    def frame(self, key: FrameKey, revision: int | None = None) -> CommittedFrame | None:
        """One committed revision of a frame (the highest by default), or None."""
        with self._lock:
            revisions = self._revisions(key)
            row = revisions.get(max(revisions, default=-1) if revision is None else revision)
            return None if row is None else self._committed(self._entries.frames[row])

    def frames(self, series: Series) -> list[CommittedFrame]:
        """Every committed revision of a series, ordered by slot, then well and field, then revision."""
        with self._lock:
            frames = self._entries.frames
            lasts = [last for well in self._book(series).wells.values() for last in well.values()]
            rows = [row for last in lasts for row, _, _, t in frames.chain(last) if t != NONE]
            found = [self._committed(frames[row]) for row in rows]
        return sorted(found, key=lambda frame: (frame.t, frame.key, frame.revision))

    def last_commit(self, series: Series, slot: int | None = None) -> datetime | None:
        """When the last frame of a series, or of one of its slots, was committed; None if it has none. Cheap."""
        with self._lock:
            newest = self._book(series).newest
            found = max(newest.values(), default=None) if slot is None else newest.get(slot)
            return None if found is None else moment(found)

    def calls(self, key: FrameKey, revision: int) -> tuple[str, Mapping[str, int]] | None:
        """The current calls of a committed revision: the index's sha256, and cells a state. None if there are none."""
        with self._lock:
            entries = self._entries
            number = entries.find(key.series, key.well, key.timepoint, key.field, revision)
            row = None if number == NONE else entries.frames[number]
            if row is None or row.seq == NONE:
                return None
            return entries.frames.names[row.bundle], entries.frames.counts(row)

    def bundle(self, series: Series, sha256: str) -> CalledBy | None:
        """What a series' journal says of an index."""
        return self._entries.bundles.get((series, sha256))

    def bundles(self, series: Series) -> list[CalledBy]:
        """Every index that called cells of a series."""
        with self._lock:
            return [entry for (of, _), entry in self._entries.bundles.items() if of == series]

    def baseline(self, series: Series) -> Baseline | None:
        """What the series' first frames fixed, or None if that is still to come."""
        entry = self._book(series).baseline
        return None if entry is None else entry[1]

    def ordinals(self, series: Series) -> dict[tuple[str, int], int]:
        """Which time point the number in a file's name became: (folder, number) -> timepoint."""
        with self._lock:
            return {sighting: timepoint for sighting, (_, timepoint) in self._book(series).ordinals.items()}

    def fields(self, series: Series) -> dict[str, tuple[str, ...]]:
        """The fields ever seen in each well."""
        with self._lock:
            return {well: tuple(sorted(names)) for well, names in sorted(self._book(series).fields.items())}

    def well_times(self, series: Series, expected_fields: int = 1) -> list[WellTime]:
        """Every well at every time point that has a frame, by well, then time.

        `expected_fields`: how many fields a well should have; a well in which more were ever seen has those.
        """
        with self._lock:
            wells = self._book(series).wells
            places = [(well, timepoint) for well in sorted(wells) for timepoint in sorted(wells[well])]
            values = [self._well_time(series, *place, expected_fields) for place in places]
            return [value for value in values if value is not None]

    def latest(
        self, series: Series, expected_fields: int = 1, *, now: datetime, timeout: timedelta
    ) -> dict[str, WellTime]:
        """The value of each well that stands at `now`.

        That is its newest time point at which every expected field has committed, or whose first frame was committed
        `timeout` ago; time points of which every frame is excluded are passed over. A well with none is left out.
        """
        found: dict[str, WellTime] = {}
        with self._lock:
            for well, times in self._book(series).wells.items():
                for timepoint in sorted(times, reverse=True):
                    value = self._well_time(series, well, timepoint, expected_fields)
                    if value is None:
                        continue
                    settled = value.complete or now - value.committed_at >= timeout
                    if settled and value.fields_present > value.fields_excluded:
                        found[well] = value
                        break
        return found

    def units(self, series: Series) -> list[Unit]:
        """Every slot of a series that has a frame, in order."""
        with self._lock:
            book = self._book(series)
            return [_unit(series, book, slot) for slot in sorted(book.sizes)]

    def dropped(self, series: Series, slot: int) -> frozenset[str]:
        """The tiers of a slot that retention has deleted."""
        return self._book(series).dropped.get(slot, frozenset())

    def is_lost(self, key: FrameKey, revision: int) -> bool:
        """Whether a committed revision's chunks were found damaged: its files are to be done again."""
        with self._lock:
            row = self._entries.find(key.series, key.well, key.timepoint, key.field, revision)
            return row != NONE and self._entries.frames[row].lost

    def is_gone(self, series: Series) -> bool:
        """Whether a whole plate was deleted by retention, and has not begun anew."""
        return series in self._entries.gone and series not in self._entries.back

    def was_deleted(self, series: Series, mtime_ns: int) -> bool:
        """Whether a file of this date belongs to a plate that was deleted: it is not to be done again.

        One that is newer than all that the plate was made from begins the plate anew.
        """
        return mtime_ns <= self._entries.gone.get(series, -1)

    def _book(self, series: Series) -> Book:
        return self._entries.books.get(series) or Book()

    def _revisions(self, key: FrameKey) -> dict[int, int]:
        """The row of each committed revision of a frame."""
        frames = self._entries.frames
        last = self._book(key.series).wells.get(key.well, {}).get(key.timepoint, NONE)
        field = frames.names.find(key.field)
        return {revision: row for row, found, revision, t in frames.chain(last) if found == field and t != NONE}

    def _key(self, row: Row) -> FrameKey:
        names = self._entries.frames.names
        return FrameKey(*self._entries.series[row.series], names[row.well], names[row.field], row.timepoint)

    def _committed(self, row: Row) -> CommittedFrame:
        names, lists, files = self._entries.frames.names, self._entries.frames.lists, self._entries.files
        return CommittedFrame(
            key=self._key(row),
            revision=row.revision,
            t=row.t,
            path=names[row.path],
            acquired_at=moment(row.acquired),
            committed_at=moment(row.committed),
            n_cells=row.n_cells,
            edge=row.edge,
            outcome=names[row.outcome],
            focus=row.focus,
            files=tuple(files.ref(number) for number in range(row.first_file, row.first_file + row.files)),
            tables=lists[row.tables],
            channels=lists[row.channels],
        )

    def _well_time(self, series: Series, well: str, timepoint: int, expected_fields: int) -> WellTime | None:
        """The value of one place; None where no frame line was read of it."""
        frames, book = self._entries.frames, self._book(series)
        every = [frames[row] for row, _, _, t in frames.chain(book.wells[well][timepoint]) if t != NONE]
        if not every:
            return None
        every.reverse()  # a chain begins with the last that came
        every.sort(key=lambda row: row.revision)
        current = list({row.field: row for row in every}.values())  # of each field the highest revision
        newest = max(current, key=lambda row: (row.committed, frames.names[row.field]))
        counted = [frames.names[row.outcome] == "counted" for row in current]
        counts: dict[str, int] = {}
        for row, counts_here in zip(current, counted, strict=True):
            for state, cells in frames.counts(row).items() if counts_here else ():
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
            fields_excluded=len(current) - sum(counted),
            focus=median([row.focus for row in current if math.isfinite(row.focus)] or [math.nan]),
            bundle=frames.names[newest.bundle],
            committed_at=moment(min(row.committed for row in every)),
        )


def _unit(series: Series, book: Book, slot: int) -> Unit:
    dropped = book.dropped.get(slot, frozenset())
    sizes = {tier: 0 if tier in dropped else size for tier, size in zip(TIERS, book.sizes[slot], strict=True)}
    return Unit(series, slot, moment(book.newest[slot]), sizes, dropped)
