"""The store: where a frame's record is committed, exactly once, and stays readable by OME-Zarr tools at every instant.

One process writes a store (`lock`); any number may read it. The order of writing and its crash argument stand in
`commit.commit`; what a crash leaves is mended in `recover`. Layout and figures: reference/store.md.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.data import Array, Baseline, Calls, FileRef, FrameKey, Record
from cellvigil.errors import StoreError
from cellvigil.journal import Line
from cellvigil.ledger import CommittedFrame, Ledger, Series
from cellvigil.store import columns, encode, names
from cellvigil.store.commit import commit
from cellvigil.store.fit import SourcePlan, check_cells, fitting_geometry
from cellvigil.store.layout import Geometry
from cellvigil.store.lock import StoreLock
from cellvigil.store.place import Place, begin, list_fields, prepare
from cellvigil.store.plate import FEATURES_TABLE, Table, canonical, geometry_line
from cellvigil.store.publish import grow
from cellvigil.store.recover import FORMAT, Opened, Recovery, plate_folders, recover
from cellvigil.store.rows import read_table

_ANY = 10**9
"""A time point later than all: no round is waited for any longer."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A frame that is in the store."""

    key: FrameKey
    t: int  # its slot in the plate's arrays
    revision: int
    line: Mapping[str, Any]  # the journal line that committed it; {} if it was committed before


def _utc_now() -> datetime:
    return datetime.now(UTC)


def open_store(
    path: Path,
    *,
    now: Callable[[], datetime] = _utc_now,
    embeddings: bool = True,
    plans: Mapping[str, SourcePlan] | None = None,
) -> Store:
    """Open (or begin) the store in folder `path` for writing, mending what a crash left of any plate.

    `now` gives the commit times (aware). `embeddings`: whether cells' embeddings are kept. `plans`: what is known
    beforehand of each source, by its name. Raises StoreError if another process writes this store, or the disk fails.
    """
    lock = StoreLock(path)
    try:
        ledger = Ledger()
        with _nothing_collected():
            opened = [recover(path, folder, ledger.add) for folder in plate_folders(path)]
        return Store(path, lock, ledger, opened, now=now, embeddings=embeddings, plans=plans or {})
    except BaseException:
        lock.release()
        raise


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """No garbage collection meanwhile: a ledger of 100,000 frames is all kept, and walking it took half the start."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Store:
    """An open store. Made by `open_store`; every method may be called from any thread, one works at a time."""

    def __init__(
        self,
        path: Path,
        lock: StoreLock,
        ledger: Ledger,
        opened: Sequence[Opened],
        *,
        now: Callable[[], datetime],
        embeddings: bool,
        plans: Mapping[str, SourcePlan],
    ) -> None:
        self.path = path
        self.ledger = ledger
        self.recovered: tuple[Recovery, ...] = tuple(one.recovery for one in opened if not one.recovery.clean)
        self._store_lock = lock
        self._now = now
        self._embeddings = embeddings
        self._plans = plans
        self._one_at_a_time = threading.RLock()
        # What a crash kept from readers is theirs when this session ends, though nothing more is written to the plate.
        self._places = {
            one.folder: Place(one.folder, one.journal, one.plate, touched=one.plate.settled(_ANY) > one.plate.times)
            for one in opened
        }

    def append(self, record: Record, *, folder: str = "", number: int = -1) -> Committed:
        """Commit one frame: when this returns, it is on the disk, whatever happens next.

        `folder` and `number`: the sighting that the frame's time point came from (`Ledger.ordinals` gives them back).
        A revision that is committed already is not written again if its files are the same. Raises
        BadFile("geometry_changed" | "too_many_cells" | "wrong_type") before anything is written, and StoreError if
        the disk fails: then the frame is not committed, and may be tried again.
        """
        with self._one_at_a_time:
            if (before := self._committed_before(record)) is not None:
                return before
            key = record.frame.key
            place = self._place(key.series)
            geometry = fitting_geometry(record.frame, place.plate.geometry, self._plans.get(key.source, SourcePlan()))
            check_cells(record)
            rows = encode.row_tables(record, place.plate, embeddings=self._embeddings)
            self._introduce(place, record, geometry, [table for table, _ in rows])
            line = self._commit(place, record, rows, {"folder": folder, "number": number})
            with contextlib.suppress(StoreError):  # the frame is committed: `publish` lists it later, or tells
                list_fields(place)
            return Committed(key, int(line["t"]), record.revision, line)

    def append_calls(
        self, frame: CommittedFrame, calls: Calls, classes: tuple[str, ...], groups: Mapping[str, str]
    ) -> None:
        """Add another index's calls of a committed frame's cells; they become the current ones, the old ones stay.

        Raises ValueError if `calls` are not one a cell, StoreError if the disk fails.
        """
        with self._one_at_a_time:
            if len(calls) != frame.n_cells:
                raise ValueError(f"{len(calls)} calls for {frame.n_cells} cells of {frame.key}")
            place = self._place(frame.key.series)
            one = place.plate.place(frame.key)
            table, rows = encode.calls_block(place.plate, calls, classes)
            self._announce(place, calls, (classes, groups), [table])
            prepare(place, one, [table])
            edge = read_table(place.folder / one.path, FEATURES_TABLE, frame.t, frame.n_cells)["touches_edge"] > 0
            chunk = encode.table_chunk(place.folder, one, frame.t, table.name, rows)
            counts = columns.state_counts(calls, ~edge, classes)
            line = encode.calls_line(frame, one, table, counts=counts, committed_at=self._now())
            self._take(place, commit([chunk] if frame.n_cells else [], place.journal, [line]))

    def channels(self, series: Series) -> tuple[str, ...] | None:
        """The channels that a series' plate can hold; None before its first frame."""
        with self._one_at_a_time:
            geometry = self._place(series).plate.geometry
            return None if geometry is None else geometry.channels

    def note_files(self, key: FrameKey, files: Sequence[FileRef]) -> None:
        """Journal that the files of a committed frame were touched and hold the same bytes. Raises StoreError."""
        with self._one_at_a_time:
            line = {
                "kind": "files",
                "key": [*key.series, key.well, key.field, key.timepoint],
                "revision": self.ledger.revision(key),
                "files": [[ref.path, ref.size, ref.mtime_ns, ref.digest] for ref in files],
                "committed_at": encode.utc(self._now()),
            }
            place = self._place(key.series)
            self._take(place, place.journal.append([line]))

    def set_baseline(self, series: Series, baseline: Baseline) -> None:
        """Fix what a series' first frames measured; the last one set stands. Raises StoreError."""
        with self._one_at_a_time:
            low, high = baseline.intensity
            line = {
                "kind": "baseline",
                "series": list(series),
                "intensity": [float(low), float(high)],
                "focus": float(baseline.focus),
                "committed_at": encode.utc(self._now()),
            }
            place = self._place(series)
            self._take(place, place.journal.append([line]))

    def baseline(self, series: Series) -> Baseline | None:
        """What `set_baseline` fixed, in this run or an earlier one; None if nothing yet."""
        return self.ledger.baseline(series)

    def publish(self, series: Series, *, overdue: int = -1) -> int:
        """Show every finished round to readers: all arrays of the plate grow together. Returns T, the slots shown.

        `overdue`: the latest time point that is not waited for any longer (its frame timeout has passed). Cheap when
        there is nothing to show. Raises StoreError if the disk fails: nothing committed is lost, call it again.
        """
        with self._one_at_a_time:
            place = self._place(series)
            list_fields(place)
            return grow(place.folder, place.plate, place.plate.settled(overdue))

    def close(self) -> None:
        """Show everything that is committed, and give the store up. Closing twice does nothing. Raises StoreError."""
        with self._one_at_a_time:
            try:
                for place in self._places.values():
                    if place.touched and self._store_lock.held:
                        list_fields(place)
                        grow(place.folder, place.plate, place.plate.settled(_ANY))
            finally:
                self._store_lock.release()

    def _committed_before(self, record: Record) -> Committed | None:
        known = self.ledger.frame(record.frame.key, record.revision)
        if known is None:
            return None
        if {ref.digest for ref in known.files} != {ref.digest for ref in record.frame.files}:
            raise StoreError(
                f"{known.key} revision {known.revision} is in the store with other files",
                where=self.path,
                hint=f"commit it as revision {self.ledger.revision(known.key) + 1}",
            )
        return Committed(known.key, known.t, known.revision, {})

    def _place(self, series: Series) -> Place:
        """The plate of a series, begun on the disk if it is new."""
        if not self._store_lock.held:
            raise StoreError("the store is closed", where=self.path)
        source, experiment, plate = (names.segment(name) for name in series)
        folder = self.path / source / experiment / f"{plate}.zarr"
        if (place := self._places.get(folder)) is None:
            place = self._places[folder] = begin(self.path, folder)
        if not any(place.plate.series):
            self._take(place, place.journal.append([{"kind": "plate", "format": FORMAT, "series": list(series)}]))
        if place.plate.series != series:
            raise StoreError(
                f"{place.plate.series} and {series} have one folder", where=folder, hint="rename one of them"
            )
        return place

    def _introduce(self, place: Place, record: Record, geometry: Geometry, tables: list[Table]) -> None:
        """Journal what a record relies on and the plate does not know yet; rare, so a commit of its own."""
        if place.plate.geometry is None:
            entry = {**geometry_line(geometry), "series": list(place.plate.series)}
            self._take(place, place.journal.append([entry]))
        self._announce(place, record.calls, (record.classes, record.groups), tables, record.provenance)

    def _announce(
        self,
        place: Place,
        calls: Calls,
        index: tuple[tuple[str, ...], Mapping[str, str]],
        tables: list[Table],
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        lines = encode.table_lines(place.plate, tables)
        if self.ledger.bundle(place.plate.series, calls.bundle_sha256) is None:
            lines.append(encode.bundle_line(calls, *index))
        if provenance is not None:
            lines += encode.setting_lines(place.plate, provenance)
        lines = [{**line, "series": list(place.plate.series)} for line in lines]
        if lines:
            self._take(place, place.journal.append(lines))

    def _commit(
        self, place: Place, record: Record, rows: Sequence[tuple[Table, Array]], sighting: Mapping[str, Any]
    ) -> Line:
        plate, key = place.plate, record.frame.key
        one, slot = plate.place(key), plate.slot(key.timepoint, record.revision)
        tables = [table for table, _ in rows]
        prepare(place, one, tables)
        setting = plate.settings[canonical(record.provenance)]
        chunks = encode.frame_chunks(place.folder, one, slot, record, plate.known_geometry)
        chunks += [encode.table_chunk(place.folder, one, slot, table.name, block) for table, block in rows]
        entry = encode.frame_line(record, one, slot, setting=setting, tables=tables, committed_at=self._now())
        entry |= sighting
        if (older := self.ledger.frame(key)) is not None and older.revision < record.revision:
            entry["supersedes"] = older.t
        [line] = commit(chunks, place.journal, [entry])
        self._take(place, [line])
        return line

    def _take(self, place: Place, lines: list[Line]) -> None:
        place.touched = True
        for line in lines:
            place.plate.apply(line)
            self.ledger.add(line)
