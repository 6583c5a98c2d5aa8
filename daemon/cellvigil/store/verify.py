"""Whether the chunks that a plate's journal names are there and hold what it says. Reads one plate, changes nothing.

A chunk is whole when its checksum is the journal's, it decodes, has its array's shape, holds every channel of its
frame, as many rows as the frame has cells, and no label beyond them. Reduced levels have no sum in the journal: they
are made again from the full ones where they do not decode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.errors import StoreError
from cellvigil.journal import Found, Line, fold
from cellvigil.ledger import CommittedFrame, Ledger
from cellvigil.store.plate import FEATURES_TABLE, Plate, chunk_name, is_derived, rows_in, tier_of
from cellvigil.store.recover import JOURNAL
from cellvigil.store.shards import checksum, plane_sums, read_labels, read_planes, read_rows

_IMAGES = ("0", "1")
_LABELS = ("labels/cells/0", "labels/cells/1")


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """What one plate's journal names."""

    folder: Path
    plate: Plate
    ledger: Ledger
    found: Found  # what the journal's file holds beside its good lines
    called: dict[tuple[str, int], set[str]] = field(default_factory=dict)  # (field, slot) -> tables of later calls
    sums: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)  # (field, slot) -> array -> checksums

    def frames(self) -> list[CommittedFrame]:
        """Every committed revision."""
        return [frame for series in self.ledger.series() for frame in self.ledger.frames(series)]

    def arrays(self, frame: CommittedFrame) -> list[str]:
        """The arrays in which a frame has a chunk, less what retention dropped; the full levels first."""
        names = [_IMAGES[0], _LABELS[0], _IMAGES[1], _LABELS[1]]
        if frame.n_cells:
            later = sorted(self.called.get((frame.path, frame.t), ()))
            names += [t for t in dict.fromkeys((FEATURES_TABLE, *frame.tables, *later)) if t in self.plate.tables]
        gone = self.plate.dropped.get(frame.t, frozenset())
        return [name for name in names if tier_of(name) not in gone]

    def path(self, frame: CommittedFrame, array: str) -> Path:
        """Where a frame's chunk of an array lies."""
        return self.folder / frame.path / array / chunk_name(array, frame.t)


@dataclass(frozen=True, slots=True)
class Faulty:
    """A frame of which chunks are damaged or missing."""

    frame: CommittedFrame
    lost: dict[str, str]  # array -> what is the matter; nothing on this disk can replace it
    derived: dict[str, str]  # reduced levels, which can be made again


def take_census(folder: Path) -> Census:
    """Read a plate's journal. Raises StoreError."""
    plate, ledger = Plate(), Ledger()
    called: dict[tuple[str, int], set[str]] = {}
    sums: dict[tuple[str, int], dict[str, Any]] = {}

    def take(line: Line) -> None:
        plate.apply(line)
        ledger.add(line)
        if line.get("kind") == "frame":
            called.pop((line["path"], int(line["t"])), None)  # of a frame whose own line went bad: it was done again
        if line.get("kind") == "calls":
            called.setdefault((line["path"], int(line["t"])), set()).add(line["table"])
        if line.get("sums"):
            sums.setdefault((line["path"], int(line["t"])), {}).update(line["sums"])

    return Census(folder, plate, ledger, fold(folder / JOURNAL, take), called, sums)


def check_frame(census: Census, frame: CommittedFrame) -> Faulty | None:
    """Read every chunk of a frame; None if all are whole. A chunk that the system refuses to read is damaged.

    Of a revision that is journaled as lost, what is missing was moved aside: no fault.
    """
    moved = census.ledger.is_lost(frame.key, frame.revision)
    lost: dict[str, str] = {}
    derived: dict[str, str] = {}
    for array in census.arrays(frame):
        try:
            data = census.path(frame, array).read_bytes()
            check_chunk(data, array, frame, census.plate)
            _check_sum(data, census.sums.get((frame.path, frame.t), {}).get(array))
        except FileNotFoundError:
            if moved:
                continue
            why = "missing"
        except OSError as error:
            why = f"unreadable: {error.strerror}"
        except StoreError as error:
            why = error.what
        else:
            continue
        (derived if is_derived(array) else lost)[array] = why
    return Faulty(frame, lost, derived) if lost or derived else None


def _check_sum(data: bytes, wanted: int | list[int | None] | None) -> None:
    """Raises StoreError if a chunk is not what was written. `wanted`: None where an older version kept no sum.

    A plane that the journal does not name yet (a crash fell between an attachment's rename and its line) is no fault.
    """
    if isinstance(wanted, int) and checksum(data) != wanted:
        raise StoreError("the bytes are not those that were written")
    if isinstance(wanted, list):
        for place, (found, sealed) in enumerate(zip(plane_sums(data, len(wanted)), wanted, strict=True)):
            if sealed is not None and found != sealed:
                raise StoreError(f"plane {place} is not what was written")


def check_chunk(data: bytes, array: str, frame: CommittedFrame, plate: Plate) -> None:
    """Raises StoreError saying what is wrong with a chunk of a frame."""
    geometry = plate.known_geometry
    shape = geometry.reduced if is_derived(array) else geometry.shape
    if array in _IMAGES:
        planes = read_planes(data, len(geometry.channels), shape, geometry.dtype)
        there = {name for name, plane in zip(geometry.channels, planes, strict=True) if plane is not None}
        if lacking := [name for name in frame.channels if name not in there]:
            raise StoreError(f"the shard lacks channel {', '.join(lacking)}")
    elif array in _LABELS:
        labels = read_labels(data, shape)
        if labels.size and (labels.min() < 0 or labels.max() > frame.n_cells):
            raise StoreError(f"labels from {labels.min()} to {labels.max()}, where {frame.n_cells} cells are counted")
    else:
        _check_rows(data, array, frame, plate)


def _check_rows(data: bytes, array: str, frame: CommittedFrame, plate: Plate) -> None:
    table = plate.tables[array]
    try:
        rows = read_rows(data, rows_in(array, frame.n_cells), table.columns, table.dtype)
    except (ValueError, RuntimeError) as error:
        raise StoreError(f"a shard's rows are damaged: {error}") from None
    # The first column (a position, a class id) of a cell is never absent; embeddings may hold anything.
    if tier_of(array) == "measurements" and not np.isfinite(rows[:, 0]).all():
        raise StoreError(f"rows are empty, where {frame.n_cells} cells are counted")
