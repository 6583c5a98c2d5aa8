"""Journal lines folded into packed lists: the taking half of the ledger. Pure, and not safe for threads by itself.

Lines may come in any order and more than once: of a revision's calls those with the highest `seq` stand, a frame line
counts once, and what is attached to a frame before its line is read waits for it.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cellvigil.data import Baseline
from cellvigil.histogram import packed, read_line
from cellvigil.ledger.design import design_of
from cellvigil.ledger.packed import BLANK, CALLS, NONE, Files, Frames, Numbered, Row, micros
from cellvigil.ledger.series import Book
from cellvigil.ledger.values import CalledBy, Series, Shift, called_by, joined, series_of

Line = Mapping[str, Any]

_EVER = 2**63 - 1  # later than any file's date


class Entries:
    """What the lines said so far. `take` adds; the ledger reads the rest as it needs."""

    def __init__(self) -> None:
        self.books: dict[Series, Book] = {}
        self.series: Numbered[Series] = Numbered()
        self.frames = Frames()
        self.files = Files()
        self.last_of: dict[str, dict[str, int]] = {}  # source -> path -> the last that was read of that file
        self.bundles: dict[tuple[Series, str], CalledBy] = {}
        self.signals: dict[str, dict[int, bytes]] = {}  # channel -> row -> packed histogram
        self.gone: dict[Series, int] = {}  # deleted plates -> the date (mtime_ns) of the newest of their files
        self.back: set[Series] = set()  # deleted plates that began anew
        self.touched = array("i")  # rows, in the order in which something of them changed; -1 - n: of all of series n
        self._anew: dict[int, int] = {}  # number of a deleted plate's series -> files known when it was deleted
        self._early: dict[int, list[Line]] = {}  # what was attached to a row that has no frame line yet
        self._takers: Mapping[str, Callable[[Line], None]] = {
            "frame": self._frame,
            "calls": self._calls,
            "baseline": self._baseline,
            "bundle": self._bundle,
            "design": self._design,
            "shift": self._shift,
            "files": self._touched,
            "attached": self._attached,
            "dropped": self._dropped,
            "lost": self._lost,
            "gone": self._leave,
            "returned": self._return,
        }

    def take(self, line: Line) -> None:
        """Take one good journal line. Kinds that say nothing here are passed over."""
        taker = self._takers.get(line.get("kind", ""))
        if taker is not None:
            taker(line)

    def find(self, series: Series, well: str, timepoint: int, name: str, revision: int) -> int:
        """The row of one revision of a frame, or NONE; there may be no frame line in it yet."""
        book = self.books.get(series)
        last = NONE if book is None else book.wells.get(well, {}).get(timepoint, NONE)
        number = self.frames.names.find(name)
        for row, found, at, _ in self.frames.chain(last):
            if found == number and at == revision:
                return row
        return NONE

    def _book(self, series: Series) -> Book:
        book = self.books.get(series)
        if book is None:
            book = self.books[series] = Book(self.series.number(series))
        return book

    def _place(self, line: Line) -> tuple[Book, int, Row]:
        """The book, the row's number and the row that a line speaks of; NONE and a row that says nothing yet if new."""
        source, experiment, plate, well, name, timepoint = line["key"]
        series = (source, experiment, plate)
        book = self.books.get(series) or self._book(series_of([*series]))
        timepoint, revision, field_number = int(timepoint), int(line["revision"]), self.frames.names.number(name)
        last = book.wells.setdefault(well, {}).get(timepoint, NONE)
        for row, found, at, _ in self.frames.chain(last):
            if found == field_number and at == revision:
                return book, row, self.frames[row]
        well_number = self.frames.names.number(well)
        fresh = Row(field_number, revision, last, *BLANK[3:-4], book.number, well_number, timepoint, lost=False)
        return book, NONE, fresh

    def _keep(self, book: Book, number: int, row: Row) -> int:
        """Put a row in its place, or behind the others if its number is NONE; returns its number."""
        if number != NONE:
            self.frames[number] = row
        else:
            number = self.frames.append(row)
            book.wells[self.frames.names[row.well]][row.timepoint] = number
        self.touched.append(number)
        return number

    def _frame(self, line: Line) -> None:
        book, number, known = self._place(line)
        if known.t != NONE:  # told a second time
            return
        committed, slot = micros(line["committed_at"]), int(line["t"])
        focus = line["quality"]["focus"]
        names, lists, files = self.frames.names, self.frames.lists, line["files"]
        calls = tuple(known)[CALLS] if known.seq >= line["seq"] else self._calls_of(line)
        row = Row._make(
            (
                known.field,
                known.revision,
                known.before,
                slot,
                names.number(line["path"]),
                micros(line["acquired_at"]),
                committed,
                int(line["n_cells"]),
                int(line["edge"]),
                names.number(line["outcome"]),
                math.nan if focus is None else float(focus),
                lists.number(tuple(line["tables"])),
                lists.number(tuple(line.get("channels", ()))),
                len(self.files),
                len(files),
                *calls,
                known.series,
                known.well,
                known.timepoint,
                known.lost,
            )
        )
        number = self._keep(book, number, row)
        for parts in files:
            self._note(parts, line, number, row)
        book.fields.setdefault(line["key"][3], set()).add(line["key"][4])
        book.weigh(line)
        book.newest[slot] = max(book.newest.get(slot, committed), committed)
        book.called = max(book.called, (line["seq"], line["bundle"]))
        book.last = max(book.last, (line["seq"], number))
        self._sighted(book, line)
        self._keep_signals(line, number)
        for early in self._early.pop(number, ()):
            self._attached(early)

    def _sighted(self, book: Book, line: Line) -> None:
        number = int(line.get("number", -1))
        if number != -1:
            sighting = (sys.intern(line.get("folder", "")), number)
            book.ordinals[sighting] = max(book.ordinals.get(sighting, (0, 0)), (line["seq"], int(line["key"][5])))

    def _touched(self, line: Line) -> None:
        """Files of a committed frame with a new date and the same bytes."""
        book, number, known = self._place(line)
        number = self._keep(book, number, known)
        at = known._replace(committed=micros(line["committed_at"]))
        for parts in line["files"]:
            self._note(parts, line, number, at)

    def _attached(self, line: Line) -> None:
        """Channels that came after their frame."""
        book, number, known = self._place(line)
        number = self._keep(book, number, known)
        if known.t == NONE:
            self._early.setdefault(number, []).append(line)
            return
        if int(line["t"]) != known.t:
            return  # of the slot whose frame line went bad: the frame was done again, without it, in another
        channels = self.frames.lists[known.channels]
        if set(line["channels"]) <= set(channels):  # told a second time
            return
        committed = micros(line["committed_at"])
        fresh = {parts[0]: parts for parts in line["files"]}
        before = [self.files.ref(one) for one in range(known.first_file, known.first_file + known.files)]
        first = len(self.files)
        for ref in [ref for ref in before if ref.path not in fresh]:  # a frame's files stand one after another
            self.files.append((ref.path, ref.size, ref.mtime_ns, ref.digest), number, committed, line["seq"])
        for parts in fresh.values():
            self._note(parts, line, number, known._replace(committed=committed))
        every = tuple(dict.fromkeys((*channels, *line["channels"])))
        self.frames[number] = known._replace(
            channels=self.frames.lists.number(every), first_file=first, files=len(self.files) - first
        )
        book.weigh(line)
        self._keep_signals(line, number)

    def _note(self, parts: Sequence[Any], line: Line, number: int, row: Row) -> None:
        """Keep a file of a row, read when that says; as the last that was read of its path unless a later one is known.

        What goes into a lost row is not known by its path: it is to be done again.
        """
        source = line["key"][0]
        paths = self.last_of.get(source)
        if paths is None:
            paths = self.last_of[sys.intern(source)] = {}
        path = parts[0]
        known = paths.get(path)
        kept = self.files.append(parts, number, row.committed, line["seq"])
        if not (row.lost or self._is_earlier(kept, known)):
            paths[path] = kept

    def _is_earlier(self, kept: int, known: int | None) -> bool:
        """Whether a file was read before what is known of its path. A journal's own order says so, whatever the clock
        did; between two plates only the clock can.
        """
        if known is None:
            return False
        one, last = self.files[kept], self.files[known]
        series = self.frames[one.row].series
        if series != self.frames[last.row].series:
            return one.committed < last.committed
        return known >= self._anew.get(series, 0) and one.seq < last.seq

    def _keep_signals(self, line: Line, number: int) -> None:
        """How bright the channels of a row are that are not segmented; lines of an older version say nothing of it."""
        for channel, told in line.get("signals", {}).items():
            self.signals.setdefault(sys.intern(channel), {})[number] = packed(read_line(told))

    def _calls(self, line: Line) -> None:
        book, number, known = self._place(line)
        if known.seq < line["seq"]:
            self._keep(book, number, Row._make((*known[: CALLS.start], *self._calls_of(line), *known[CALLS.stop :])))
            book.called = max(book.called, (line["seq"], line["bundle"]))

    def _calls_of(self, line: Line) -> tuple[Any, ...]:
        """The part of a row that CALLS cuts out; lines of an older version say nothing of certainty."""
        sure = line.get("certainty", {})
        return (
            line["seq"],
            self.frames.names.number(line["bundle"]),
            *self.frames.keep_counts(line["counts"]),
            int(sure.get("rated", 0)),
            float(sure.get("probability", 0.0)),
            int(sure.get("tested", 0)),
            int(sure.get("novel", 0)),
            int(sure.get("typical", sure.get("tested", 0))),  # not told: nothing speaks against them
            int(sure.get("voted", 0)),
            float(sure.get("agreement", 0.0)),
        )

    def _lost(self, line: Line) -> None:
        book, number, known = self._place(line)
        self._keep(book, number, known._replace(lost=True))

    def _dropped(self, line: Line) -> None:
        book = self._book(series_of(line["series"]))
        slot = int(line["t"])
        book.dropped[slot] = book.dropped.get(slot, frozenset()) | frozenset(line["tiers"])

    def _baseline(self, line: Line) -> None:
        book = self._book(series_of(line["series"]))
        if book.baseline is None or book.baseline[0] < line["seq"]:
            low, high = line["intensity"]
            channels = {name: (float(one[0]), float(one[1])) for name, one in line.get("channels", {}).items()}
            book.baseline = (line["seq"], Baseline((float(low), float(high)), float(line["focus"]), channels))
            self.touched.append(-1 - book.number)

    def _design(self, line: Line) -> None:
        book = self._book(series_of(line["series"]))
        if book.design is None or book.design[0] < line["seq"]:
            book.design = (line["seq"], design_of(line))

    def _bundle(self, line: Line) -> None:
        entry, place = called_by(line), (series_of(line["series"]), line["sha256"])
        self.bundles[place] = joined(self.bundles[place], entry) if place in self.bundles else entry
        self.touched.append(-1 - self.series.number(place[0]))

    def _shift(self, line: Line) -> None:
        book = self._book(series_of(line["series"]))
        well, timepoint, name = sys.intern(line["well"]), int(line["timepoint"]), sys.intern(line["field"])
        fields = book.shifts.setdefault((well, timepoint), {})
        if fields.get(name, (NONE,))[0] < line["seq"]:
            share, peak = (math.nan if line[key] is None else float(line[key]) for key in ("shift", "peak"))
            fields[name] = (line["seq"], Shift(share, peak, int(line["before"]), int(line["after"])))
            self.touched.append(book.wells.get(well, {}).get(timepoint, -1 - book.number))

    def _leave(self, line: Line) -> None:
        """A whole plate was deleted: nothing of it is asked for any more, but which files were done."""
        series = series_of(line["series"])
        self.gone[series] = max(int(line.get("newest_mtime_ns", _EVER)), self.gone.get(series, 0))
        self.back.discard(series)
        self._anew[self.series.number(series)] = len(self.files)  # a journal that begins anew numbers from 1
        self.books.pop(series, None)
        number = self.series.number(series)
        for kept in self.signals.values():
            for row in [row for row in kept if self.frames[row].series == number]:
                del kept[row]
        self.touched.append(-1 - self.series.number(series))
        self.bundles = {of: entry for of, entry in self.bundles.items() if of[0] != series}

    def _return(self, line: Line) -> None:
        self.back.add(series_of(line["series"]))
