"""Affine maps between embedding spaces: applied to any cell, one after another. Pure: arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, frozen_array
from cellvigil_indexes.aligning.values import Affine

Floats = npt.NDArray[np.floating[Any]]

_ROWS = 8192  # at a time


def applied(affine: Affine, vectors: F32) -> F32:
    """(x - before) @ matrix + after for every row x of `vectors` (N, d) f32 or f16, as (N, d) f32.

    Raises ValueError if the vectors have another number of dimensions than the map.
    """
    if vectors.ndim != 2 or vectors.shape[1] != len(affine.before):
        raise ValueError(f"vectors of shape {vectors.shape} do not fit a map of {len(affine.before)} dimensions")
    out = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        centred = vectors[rows].astype(np.float32) - affine.before
        out[rows] = (centred * affine.matrix if affine.matrix.ndim == 1 else centred @ affine.matrix) + affine.after
    return frozen_array(out)


def composed(first: Affine, second: Affine) -> Affine:
    """The map that does `first`, then `second`. Stays one that only stretches where both are.

    Raises ValueError if they have different numbers of dimensions.
    """
    if len(first.before) != len(second.before):
        raise ValueError(f"maps of {len(first.before)} and {len(second.before)} dimensions cannot follow each other")
    gap = Affine(second.before, second.matrix, second.after)
    after = applied(gap, first.after[None])[0]
    return affine_of(first.before, _product(first.matrix, second.matrix), after)


def affine_of(before: Floats, matrix: Floats, after: Floats) -> Affine:
    """An Affine of frozen f32 arrays, from arrays of any float type."""
    parts = (np.ascontiguousarray(part, dtype=np.float32) for part in (before, matrix, after))
    return Affine(*(frozen_array(part) for part in parts))


def _product(first: F32, second: F32) -> F32:
    if first.ndim == 1:
        return np.asarray(first * second if second.ndim == 1 else first[:, None] * second)
    return np.asarray(first * second if second.ndim == 1 else first @ second)
