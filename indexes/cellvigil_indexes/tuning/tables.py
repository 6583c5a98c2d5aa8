"""Distance tables, one an encoder: squared L2 and Canberra over concatenated encoders are sums of these.

Pure but for the memory it holds. Distances are taken pair by pair, as `neighbours.ExactSearch` settles them, not by a
matrix product (`neighbours.distance_table` for L2): sums of these tables rank the references exactly as the search
will, and equal references tie exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import faiss
import numpy as np

from cellvigil.data import F32, I64
from cellvigil.neighbours import distance_table
from cellvigil_indexes import discriminant
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import scale_of
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import Split

_IN_CACHE = 512 * 1024  # bytes of reference vectors that all queries are compared with before the next ones come


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One encoder's distances of the validation cells to the reference cells of a split."""

    distances: F32  # (n, N) f32, squared L2 or Canberra, unscaled
    unit: np.float32  # the factor that scaling "unit" puts on them

    def scaled_by(self, scaling: str) -> np.float32:
        """The factor of this scaling."""
        return self.unit if scaling == "unit" else np.float32(1)


class Shelf:
    """Tables that were made, kept while there is room; the oldest go first."""

    def __init__(self, bank: Bank, splits: Sequence[Split], room: int, threads: Executor) -> None:
        """`room` in bytes; the tables of one split and metric are held together whatever it is."""
        self.bank, self.splits, self.room, self.threads = bank, splits, room, threads
        self._kept: dict[tuple[int, str, str], Table] = {}

    def tables(self, split: int, space: tuple[str, str], names: Sequence[str]) -> dict[str, Table]:
        """The tables of these encoders for one split in a space (metric, scaling), made where they are not kept."""
        metric, scaling = space
        kind = scaling if scaling == "discriminant" else metric  # scaling "unit" is a factor on the same distances
        for name in names:
            key = (split, kind, name)
            if key not in self._kept:
                self._make_room(split, kind)
                self._kept[key] = _table(self.bank, self.splits[split], name, kind, self.threads)
        return {name: self._kept[split, kind, name] for name in names}

    def _make_room(self, split: int, kind: str) -> None:
        part = self.splits[split]
        needed = 4 * len(part.validation) * len(part.reference)
        for key in [key for key in self._kept if key[:2] != (split, kind)]:
            if sum(table.distances.nbytes for table in self._kept.values()) + needed <= self.room:
                return
            del self._kept[key]


def _table(bank: Bank, split: Split, name: str, kind: str, threads: Executor) -> Table:
    block = bank.embeddings[name]
    queries = np.ascontiguousarray(block[split.validation], dtype=np.float32)
    references = np.ascontiguousarray(block[split.reference], dtype=np.float32)
    if kind == "discriminant":
        axes = discriminant.fit(references, bank.labels[split.reference])
        return Table(squared_l2(axes.of(queries), axes.of(references), threads), np.float32(1))
    unit = np.float32(scale_of(references, IndexSettings(scaling="unit", metric=kind)))
    if kind == "l2":
        return Table(squared_l2(queries, references, threads), unit)
    return Table(distance_table(queries, references, kind), unit)


def squared_l2(queries: F32, references: F32, threads: Executor) -> F32:
    """Squared L2 of every query (n, d) to every reference (N, d), pair by pair: (n, N) f32."""
    cells, dimension = queries.shape
    table = np.empty((cells, len(references)), dtype=np.float32)
    step = max(16, _IN_CACHE // (4 * dimension))

    def task(start: int) -> None:
        block = references[start : start + step]
        ids: I64 = np.tile(np.arange(len(block), dtype=np.int64), (cells, 1))
        part = np.empty((cells, len(block)), dtype=np.float32)
        faiss.omp_set_num_threads(1)  # of this thread: the blocks run side by side already
        faiss.fvec_L2sqr_by_idx(  # type: ignore[attr-defined]  # the stubs lack FAISS's free functions
            *(faiss.swig_ptr(array) for array in (part, queries, block, ids)), dimension, cells, len(block)
        )
        table[:, start : start + step] = part

    list(threads.map(task, range(0, len(references), step)))
    return table
