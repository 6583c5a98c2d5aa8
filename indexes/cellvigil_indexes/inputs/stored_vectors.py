"""Embeddings as a daemon's store kept them, of the frames that a table names: the target of an alignment. Reads both.

Nothing is embedded anew: these are the very vectors (in half precision) that the daemon called its cells by, so a fit
on them holds for the cells to come. A frame's cells that touch the border are left out, as they are from the counts.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.files import sha256_of
from cellvigil.bundle.index import IndexEncoder
from cellvigil.data import F32, I32, Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil.ledger import CommittedFrame, Ledger
from cellvigil.store.names import readable
from cellvigil.store.reader import plate_ledger
from cellvigil.store.recover import plate_folders
from cellvigil.store.vectors import counted_rows, read_vectors

COLUMNS = ("source", "experiment", "plate", "well", "field", "timepoint", "revision")
"""What a row names: one committed frame, spelled as `cellvigil table` spells it. `revision` may be empty: the last."""

_Place = tuple[str, str, str, str, str, int]


@dataclass(frozen=True, slots=True, eq=False)
class StoredVectors:
    """n cells of a store. Row i of every array is cell i."""

    embeddings: Embeddings  # encoder name -> (n, d_e) f32
    frames: I32  # (n,) which of the table's frames, from 0
    wells: I32  # (n,) which well (of a plate), from 0: cells of one well resemble each other
    provenance: dict[str, Any]  # for the manifest; JSON values

    def __len__(self) -> int:
        return len(self.frames)


def read_stored_vectors(store: Path, rows: Path, encoders: Sequence[IndexEncoder]) -> StoredVectors:
    """The counted cells of the frames that the table `rows` (CSV, see `COLUMNS`) names, by the index's `encoders`.

    Raises UsageError for a table that lacks a column, names a frame twice or none that is there, or holds no cell;
    StoreError for a store that cannot be read and for frames whose embeddings it does not have (any more).
    """
    wanted = _wanted(rows)
    found = _frames(store, wanted, rows)
    blocks: dict[str, list[F32]] = {encoder.name: [] for encoder in encoders}
    counts: list[int] = []
    for folder, ledger, frame in found:
        dropped = ledger.dropped(frame.key.series, frame.t)
        counted = counted_rows(folder, frame, dropped=dropped)
        for name, block in read_vectors(folder, frame, encoders, dropped=dropped).items():
            blocks[name].append(block[counted])
        counts.append(int(counted.sum()))
    if not sum(counts):
        raise UsageError("the frames of the table hold no cell that counts", where=rows, hint="name other frames")
    wells = {place[:4]: number for number, place in enumerate(dict.fromkeys(place[:4] for place in wanted))}
    numbers = [wells[place[:4]] for place in wanted]
    return StoredVectors(
        embeddings={name: frozen_array(np.concatenate(parts)) for name, parts in blocks.items()},
        frames=frozen_array(np.repeat(np.arange(len(counts), dtype=np.int32), counts)),
        wells=frozen_array(np.repeat(np.asarray(numbers, dtype=np.int32), counts)),
        provenance={
            "store": store.resolve().name,
            "rows_sha256": sha256_of(rows),
            "cells": sum(counts),
            "frames": len(counts),
            "wells": sorted("/".join(place) for place in wells),
        },
    )


def _wanted(rows: Path) -> dict[_Place, int | None]:
    """The frames that the table names, in its order, each with its revision. Raises UsageError."""
    try:
        with rows.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
                hint = "the columns are " + ", ".join(COLUMNS)
                raise UsageError(f"the table of frames has no column {', '.join(missing)}", where=rows, hint=hint)
            read = [(_place(row), int(row["revision"]) if row["revision"] else None) for row in table]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the table of frames cannot be read: {error}", where=rows) from None
    except ValueError:
        raise UsageError("a time point or a revision is no whole number", where=rows) from None
    if not read:
        raise UsageError("the table names no frame", where=rows, hint="one row a frame")
    wanted = dict(read)
    if len(wanted) < len(read):
        raise UsageError("the table names a frame twice", where=rows, hint="leave one of each")
    return wanted


def _place(row: dict[str, str]) -> _Place:
    source, experiment, plate, well, field = (row[name] for name in COLUMNS[:5])
    return source, experiment, plate, well, field, int(row["timepoint"])


def _frames(store: Path, wanted: dict[_Place, int | None], rows: Path) -> list[tuple[Path, Ledger, CommittedFrame]]:
    """The wanted frames in their order, each with its plate's folder and ledger. Raises UsageError."""
    plates = {place[:3] for place in wanted}
    found: dict[_Place, tuple[Path, Ledger, CommittedFrame]] = {}
    for folder in plate_folders(store):
        ledger = plate_ledger(folder)
        for series in ledger.series():
            if tuple(map(readable, series)) not in plates:
                continue
            for frame in ledger.frames(series):
                place: _Place = (*_names(frame), frame.key.timepoint)
                if place in wanted and wanted[place] in (None, frame.revision):
                    found[place] = (folder, ledger, frame)  # revisions ascend: the last one stands
    if missing := [place for place in wanted if place not in found]:
        named = "/".join(map(str, missing[0]))
        what = f"{len(missing)} frames of the table are not in the store, the first is {named}"
        raise UsageError(what, where=rows, hint="name committed frames, as `cellvigil table --frames` does")
    return [found[place] for place in wanted]


def _names(frame: CommittedFrame) -> tuple[str, str, str, str, str]:
    key = frame.key
    source, experiment, plate, well, field = map(readable, (key.source, key.experiment, key.plate, key.well, key.field))
    return source, experiment, plate, well, field
