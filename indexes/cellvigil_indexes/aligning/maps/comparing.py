"""In which space references and target cells are compared when they are coupled: for M of equation 2.

The paper takes the Euclidean distance between embeddings as they came. A shift between two devices then is part of
every distance, yet with fixed masses hardly decides which cells are coupled; see `maps`. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cellvigil.data import F32
from cellvigil_indexes.aligning.maps.affine import applied
from cellvigil_indexes.aligning.maps.coral import colouring
from cellvigil_indexes.aligning.maps.gaussians import COMPONENTS, SHRINKAGE, gaussians
from cellvigil_indexes.aligning.maps.zscore import standardising
from cellvigil_indexes.aligning.values import F64

Sides = tuple[F32, F32]


def _as_they_came(references: F32, masses: F64, target: F32) -> Sides:
    del masses
    return references, target


def _standardised(references: F32, masses: F64, target: F32) -> Sides:
    return applied(standardising(references, masses, target), references), target


def _recoloured(references: F32, masses: F64, target: F32) -> Sides:
    """Along the joint principal components alone: what lies off them is mostly noise of single cells."""
    both = gaussians(references, masses, target, components=COMPONENTS, shrinkage=SHRINKAGE)
    carried = applied(colouring(both), references)
    axes, centre = both.axes.astype(np.float32), both.after.astype(np.float32)
    return np.asarray((carried - centre) @ axes), np.asarray((target - centre) @ axes)


BEFORE: Mapping[str, Callable[[F32, F64, F32], Sides]] = {
    "none": _as_they_came,
    "zscore": _standardised,
    "coral": _recoloured,
}
"""(references (N, d), their masses (N,), target (M, d)) -> both sides, (N, r) and (M, r)."""


def distances(references: F32, target: F32) -> F64:
    """Euclidean distances (N, M)."""
    a, b = references.astype(np.float64), target.astype(np.float64)
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2.0 * (a @ b.T)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))
