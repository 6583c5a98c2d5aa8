"""A store checked chunk by chunk against its journals, and mended: what `cellvigil repair` does.

Touches the store only, never a source's folder. Mending is what opening does (`recover`), and then: reduced levels made
anew, damaged chunks moved under `.orphans`, and a "lost" line for their frames, which the daemon then does again from
the microscope's folder as the next revision. The line is fsynced before a chunk is moved: a crash in between leaves a
damaged chunk of a frame that is lost already, which the next repair moves. `check` only looks, needs no lock, and may
look at a store that a daemon writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cellvigil.data import FrameKey
from cellvigil.errors import StoreError, store_failure
from cellvigil.ledger import CommittedFrame
from cellvigil.store.commit import replace_file
from cellvigil.store.encode import reduced_image, reduced_labels
from cellvigil.store.gone import gone_series, hidden, remove_hidden
from cellvigil.store.lines import utc
from cellvigil.store.recover import ORPHANS, own_folders, plate_folders
from cellvigil.store.strays import documents_missing, strays
from cellvigil.store.sweep import free_name
from cellvigil.store.verify import Census, Faulty, check_frame, take_census
from cellvigil.store.writer import Store, open_store

_TOGETHER = 512  # frames given to the threads at a time


@dataclass(frozen=True, slots=True)
class Loss:
    """A frame of which this store holds no whole copy."""

    frame: str  # its key
    revision: int
    why: str
    files: tuple[str, ...]  # what it is made from, in the source's folder
    superseded: bool  # a later revision of it is whole: nothing needs to be done


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; with `mended`, what was done about it."""

    mended: bool  # False: only looked at
    plates: int = 0
    frames: int = 0  # committed revisions
    seconds: float = 0.0  # spent on checking them
    lost: tuple[Loss, ...] = ()
    derived: int = 0  # reduced levels made anew
    documents: int = 0  # zarr.json files written anew
    bad_lines: tuple[str, ...] = ()  # "<plate's folder>: line 17"
    cut_bytes: int = 0  # of unfinished last journal lines
    strays: int = 0  # chunks that no journal line names; mended: moved under `.orphans`
    orphans: int = 0  # files under `.orphans`
    orphan_bytes: int = 0
    leftovers: int = 0  # deleted plates, and temporary files, that were still to be removed

    @property
    def needs_source(self) -> bool:
        """Whether something is lost that only the microscope's folder can bring back."""
        return any(not loss.superseded for loss in self.lost) or bool(self.bad_lines and self.strays)

    @property
    def frames_per_second(self) -> float:
        """How fast chunks were checked."""
        return self.frames / self.seconds if self.seconds else 0.0


def check(store: Path) -> Report:
    """Look at every chunk and change nothing. Raises StoreError if the store cannot be read."""
    gone = gone_series(store)
    report = Report(mended=False, leftovers=len(hidden(store)))
    for folder in plate_folders(store):
        census = take_census(folder)
        if not census.plate.series or census.plate.series in gone:
            continue
        start = time.monotonic()
        faults = list(_faults(census))
        spent = time.monotonic() - start
        census = take_census(folder)  # a daemon may have gone on meanwhile: what it explains is no fault
        faults = [again for one in faults if (again := _still(census, one.frame)) is not None]
        loose, temporary = strays(census)
        report = _with_plate(report, census, faults, spent)
        report = replace(
            report,
            documents=report.documents + documents_missing(census),
            strays=report.strays + len(loose),
            leftovers=report.leftovers + len(temporary),
            cut_bytes=report.cut_bytes + len(census.found.torn),
            derived=report.derived + sum(len(one.derived) for one in faults),
        )
    return _with_orphans(report, store)


def repair(store: Path) -> Report:
    """Look at every chunk and mend what can be mended.

    Raises StoreError if a daemon holds the store, or the disk fails.
    """
    opened = open_store(store)
    try:
        report = Report(mended=True, leftovers=remove_hidden(store))
        for one in opened.recovered:
            report = replace(
                report,
                documents=report.documents + one.documents,
                derived=report.derived + one.derived,
                strays=report.strays + one.orphans,
                leftovers=report.leftovers + one.temporaries + one.dropped,
                cut_bytes=report.cut_bytes + one.cut_bytes,
            )
        for folder in own_folders(store)[0]:
            census = take_census(folder)
            start = time.monotonic()
            faults = list(_faults(census))
            report = _with_plate(report, census, faults, time.monotonic() - start)
            _mourn(opened, census, faults)
            report = replace(report, derived=report.derived + sum(_remade(store, census, one) for one in faults))
    finally:
        opened.close()
    return _with_orphans(report, store)


def _faults(census: Census) -> Iterator[Faulty]:
    """Every frame with a fault; the threads read and decode (both let go of the interpreter)."""
    if census.plate.geometry is None:
        return
    frames = census.frames()
    with ThreadPoolExecutor(os.cpu_count() or 2) as threads:
        for start in range(0, len(frames), _TOGETHER):
            found = threads.map(lambda frame: check_frame(census, frame), frames[start : start + _TOGETHER])
            yield from (one for one in found if one is not None)


def _still(census: Census, frame: CommittedFrame) -> Faulty | None:
    known = census.ledger.frame(frame.key, frame.revision)
    return None if known is None else check_frame(census, known)


def _with_plate(report: Report, census: Census, faults: Sequence[Faulty], seconds: float) -> Report:
    frames = census.frames()
    whys = {_place(one.frame): _told(one) for one in faults if one.lost}
    earlier = {place for frame in frames if census.ledger.is_lost(*(place := _place(frame)))}
    lost = {place: frame for frame in frames if (place := _place(frame)) in earlier or place in whys}
    whole = dict(sorted(place for frame in frames if (place := _place(frame)) not in lost))  # the newest revisions
    losses = [
        Loss(
            str(frame.key),
            frame.revision,
            whys.get(place, "lost earlier, and not done again yet"),
            tuple(ref.path for ref in frame.files),
            superseded=whole.get(frame.key, -1) > frame.revision,
        )
        for place, frame in sorted(lost.items())
        if place not in earlier or whole.get(frame.key, -1) < frame.revision  # else it was told, and is made up for
    ]
    return replace(
        report,
        plates=report.plates + 1,
        frames=report.frames + len(frames),
        seconds=report.seconds + seconds,
        lost=(*report.lost, *losses),
        bad_lines=(*report.bad_lines, *(f"{census.folder}: line {number}" for number in census.found.bad)),
    )


def _place(frame: CommittedFrame) -> tuple[FrameKey, int]:
    return frame.key, frame.revision


def _told(one: Faulty) -> str:
    return "; ".join(f"array {array}: {why}" for array, why in one.lost.items())


def _mourn(store: Store, census: Census, faults: Sequence[Faulty]) -> None:
    """Journal what is lost, then move its damaged chunks aside."""
    damaged = [one for one in faults if one.lost]
    fresh = [one for one in damaged if not census.ledger.is_lost(one.frame.key, one.frame.revision)]
    if fresh:
        store.journal_lines(census.plate.series, [_lost_line(one) for one in fresh])
    for one in damaged:
        for array in one.lost:
            _set_aside(store.path, census.path(one.frame, array))


def _lost_line(one: Faulty) -> dict[str, object]:
    key = one.frame.key
    return {
        "kind": "lost",
        "key": [*key.series, key.well, key.field, key.timepoint],
        "revision": one.frame.revision,
        "t": one.frame.t,
        "why": _told(one),
        "committed_at": utc(datetime.now(UTC)),
    }


def _set_aside(store: Path, chunk: Path) -> None:
    target = store / ORPHANS / chunk.relative_to(store)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        chunk.rename(free_name(target))
    except FileNotFoundError:
        return  # it is missing
    except OSError as error:
        raise store_failure("a damaged chunk cannot be moved aside", error, where=chunk) from error


def _remade(store: Path, census: Census, one: Faulty) -> int:
    """Make the reduced levels of a frame anew; how many. One whose full level is lost, now or earlier, goes with it."""
    made = 0
    for array in one.derived:
        full, make = ("0", reduced_image) if array == "1" else ("labels/cells/0", reduced_labels)
        try:
            data = make(census.path(one.frame, full).read_bytes(), census.plate.known_geometry)
        except FileNotFoundError:
            _set_aside(store, census.path(one.frame, array))
            continue
        except OSError as error:
            raise StoreError(f"a chunk cannot be read: {error.strerror}", where=census.path(one.frame, full)) from error
        replace_file(census.path(one.frame, array), data)
        made += 1
    return made


def _with_orphans(report: Report, store: Path) -> Report:
    sizes = [path.lstat().st_size for path in (store / ORPHANS).rglob("*") if path.is_file()]
    return replace(report, orphans=len(sizes), orphan_bytes=sum(sizes))
