"""From cells to fields, wells and treatments, by means of means.

"Cell-DINO" (PLOS Computational Biology 2025), Results, batch effects: "single-cell embeddings are aggregated
hierarchically using the mean of features per field of view, then per well, and finally per treatment". A field with
many cells therefore weighs no more than one with few, nor a well with many fields. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from cellvigil.data import F32

_Key = TypeVar("_Key", bound=Hashable)


def mean_of(vectors: F32 | Sequence[F32]) -> F32:
    """The mean of (n, d) vectors, (d,) f32, summed in f64. Raises ValueError for none."""
    rows = np.asarray(vectors)
    if not len(rows):
        raise ValueError("there is no vector to take the mean of")
    return np.asarray(rows.mean(axis=0, dtype=np.float64), dtype=np.float32)


def means_by(pairs: Iterable[tuple[_Key, F32]]) -> dict[_Key, F32]:
    """The mean of the vectors of each key, in the order in which keys first come."""
    found: dict[_Key, list[F32]] = {}
    for key, vector in pairs:
        found.setdefault(key, []).append(vector)
    return {key: mean_of(vectors) for key, vectors in found.items()}
