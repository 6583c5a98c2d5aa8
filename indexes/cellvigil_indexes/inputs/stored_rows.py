"""Which frames of a store have vectors to align to, as the table that `stored_vectors` reads. Reads journals only."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from cellvigil.errors import UsageError
from cellvigil.ledger import CommittedFrame, Ledger
from cellvigil.store.names import readable
from cellvigil.store.reader import plate_ledger
from cellvigil.store.recover import plate_folders
from cellvigil.store.vectors import has_vectors
from cellvigil_indexes.inputs.stored_vectors import COLUMNS


def write_rows(path: Path, store: Path, wells: Collection[str] = ()) -> int:
    """Write the table of all frames (of these wells, in any plate) at their last revision; returns how many.

    Frames whose vectors retention has deleted are left out. Raises UsageError if no frame is left, StoreError for a
    store that cannot be read.
    """
    folders = plate_folders(store)
    if not folders:
        raise UsageError("there is no plate in this store", where=store, hint="give the daemon's store with --store")
    rows = [row for folder in folders for row in _rows(plate_ledger(folder), frozenset(wells))]
    if not rows:
        what = f"no frame of well {', '.join(sorted(wells))}" if wells else "no frame"
        raise UsageError(
            f"{what} in this store has vectors", where=store, hint="see store.embeddings and its retention"
        )
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return len(rows)


def _rows(ledger: Ledger, wells: frozenset[str]) -> list[tuple[str, ...]]:
    found = []
    for series in ledger.series():
        last: dict[object, CommittedFrame] = {frame.key: frame for frame in ledger.frames(series)}  # revisions ascend
        for frame in last.values():
            key = frame.key
            dropped = ledger.dropped(series, frame.t)
            kept = has_vectors(frame, dropped) and "measurements" not in dropped
            if kept and (not wells or readable(key.well) in wells):
                names = (readable(part) for part in (key.source, key.experiment, key.plate, key.well, key.field))
                found.append((*names, str(key.timepoint), str(frame.revision)))
    return found
