"""How much of a target each class is, asked of the cells alone: no clusters, no labels.

The target is taken as a mixture of the reference's classes along its discriminant axes (`common_axes`), where every
class is about as wide in every direction: known middles, one common shift, one common width, free shares; by
expectation and maximisation (Dempster, Laird and Rubin 1977). Two starts, no shift and the difference of the two
sides' means; the likelier end counts. A second opinion beside the clusters of the transfer paper's appendix A: it sees
the small classes that clusters swallow, and misses others.

Pure: arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import I32
from cellvigil_indexes.aligning.sharing.common_axes import Common
from cellvigil_indexes.aligning.values import F64

_ROUNDS = 60
_LEAST_WIDTH = 1e-3  # squared; a reference class is about 1 wide
_NO_SHARE = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """The target as a mixture of the reference's classes."""

    shares: F64  # (classes,) summing to 1; 0 for classes without cells
    labels: I32  # (M,) each cell's likeliest class


def mixture_of(common: Common) -> Mixture:
    """The target's cells as a mixture of the reference's classes."""
    cells = common.together.astype(np.float64)
    there, means = common.class_means()
    starts = (np.zeros(cells.shape[1]), cells.mean(axis=0) - means.mean(axis=0))
    _, parts = max((_settled(cells, means, start) for start in starts), key=lambda end: end[0])
    shares = np.zeros(len(common.reference.classes))
    shares[there] = parts.mean(axis=0)
    return Mixture(shares, there[parts.argmax(axis=1)].astype(np.int32))


def _settled(cells: F64, means: F64, shift: F64) -> tuple[float, F64]:
    """Mean log-likelihood (but for a constant) and each cell's parts (n, k) after the rounds, from one start."""
    dimensions = cells.shape[1]
    shares = np.full(len(means), 1.0 / len(means))
    distances = _distances(cells - shift, means)
    width = max(float(distances.min(axis=1).mean()) / dimensions, _LEAST_WIDTH)
    likelihood, parts = -np.inf, np.empty((0, 0))
    for _ in range(_ROUNDS):
        logs = np.log(shares + _NO_SHARE) - distances / (2.0 * width)
        top = logs.max(axis=1, keepdims=True)
        parts = np.exp(logs - top)
        sums = parts.sum(axis=1, keepdims=True)
        likelihood = float(np.mean(top + np.log(sums))) - dimensions / 2.0 * np.log(width)
        parts /= sums
        shares = parts.mean(axis=0)
        shift = (cells - parts @ means).mean(axis=0)
        distances = _distances(cells - shift, means)
        width = max(float((parts * distances).sum()) / cells.size, _LEAST_WIDTH)
    return likelihood, parts


def _distances(cells: F64, means: F64) -> F64:
    """Squared distances (n, k)."""
    table = np.einsum("ij,ij->i", cells, cells)[:, None] + np.einsum("ij,ij->i", means, means)
    return np.asarray(np.maximum(table - 2.0 * cells @ means.T, 0.0))
