"""The ledger itself: what is done, and the well-by-time table of counts. Pure.

Lines may come in any order (plates side by side, a replay after a restart): the answers are the same, because a frame's
highest revision stands, and of a revision's calls those with the highest `seq`. The rules of a well's value are
DESIGN's, "What a count means". One thread may add while others ask.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cellvigil.data import Baseline, FrameKey
from cellvigil.ledger.design import Design
from cellvigil.ledger.entries import Entries
from cellvigil.ledger.packed import NONE, Row, moment
from cellvigil.ledger.series import Book
from cellvigil.ledger.signals import Signals, shift, shifts, signals
from cellvigil.ledger.values import (
    TIERS,
    CalledBy,
    CommittedFrame,
    FileNote,
    Series,
    Shift,
    Unit,
    WellTime,
)
from cellvigil.ledger.wells import well_time


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

    def frames(self, series: Series, well: str | None = None) -> list[CommittedFrame]:
        """Every committed revision of a series, or of one of its wells, ordered by slot, then well and field, then
        revision.
        """
        with self._lock:
            frames = self._entries.frames
            wells = self._book(series).wells
            asked = wells.values() if well is None else [wells.get(well, {})]
            lasts = [last for times in asked for last in times.values()]
            rows = [row for last in lasts for row, _, _, t in frames.chain(last) if t != NONE]
            found = [self._committed(frames[row]) for row in rows]
        return sorted(found, key=lambda frame: (frame.t, frame.key, frame.revision))

    def last_commit(self, series: Series, slot: int | None = None) -> datetime | None:
        """When the last frame of a series, or of one of its slots, was committed; None if it has none. Cheap."""
        with self._lock:
            newest = self._book(series).newest
            found = max(newest.values(), default=None) if slot is None else newest.get(slot)
            return None if found is None else moment(found)

    def last_frame(self, series: Series) -> CommittedFrame | None:
        """The frame of a series that was committed last; None if it has none. Cheap."""
        with self._lock:
            number = self._book(series).last[1]
            return None if number == NONE else self._committed(self._entries.frames[number])

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

    def signals(self, series: Series) -> Signals:
        """How bright the channels of a series are that are not segmented: channel -> (well, timepoint) -> fields.

        A histogram a field of view, of its newest revision, in the fields' order: `histogram.unpacked` reads it. Frames
        that are left out of the counts have theirs too: what leaves them out is seen in the segmented channel.
        """
        found: Signals = {}
        with self._lock:
            wells = list(self._book(series).wells) if self._entries.signals else []
        for well in wells:  # well by well, since a commit waits for the lock
            with self._lock:
                for channel, frames in signals(self._entries, series, well).items():
                    found.setdefault(channel, {}).update(frames)
        return found

    def shifts(self, series: Series) -> dict[tuple[str, int], float]:
        """How far a well had moved when the plate came back: (well, first time point after it) -> share of the side.

        The largest of its fields that could be told, since the plate moves as one; NaN where none could.
        """
        with self._lock:
            return shifts(self._book(series))

    def shift(self, series: Series, well: str) -> dict[tuple[int, str], Shift]:
        """What was said of each field of a well, withdrawn or not: by (timepoint, field)."""
        with self._lock:
            return shift(self._book(series), well)

    def baseline(self, series: Series) -> Baseline | None:
        """What the series' first frames fixed, or None if that is still to come."""
        entry = self._book(series).baseline
        return None if entry is None else entry[1]

    def design(self, series: Series) -> Design | None:
        """The plate map and events that were last in use for a series; None if none were ever recorded."""
        entry = self._book(series).design
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
            values = [well_time(self._entries, series, *place, expected_fields) for place in places]
            return [value for value in values if value is not None]

    def places(self, series: Series) -> list[tuple[str, int]]:
        """Every well and time point of a series that a line spoke of, by well, then time."""
        with self._lock:
            wells = self._book(series).wells
            return [(well, timepoint) for well in sorted(wells) for timepoint in sorted(wells[well])]

    def well_time(self, series: Series, well: str, timepoint: int, expected_fields: int = 1) -> WellTime | None:
        """One well at one time point, as `well_times` has it; None where there is no frame."""
        with self._lock:
            return well_time(self._entries, series, well, timepoint, expected_fields)

    def changed(self, since: int) -> tuple[int, list[tuple[Series, str, int]]]:
        """What changed since `since`, a number that this gave before (0: since ever), and the number of now.

        Each place (series, well, timepoint) is named once. ("", -1) as well and time point: something of the whole
        plate, its index, its baseline, or that it is gone. A place may be named that is not there (any more).
        """
        with self._lock:
            entries = self._entries
            touched = dict.fromkeys(entries.touched[since:])
            rows = [entries.frames[number] for number in touched if number >= 0]
            whole = [(entries.series[-1 - number], "", NONE) for number in touched if number < 0]
            places = [(entries.series[row.series], entries.frames.names[row.well], row.timepoint) for row in rows]
            return len(entries.touched), [*whole, *dict.fromkeys(places)]

    def called_last(self, series: Series) -> CalledBy | None:
        """The index that made the newest calls of a series; None before there is one."""
        with self._lock:
            return self._entries.bundles.get((series, self._book(series).called[1]))

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
                    value = well_time(self._entries, series, well, timepoint, expected_fields)
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


def _unit(series: Series, book: Book, slot: int) -> Unit:
    dropped = book.dropped.get(slot, frozenset())
    sizes = {tier: 0 if tier in dropped else size for tier, size in zip(TIERS, book.sizes[slot], strict=True)}
    return Unit(series, slot, moment(book.newest[slot]), sizes, dropped)
