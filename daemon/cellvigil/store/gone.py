"""A whole plate deleted: told in the store's own journal, put out of sight, removed. Touches the store's top folders.

Order and crash argument: 1. the line "gone" is appended to `.gone.jsonl` and fsynced; a crash before leaves the plate
as it was. 2. The plate's folder is renamed to `.dropping.<n>`, where no reader and no opening looks for plates; a crash
before leaves a plate whose series is gone, and opening makes up for the rename (`finish_gone`). 3. The folder is
removed, which may take minutes; a crash leaves `.dropping.<n>`, and whoever writes the store next removes it.

The line also says how new the newest of the plate's files was. Images of the same series that are newer begin the plate
anew: the line "returned" is fsynced before its folder is made, so that no opening takes it for the old one.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cellvigil.errors import store_failure
from cellvigil.journal import Line, fold, fsync_path, open_journal
from cellvigil.ledger import Ledger, Series
from cellvigil.store import names

GONE = ".gone.jsonl"
DROPPING = ".dropping."


def folder_of(store: Path, series: Series) -> Path:
    """Where a series' plate lies."""
    source, experiment, plate = (names.segment(name) for name in series)
    return store / source / experiment / f"{plate}.zarr"


def gone_series(store: Path, take: Callable[[Line], object] = lambda _: None) -> set[Series]:
    """The plates that were deleted and did not begin anew; `take` is given every good line. Raises StoreError."""
    found: set[Series] = set()

    def note(line: Line) -> None:
        if line.get("kind") in ("gone", "returned"):
            source, experiment, plate = line["series"]
            (found.add if line["kind"] == "gone" else found.discard)((source, experiment, plate))
        take(line)

    fold(store / GONE, note)
    return found


def leave(store: Path, series: Series, *, newest_mtime_ns: int, committed_at: str) -> Line:
    """Journal that a plate is gone; returns the line. The caller holds the lock, and then calls `hide`.

    Raises StoreError: call it again.
    """
    return _journal(store, "gone", series, newest_mtime_ns=newest_mtime_ns, committed_at=committed_at)


def hide(store: Path, series: Series) -> None:
    """Put the folder of a plate that is gone out of sight; `remove_hidden` does the rest. The caller holds the lock.

    Raises StoreError: the next opening, or the plate's return, does it then.
    """
    _hide(store, folder_of(store, series))


def come_back(store: Path, series: Series, *, committed_at: str) -> Line:
    """Journal that a deleted plate begins anew; returns the line. The caller holds the lock. Raises StoreError."""
    hide(store, series)  # what an error left of the old one
    return _journal(store, "returned", series, committed_at=committed_at)


def newest_file(ledger: Ledger, series: Series) -> int:
    """The date (mtime_ns) of the newest file of a series, as last read; 0 without any."""
    refs = (ref for frame in ledger.frames(series) for ref in frame.files)
    notes = ((ref, ledger.file(series[0], ref.path)) for ref in refs)
    return max((max(ref.mtime_ns, note.ref.mtime_ns if note else 0) for ref, note in notes), default=0)


def finish_gone(store: Path, take: Callable[[Line], object]) -> set[Series]:
    """Opening: read what is gone, and put out of sight what a crash left in it. The caller holds the lock."""
    gone = gone_series(store, take)
    for series in gone:
        _hide(store, folder_of(store, series))
    return gone


def hidden(store: Path) -> list[Path]:
    """Folders of deleted plates that are still to be removed."""
    return sorted(store.glob(f"{DROPPING}*"))


def remove_hidden(store: Path, going: Callable[[], bool] = lambda: True) -> int:
    """Remove every hidden plate, well by well while `going()`; returns how many are away. Raises StoreError."""
    done = 0
    for folder in hidden(store):
        try:
            for well in sorted(folder.glob("*/*/")):
                if not going():
                    return done
                shutil.rmtree(well)
            shutil.rmtree(folder)
        except OSError as error:
            raise store_failure("a deleted plate cannot be removed", error, where=folder) from error
        done += 1
    return done


def age_of(path: Path, now: datetime) -> float:
    """Days since a file was written or moved, whichever was last. Raises OSError."""
    status = path.lstat()
    return (now.timestamp() - max(status.st_mtime, status.st_ctime)) / 86400


def _journal(store: Path, kind: str, series: Series, **what: object) -> Line:
    journal, _ = open_journal(store / GONE, lambda _: None)
    [line] = journal.append([{"kind": kind, "series": list(series), **what}])
    return line


def _hide(store: Path, folder: Path) -> None:
    if not folder.exists():
        return
    number = 0
    while (target := store / f"{DROPPING}{number}").exists():
        number += 1
    try:
        folder.rename(target)
        for parent in (store, folder.parent):
            fsync_path(parent)
        for parent in (folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):  # other plates are in it
                parent.rmdir()
    except OSError as error:
        raise store_failure("a deleted plate cannot be put out of sight", error, where=folder) from error
