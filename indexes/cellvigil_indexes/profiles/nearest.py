"""Which treatments look alike: the nearest profiles by cosine.

"Cell-DINO" (PLOS Computational Biology 2025), Results: compounds with a common mechanism of action stand together in
the cosine similarity matrix of treatment-level profiles (figure 8 D). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil.data import F32
from cellvigil_indexes.aligning.values import F64
from cellvigil_indexes.profiles.values import Near


def cosines(vectors: F32) -> F64:
    """Cosine between any two of (n, d) vectors, (n, n); NaN for one of length 0, which has no direction."""
    lengths = np.linalg.norm(np.asarray(vectors, dtype=np.float64), axis=1)
    with np.errstate(invalid="ignore"):
        unit = np.asarray(vectors, dtype=np.float64) / np.where(lengths > 0, lengths, np.nan)[:, None]
    return np.asarray(np.clip(unit @ unit.T, -1.0, 1.0))


def nearest(names: Sequence[str], vectors: F32, count: int = 3) -> dict[str, tuple[Near, ...]]:
    """The `count` nearest of each treatment, the nearest first; ties in the order given.

    A vector of length 0 has no neighbours and is nobody's.
    """
    table = cosines(vectors)
    np.fill_diagonal(table, np.nan)
    found = {}
    for name, row in zip(names, table, strict=True):
        there = np.flatnonzero(np.isfinite(row))
        order = there[np.argsort(-row[there], kind="stable")][:count]
        found[name] = tuple(Near(names[place], float(row[place])) for place in order)
    return found
