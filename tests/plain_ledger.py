"""The ledger the obvious way, an object a frame: what the packed one is held against.

Lines may come in any order (plates side by side, a replay after a restart): the answers are the same, because a frame's
highest revision stands, and of a revision's calls those with the highest `seq`. The rules of a well's value are
DESIGN's, "What a count means". One thread may add while others ask.
"""

from __future__ import annotations

import math
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from cellvigil.data import Baseline, FileRef, FrameKey
from cellvigil.ledger.values import (
    TIERS,
    CalledBy,
    CommittedFrame,
    FieldCounts,
    FileNote,
    Series,
    Unit,
    WellTime,
    committed_frame,
    key_of,
    series_of,
)


@dataclass(slots=True, eq=False)
class _Book:
    """What is known of one series."""

    wells: dict[str, dict[int, dict[str, dict[int, CommittedFrame]]]] = field(default_factory=dict)
    fields: dict[str, set[str]] = field(default_factory=dict)
    calls: dict[tuple[FrameKey, int], tuple[int, str, dict[str, int]]] = field(default_factory=dict)
    certainty: dict[tuple[FrameKey, int], Mapping[str, float]] = field(default_factory=dict)
    baseline: tuple[int, Baseline] | None = None
    ordinals: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)  # -> (seq, timepoint)
    sizes: dict[int, list[int]] = field(default_factory=dict)  # slot -> bytes by tier, in the order of TIERS
    newest: dict[int, datetime] = field(default_factory=dict)  # slot -> last commit
    dropped: dict[int, frozenset[str]] = field(default_factory=dict)  # slot -> tiers that are gone
    lost: set[tuple[FrameKey, int]] = field(default_factory=set)  # revisions whose chunks are damaged


class PlainLedger:
    """The state of a store, from its journals' lines. `add` takes them; everything else only asks."""

    def __init__(self) -> None:
        self._books: dict[Series, _Book] = {}
        self._files: dict[tuple[str, str], FileNote] = {}
        self._seqs: dict[tuple[str, str], int] = {}  # of the line that told each
        self._bundles: dict[tuple[Series, str], CalledBy] = {}
        self._told: dict[tuple[Series, str], list[Mapping[str, Any]]] = {}  # every line of an index
        self._gone: set[Series] = set()
        self._lock = threading.RLock()
        self._takers: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "frame": self._frame,
            "calls": self._calls,
            "baseline": self._baseline,
            "bundle": self._bundle,
            "files": self._touched,
            "attached": self._attached,
            "dropped": self._dropped,
            "lost": self._lost,
            "gone": self._leave,
        }

    def add(self, line: Mapping[str, Any]) -> None:
        """Take one good journal line. Kinds that say nothing to the ledger are passed over."""
        taker = self._takers.get(line.get("kind", ""))
        if taker is not None:
            with self._lock:
                taker(line)

    def series(self) -> tuple[Series, ...]:
        """Every series that has a baseline or a frame, sorted."""
        with self._lock:
            return tuple(sorted(name for name, book in self._books.items() if book.baseline or book.wells))

    def is_done(self, source: str, path: str, size: int, mtime_ns: int) -> bool:
        """Whether this file, as it is now listed, is in the store already."""
        note = self._files.get((source, path))
        return note is not None and note.ref.size == size and note.ref.mtime_ns == mtime_ns

    def file(self, source: str, path: str) -> FileNote | None:
        """The last that was read of a file, or None if it never was."""
        return self._files.get((source, path))

    def revision(self, key: FrameKey) -> int:
        """The highest committed revision of a frame; -1 if it has none."""
        with self._lock:
            return max(self._revisions(key), default=-1)

    def frame(self, key: FrameKey, revision: int | None = None) -> CommittedFrame | None:
        """One committed revision of a frame (the highest by default), or None."""
        with self._lock:
            revisions = self._revisions(key)
            return revisions.get(max(revisions, default=-1) if revision is None else revision)

    def frames(self, series: Series) -> list[CommittedFrame]:
        """Every committed revision of a series, ordered by slot, then well and field, then revision."""
        with self._lock:
            times = [time for well in self._book(series).wells.values() for time in well.values()]
            found = [frame for time in times for revisions in time.values() for frame in revisions.values()]
        return sorted(found, key=lambda frame: (frame.t, frame.key, frame.revision))

    def calls(self, key: FrameKey, revision: int) -> tuple[str, Mapping[str, int]] | None:
        """The current calls of a committed revision: the index's sha256, and cells a state. None if there are none."""
        entry = self._book(key.series).calls.get((key, revision))
        return None if entry is None else entry[1:]

    def bundle(self, series: Series, sha256: str) -> CalledBy | None:
        """What a series' journal says of an index."""
        return self._bundles.get((series, sha256))

    def bundles(self, series: Series) -> list[CalledBy]:
        """Every index that called cells of a series."""
        with self._lock:
            return [entry for (of, _), entry in self._bundles.items() if of == series]

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
            return [self._well_time(series, *place, expected_fields) for place in places]

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
                    settled = value.complete or now - value.committed_at >= timeout
                    if settled and value.fields_present > value.fields_excluded:
                        found[well] = value
                        break
        return found

    def units(self, series: Series) -> list[Unit]:
        """Every slot of a series that has a frame, in order."""
        with self._lock:
            book = self._book(series)
            return [
                Unit(
                    series,
                    slot,
                    book.newest[slot],
                    {
                        tier: 0 if tier in book.dropped.get(slot, ()) else size
                        for tier, size in zip(TIERS, sizes, strict=True)
                    },
                    book.dropped.get(slot, frozenset()),
                )
                for slot, sizes in sorted(book.sizes.items())
            ]

    def dropped(self, series: Series, slot: int) -> frozenset[str]:
        """The tiers of a slot that retention has deleted."""
        return self._book(series).dropped.get(slot, frozenset())

    def is_lost(self, key: FrameKey, revision: int) -> bool:
        """Whether a committed revision's chunks were found damaged: its files are to be done again."""
        return (key, revision) in self._book(key.series).lost

    def is_gone(self, series: Series) -> bool:
        """Whether a whole plate was deleted by retention: its files are not to be done again."""
        return series in self._gone

    def last_commit(self, series: Series) -> datetime | None:
        """When the last frame of a series was committed."""
        return max((frame.committed_at for frame in self.frames(series)), default=None)

    def _book(self, series: Series) -> _Book:
        return self._books.get(series) or _Book()

    def _revisions(self, key: FrameKey) -> Mapping[int, CommittedFrame]:
        times = self._book(key.series).wells.get(key.well, {})
        return times.get(key.timepoint, {}).get(key.field, {})

    def _well_time(self, series: Series, well: str, timepoint: int, expected_fields: int) -> WellTime:
        book = self._book(series)
        every = book.wells[well][timepoint]
        current = [revisions[max(revisions)] for revisions in every.values()]
        newest = max(current, key=lambda frame: (frame.committed_at, frame.key.field))
        counts: dict[str, int] = {}
        for frame in current:
            _, _, states = book.calls.get((frame.key, frame.revision), (0, "", {}))
            for state, cells in states.items() if frame.outcome == "counted" else ():
                counts[state] = counts.get(state, 0) + cells
        expected = max(expected_fields, len(book.fields[well]))
        return WellTime(
            series=series,
            well=well,
            timepoint=timepoint,
            acquired_at=_median([frame.acquired_at for frame in current]),
            counts=counts,
            fields_present=len(current),
            fields_missing=expected - len(current),
            fields_excluded=sum(frame.outcome != "counted" for frame in current),
            focus=median([frame.focus for frame in current if math.isfinite(frame.focus)] or [math.nan]),
            bundle=book.calls.get((newest.key, newest.revision), (0, "", {}))[1],
            committed_at=min(frame.committed_at for revisions in every.values() for frame in revisions.values()),
            fields=tuple(
                FieldCounts(
                    frame.key.field,
                    book.calls.get((frame.key, frame.revision), (0, "", {}))[2],
                    frame.outcome == "counted",
                    frame.focus,
                )
                for frame in sorted(current, key=lambda frame: frame.key.field)
            ),
            probability=self._mean(book, current, "probability", "rated"),
            novel=self._mean(book, current, "novel", "tested"),
            typical=self._mean(book, current, "typical", "tested", missing="tested"),
            agreement=self._mean(book, current, "agreement", "voted"),
        )

    def _mean(self, book: _Book, current: list[CommittedFrame], part: str, whole: str, missing: str = "") -> float:
        sure = [book.certainty[(f.key, f.revision)] for f in current if f.outcome == "counted"]
        sums = [
            struct.unpack("f", struct.pack("f", one.get(part, one.get(missing, 0))))[0] for one in sure
        ]  # kept in single precision
        cells = sum(one.get(whole, 0) for one in sure)
        return sum(sums) / cells if cells else math.nan

    def _frame(self, line: Mapping[str, Any]) -> None:
        frame = committed_frame(line)
        key = frame.key
        if frame.revision in self._revisions(key):
            return  # told a second time
        book = self._books.setdefault(key.series, _Book())
        book.wells.setdefault(key.well, {}).setdefault(key.timepoint, {}).setdefault(key.field, {})[frame.revision] = (
            frame
        )
        book.fields.setdefault(key.well, set()).add(key.field)
        self._calls(line, key)
        self._weigh(book, line)
        book.newest[frame.t] = max(book.newest.get(frame.t, frame.committed_at), frame.committed_at)
        number = int(line.get("number", -1))
        if number != -1:
            sighting = (sys.intern(line.get("folder", "")), number)
            book.ordinals[sighting] = max(book.ordinals.get(sighting, (0, 0)), (line["seq"], key.timepoint))
        for ref in frame.files:
            self._note(FileNote(ref, key, frame.revision, frame.committed_at), line["seq"])

    def _touched(self, line: Mapping[str, Any]) -> None:
        """Files of a committed frame with a new date and the same bytes."""
        key, at = key_of(line["key"]), datetime.fromisoformat(line["committed_at"])
        for path, size, mtime_ns, digest in line["files"]:
            self._note(FileNote(FileRef(path, size, mtime_ns, digest), key, int(line["revision"]), at), line["seq"])

    def _attached(self, line: Mapping[str, Any]) -> None:
        """Channels that came after their frame."""
        key, revision = key_of(line["key"]), int(line["revision"])
        at = datetime.fromisoformat(line["committed_at"])
        frame = self._revisions(key).get(revision)
        if frame is None or frame.t != int(line["t"]):
            return
        if set(line["channels"]) <= set(frame.channels):
            return  # told a second time
        fresh = tuple(FileRef(*parts) for parts in line["files"])
        book = self._books[key.series]
        book.wells[key.well][key.timepoint][key.field][revision] = replace(
            frame,
            files=tuple({ref.path: ref for ref in (*frame.files, *fresh)}.values()),
            channels=tuple(dict.fromkeys((*frame.channels, *line["channels"]))),
        )
        self._weigh(book, line)
        for ref in fresh:
            self._note(FileNote(ref, key, revision, at), line["seq"])

    def _weigh(self, book: _Book, line: Mapping[str, Any]) -> None:
        sizes = book.sizes.setdefault(int(line["t"]), [0] * len(TIERS))
        for place, tier in enumerate(TIERS):
            sizes[place] += int(line.get("bytes", {}).get(tier, 0))

    def _dropped(self, line: Mapping[str, Any]) -> None:
        book = self._books.setdefault(series_of(line["series"]), _Book())
        slot = int(line["t"])
        book.dropped[slot] = book.dropped.get(slot, frozenset()) | frozenset(line["tiers"])

    def _lost(self, line: Mapping[str, Any]) -> None:
        key, revision = key_of(line["key"]), int(line["revision"])
        self._books.setdefault(key.series, _Book()).lost.add((key, revision))
        for note in [n for n in self._files.values() if (n.key, n.revision) == (key, revision)]:
            del self._files[(key.source, note.ref.path)]

    def _leave(self, line: Mapping[str, Any]) -> None:
        self._gone.add(series_of(line["series"]))

    def _note(self, note: FileNote, seq: int) -> None:
        if self.is_lost(note.key, note.revision):
            return
        place = (note.key.source, note.ref.path)
        known = self._files.get(place)
        if known is not None:
            if known.key.series == note.key.series and self._seqs[place] > seq:
                return
            if known.key.series != note.key.series and known.committed_at > note.committed_at:
                return
        self._files[place], self._seqs[place] = note, seq

    def _calls(self, line: Mapping[str, Any], key: FrameKey | None = None) -> None:
        key = key or key_of(line["key"])
        calls = self._books.setdefault(key.series, _Book()).calls
        place = (key, int(line["revision"]))
        if place not in calls or calls[place][0] < line["seq"]:
            counts = {sys.intern(state): int(cells) for state, cells in line["counts"].items()}
            calls[place] = (line["seq"], sys.intern(line["bundle"]), counts)
            self._books[key.series].certainty[place] = line.get("certainty", {})

    def _baseline(self, line: Mapping[str, Any]) -> None:
        book = self._books.setdefault(series_of(line["series"]), _Book())
        if book.baseline is None or book.baseline[0] < line["seq"]:
            low, high = line["intensity"]
            channels = {name: tuple(map(float, limits)) for name, limits in line.get("channels", {}).items()}
            book.baseline = (line["seq"], Baseline((float(low), float(high)), float(line["focus"]), channels))

    def _bundle(self, line: Mapping[str, Any]) -> None:
        told = self._told.setdefault((series_of(line["series"]), line["sha256"]), [])
        told.append(line)
        ways = {str(one["confusion"]): one["confusion"] for one in told if one.get("confusion")}
        mixed = len(ways) > 1 or any(one.get("confusion_overridden") for one in told)
        rows = None
        if ways and not mixed:
            (way,) = ways.values()
            rows = tuple(tuple(n / e for n in row) for row, e in zip(way["counts"], way["effects"], strict=True))
        first = told[0]
        self._bundles[(series_of(first["series"]), first["sha256"])] = CalledBy(
            first["sha256"], tuple(first["classes"]), dict(first["groups"]), first["table"], rows, mixed
        )


def _median(times: list[datetime]) -> datetime:
    first = min(times)
    return first + timedelta(seconds=median((time - first).total_seconds() for time in times))
