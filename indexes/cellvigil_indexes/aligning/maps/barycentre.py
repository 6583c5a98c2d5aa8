"""From a coupling to places in the target's space: equation 4, row by row. Pure: arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, Bools
from cellvigil_indexes.aligning.values import F64

LEAST_MASS = 0.01
"""Of a row's nominal mass: below, its image says nothing and the row is dropped (`methods.md`, "Transport")."""

_FEW = 0.1  # of a plan's entries: where fewer are not 0, a sparse product is quicker


def images(coupling: F64, nominal: F64, target: F32) -> tuple[F32, Bools]:
    """Where each of N references goes, (N, d) f32, and which of them go anywhere, (N,).

    E_i = sum_j T_ij E_j / sum_j T_ij: the paper's factor N in place of the row's mass holds for uniform masses only.
    A row of less than `LEAST_MASS` of its nominal mass (N,), or of none, is not kept and lies at the target's mean.
    """
    moved = coupling.sum(axis=1)
    kept = (moved > 0) & (moved >= LEAST_MASS * nominal)
    out = np.tile(target.mean(axis=0, dtype=np.float64), (len(coupling), 1))
    out[kept] = _means(coupling[kept], target) / moved[kept, None]
    return out.astype(np.float32), kept


def _means(coupling: F64, target: F32) -> F64:
    """Weighted sums of target cells, a row each; nearly all of a plan's entries are 0."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - slow to import

    few = np.count_nonzero(coupling) < _FEW * coupling.size
    return np.asarray((csr_array(coupling) if few else coupling) @ target.astype(np.float64))
