"""The store: where a frame's record is committed, exactly once, and stays readable by OME-Zarr tools at every instant.

One process writes a store (`lock`); any number may read it. The order of writing and its crash argument stand in
`commit.commit`; what a crash leaves is mended in `recover`. Layout and figures: reference/store.md.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.data import Baseline, CallConfusion, Calls, FileRef, Frame, FrameKey, Histogram, Record
from cellvigil.errors import BadFile, StoreError
from cellvigil.ledger import CommittedFrame, Ledger, Series
from cellvigil.store import gone, lines
from cellvigil.store.attaching import attach
from cellvigil.store.calling import add_calls
from cellvigil.store.filing import Committed, Filing, Group
from cellvigil.store.fit import SourcePlan
from cellvigil.store.holdings import Conflict, Holdings, Rules
from cellvigil.store.lock import StoreLock
from cellvigil.store.place import Place, list_fields
from cellvigil.store.publish import grow
from cellvigil.store.recover import Opened, Recovery, own_folders, recover

__all__ = ["Committed", "Filing", "SourcePlan", "Store", "open_store"]

_ANY = 10**9
"""A time point later than all: no round is waited for any longer."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def open_store(
    path: Path,
    *,
    now: Callable[[], datetime] = _utc_now,
    embeddings: bool = True,
    plans: Mapping[str, SourcePlan] | None = None,
    min_free_mb: float = 0.0,
) -> Store:
    """Open (or begin) the store in folder `path` for writing, mending what a crash left of any plate.

    `now` gives the commit times (aware). `embeddings`: whether cells' embeddings are kept. `plans`: what is known
    beforehand of each source, by its name. `min_free_mb`: with less room on the disk (in 1e6 bytes), every write raises
    StoreFull before anything is written. Raises StoreError if another process writes this store, or the disk fails.
    """
    lock = StoreLock(path)
    try:
        ledger = Ledger()
        gone.finish_gone(path, ledger.add)
        own, strange = own_folders(path)
        with _nothing_collected():
            opened = [recover(path, one, ledger.add, settled=lock.settled) for one in own]
        store = Store(path, lock, ledger, opened, Rules(now, embeddings, plans or {}, min_free_mb))
        store.recovered += tuple(Recovery(folder, strange=True) for folder in strange)
        return store
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
    """An open store. Made by `open_store`; every method may be called from any thread, one works at a time.

    Whatever raises StoreFull has changed nothing, and does its work when it is called again and there is room.
    """

    def __init__(self, path: Path, lock: StoreLock, ledger: Ledger, opened: Sequence[Opened], rules: Rules) -> None:
        self.path = path
        self.ledger = ledger
        self.recovered: tuple[Recovery, ...] = tuple(one.recovery for one in opened if not one.recovery.clean)
        self._store_lock = lock
        self._rules = rules
        self._one_at_a_time = threading.RLock()
        # What a crash kept from readers is theirs when this session ends, though nothing more is written to the plate.
        places = {
            one.folder: Place(one.folder, one.journal, one.plate, touched=one.plate.settled(_ANY) > one.plate.times)
            for one in opened
        }
        self._held = Holdings(path, ledger, rules, places)

    def append(self, record: Record, *, folder: str = "", number: int = -1) -> Committed:
        """Commit one frame: when this returns, it is on the disk, whatever happens next.

        `folder` and `number`: the sighting that the frame's time point came from (`Ledger.ordinals` gives them back).
        A revision that is committed already is not written again if its files are the same. Raises
        BadFile("geometry_changed" | "too_many_cells" | "wrong_type") before anything is written, and StoreError
        (StoreFull) if the disk fails: then the frame is not committed, and may be tried again.
        """
        [answer] = self.append_all([Filing(record, folder, number)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def append_all(self, filings: Sequence[Filing]) -> list[Committed | Exception]:
        """Commit several frames together, with fewer fsyncs than one by one; the answers in their order.

        A filing that does not fit (`append` would raise BadFile, ValueError, or StoreError for other files of the same
        revision) is answered with its error and costs the others nothing. Raises StoreError (StoreFull) if the disk
        fails: then none is committed, except that plates whose journal was written before stand; call it again with
        the same filings, and each is committed once and answered with the line that committed it.
        """
        with self._open():
            group = Group(self._held)
            answers: list[Committed | Exception] = []
            for filing in filings:
                try:
                    answers.append(group.add(filing))
                except (BadFile, ValueError, Conflict) as error:
                    answers.append(error)
            group.commit()
            return [self._told(answer) for answer in answers]

    def attach(
        self, frame: Frame, *, missing: Sequence[str] = (), signals: Mapping[str, Histogram] | None = None
    ) -> Committed:
        """Add channels that came after their frame was committed; when this returns, they are on the disk.

        `frame` holds only the new channels, (C, Y, X) as the plate's, and their files; `missing` are those that are
        still awaited, `signals` how bright the new ones are, by channel. They join the frame's newest revision. What is
        there already from the same files is not written again. Where retention has deleted the pixels, the files are
        noted as done and no pixel is written. Raises BadFile("geometry_changed" | "wrong_type") for channels that do
        not fit the plate, BadFile("store_damaged") if the frame's own pixels are damaged, ValueError if the frame is
        not committed or has a channel already, StoreError (StoreFull) if the disk fails.
        """
        with self._open():
            self._held.see_room()
            return attach(self._held, frame, missing, signals or {})

    def append_calls(
        self,
        frame: CommittedFrame,
        calls: Calls,
        classes: tuple[str, ...],
        groups: Mapping[str, str],
        confusion: CallConfusion | None = None,
        *,
        confusion_overridden: bool = False,
        aligned_from: str = "",
    ) -> None:
        """Add another index's calls of a committed frame's cells; they become the current ones, the old ones stay.

        Where that index called the frame before, its calls from then become the current ones again.

        Raises ValueError if `calls` are not one a cell, or retention has deleted the frame's measurements or its plate,
        StoreError (StoreFull) if the disk fails.
        """
        with self._open():
            if len(calls) != frame.n_cells:
                raise ValueError(f"{len(calls)} calls for {frame.n_cells} cells of {frame.key}")
            self._held.see_room()
            add_calls(
                self._held, frame, calls, lines.Index(classes, groups, confusion, confusion_overridden, aligned_from)
            )

    def channels(self, series: Series) -> tuple[str, ...] | None:
        """The channels that a series' plate can hold; None before its first frame."""
        with self._open():
            place = self._held.known(series)
            return None if place is None or place.plate.geometry is None else place.plate.geometry.channels

    def note_files(self, key: FrameKey, files: Sequence[FileRef]) -> None:
        """Journal that a committed frame's files were touched, with the same bytes. Raises StoreError (StoreFull)."""
        with self._open():
            line = lines.files_line(key, self.ledger.revision(key), files, self._rules.now())
            self._journal(key.series, [line])

    def set_baseline(self, series: Series, baseline: Baseline) -> None:
        """Fix what a series' first frames measured; the last one set stands. Raises StoreError (StoreFull)."""
        with self._open():
            self._journal(series, [lines.baseline_line(series, baseline, self._rules.now())])

    def baseline(self, series: Series) -> Baseline | None:
        """What `set_baseline` fixed, in this run or an earlier one; None if nothing yet."""
        return self.ledger.baseline(series)

    def journal_lines(self, series: Series, entries: Sequence[Mapping[str, Any]]) -> None:
        """Journal what was decided of a plate's slots or frames (kinds "dropped" and "lost"), with one fsync.

        Written however little room there is, since deleting makes room. Raises ValueError for a plate that is not in
        the store, StoreError (StoreFull) if the disk fails.
        """
        with self._open():
            place = self._held.known(series)
            if place is None:
                raise ValueError(f"no plate of {'/'.join(series)} is in the store")
            self._held.take(place, place.journal.append(entries))

    def chunk_paths(self, series: Series, slot: int, tiers: Collection[str]) -> list[Path]:
        """Where a slot's chunks of some tiers would lie; not all need be there."""
        with self._open():
            place = self._held.known(series)
            return [] if place is None else [place.folder / name for name in place.plate.chunk_names(slot, tiers)]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing else is written while the block runs: what it asks of the ledger still holds when it writes."""
        with self._open():
            yield

    def leave(self, series: Series, *, planned: datetime | None = None) -> bool:
        """Give a whole plate up: journal that it is gone, and put its folder out of sight (`gone.remove_hidden` deletes
        it). Its files count as done; newer ones of the series begin it anew. False if a frame of it was committed
        since `planned`: then all of it stays. Raises StoreError.
        """
        last = self.ledger.last_commit(series)
        newest = gone.newest_file(self.ledger, series)  # a second for 55,000 frames: no commit waits for it
        with self._open():
            if self.ledger.last_commit(series) != last or (last and planned and last > planned):
                return False
            # From the line on the plate is gone: what comes to it begins it anew, though its folder cannot be hidden.
            self.ledger.add(
                gone.leave(self.path, series, newest_mtime_ns=newest, committed_at=lines.utc(self._rules.now()))
            )
            self._held.places.pop(gone.folder_of(self.path, series), None)
            gone.hide(self.path, series)
        return True

    def publish(self, series: Series, *, overdue: int = -1) -> int:
        """Show every finished round to readers: all arrays of the plate grow together. Returns T, the slots shown.

        `overdue`: the latest time point that is not waited for any longer (its frame timeout has passed). Cheap when
        there is nothing to show. Raises StoreError (StoreFull): nothing committed is lost, call it again.
        """
        with self._open():
            place = self._held.known(series)
            if place is None:
                return 0
            list_fields(place)
            return grow(place.folder, place.plate, place.plate.settled(overdue))

    def close(self) -> None:
        """Show everything that is committed, and give the store up. Closing twice does nothing. Raises StoreError."""
        with self._one_at_a_time:
            clean = False
            try:
                for place in self._held.places.values():
                    if place.touched and self._store_lock.held:
                        list_fields(place)
                        grow(place.folder, place.plate, place.plate.settled(_ANY))
                clean = True
            finally:
                self._store_lock.release(clean=clean)

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with self._one_at_a_time:
            if not self._store_lock.held:
                raise StoreError("the store is closed", where=self.path)
            yield

    def _journal(self, series: Series, entries: Sequence[Mapping[str, Any]]) -> None:
        self._held.see_room()
        place = self._held.place(series)
        self._held.take(place, place.journal.append(entries))

    def _told(self, answer: Committed | Exception) -> Committed | Exception:
        if isinstance(answer, Exception):
            return answer
        return replace(answer, line=self._held.untold.pop((answer.key, answer.revision), {}))
