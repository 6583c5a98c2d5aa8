"""Which cells of a class to show: the most typical and the oddest. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I16, I64

TYPICAL, ODD = 8, 4


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Rows of one class's cells to be looked at; a cell is in one of the two at most."""

    typical: I64  # nearest to the class's mean, the nearest first
    odd: I64  # farthest from their k_min nearest cells of other groups, the farthest first


def shown(vectors: F32, labels: I16, novelty: F32, class_id: int) -> Shown:
    """Choose among (m, d) vectors in the chosen space, their (m,) class ids and (m,) novelty (NaN: not known)."""
    rows = np.flatnonzero(labels == class_id)
    if not len(rows):
        return Shown(rows, rows)
    middle = vectors[rows].mean(axis=0, dtype=np.float64)
    away = np.linalg.norm(vectors[rows] - middle, axis=1)
    nearest = rows[np.argsort(away, kind="stable")]
    typical = nearest[: min(TYPICAL, max(1, len(rows) - ODD))]
    rest = np.setdiff1d(rows, typical)
    rest = rest[np.isfinite(novelty[rest])]
    odd = rest[np.argsort(-novelty[rest], kind="stable")][:ODD]
    return Shown(typical, odd)
