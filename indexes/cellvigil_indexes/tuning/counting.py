"""From distance tables to what a vote needs: how many of the k nearest are of each class, at every k that matters.

Pure; threads share the rows. The list of neighbours at the largest k is found once: every depth, threshold and weight
is then a matter of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I16, I64

U64 = npt.NDArray[np.uint64]
_IN_CACHE = 2 * 1024 * 1024  # bytes of keys that one thread works on at a time
_LOW = np.uint64(32)  # bits of a key that hold the reference's number


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """The neighbours of n cells, cut at D depths."""

    cuts: tuple[int, ...]  # D depths, ascending
    counts: I64  # (D, n, classes): of the k nearest, how many are of each class
    nearest: F32  # (n, classes): distance to the nearest of each class among the deepest; infinite where none is


def counted(
    tables: Sequence[F32],
    scales: Sequence[np.float32],
    labels: I16,
    classes: int,
    cuts: Sequence[int],
    *,
    squared: bool,
    threads: Executor,
) -> Counts:
    """Count the classes among the nearest references, by the scaled sum of the tables, then by number.

    Args:
        tables: (n, N) f32 distances, one an encoder, in the order of concatenation: f32 sums depend on it.
        scales: a factor a table.
        labels: (N,) class ids of the references.
        classes: how many classes there are.
        cuts: depths, ascending, none above N.
        squared: the tables are squared L2; `nearest` is the root.
        threads: where blocks of rows run.
    """
    cells, references = tables[0].shape
    step = max(1, min(cells, _IN_CACHE // (8 * references)))
    blocks = [slice(start, start + step) for start in range(0, cells, step)]

    def one(rows: slice) -> tuple[I64, F32]:
        return _histogram(_nearest(tables, scales, rows, cuts[-1]), labels, classes, cuts)

    parts = list(threads.map(one, blocks))
    nearest = np.concatenate([part[1] for part in parts])
    return Counts(
        tuple(cuts),
        np.ascontiguousarray(np.concatenate([part[0] for part in parts]).transpose(1, 0, 2)),
        np.sqrt(nearest) if squared else nearest,
    )


def _nearest(tables: Sequence[F32], scales: Sequence[np.float32], rows: slice, k: int) -> U64:
    """(rows, k) keys in order: the distance's bits above, the reference's number below.

    Bits of floats that are not negative order as the floats do, so whole numbers are sorted, and ties go to the lower
    number.
    """
    total = scales[0] * tables[0][rows]
    for table, scale in zip(tables[1:], scales[1:], strict=True):
        total += table[rows] if scale == 1 else scale * table[rows]
    keys = total.view(np.uint32).astype(np.uint64)
    keys <<= _LOW
    keys |= np.arange(keys.shape[1], dtype=np.uint64)
    if k < keys.shape[1]:
        keys.partition(k - 1, axis=1)
    return np.sort(keys[:, :k], axis=1)


def _histogram(keys: U64, labels: I16, classes: int, cuts: Sequence[int]) -> tuple[I64, F32]:
    """((rows, D, classes) counts before each cut, (rows, classes) distance to the first of each class)."""
    found = labels[(keys & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    band = np.searchsorted(np.asarray(cuts), np.arange(keys.shape[1]), side="right")
    places = (np.arange(len(keys))[:, None] * len(cuts) + band) * classes + found
    shape = (len(keys), len(cuts), classes)
    counts = np.bincount(places.ravel(), minlength=len(keys) * len(cuts) * classes).reshape(shape).cumsum(axis=1)
    nearest = np.full((len(keys), classes), np.inf, dtype=np.float32)
    for class_id in range(classes):
        mine = found == class_id
        first = mine.argmax(axis=1)
        there = counts[:, -1, class_id] > 0
        distances = (keys[np.arange(len(keys)), first] >> _LOW).astype(np.uint32).view(np.float32)
        nearest[there, class_id] = distances[there]
    return counts.astype(np.int64), nearest
