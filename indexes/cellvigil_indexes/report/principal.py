"""Principal components of a space: how many explain 95 % of the variance, and which encoder they come from. Pure.

The paper's figures 5 and 6, fourth row: "PCA-based intrinsic dimensionality plots ... and intra-dataset block
contributions of individual encoders to the top PCA components" (section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32

F64 = npt.NDArray[np.float64]

EXPLAINED = 0.95
"""Share of the variance that the paper's intrinsic dimension stands for."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The principal components of m cells, the strongest first."""

    variances: F64  # (r,) of every component, descending, r = min(m - 1, d)
    scores: F32  # (m, kept) the cells' coordinates
    loadings: F32  # (d, kept) unit columns; all 0 where a component has no variance

    def project(self, dimensions: int) -> F32:
        """The cells in the first so many components (all that were kept, if fewer): (m, dimensions)."""
        return self.scores[:, :dimensions]


def components(vectors: F32, kept: int) -> Components:
    """Principal components of (m, d) vectors about their mean, `kept` of them in full (fewer if there are fewer).

    By the eigenvectors of whichever is smaller, the (d, d) scatter or the (m, m) products of the centred cells; in
    double precision, so that it does not depend on the machine's block sizes. The sign of a component is such that its
    largest loading is positive.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    cells, width = centred.shape
    rank = min(cells - 1, width)
    small = centred.T @ centred if width <= cells else centred @ centred.T
    values, sides = np.linalg.eigh(small)
    values = np.maximum(values[::-1][:rank], 0)
    sides = sides[:, ::-1][:, : min(kept, rank)]
    lengths = np.sqrt(values[: sides.shape[1]])
    there = lengths > lengths.max(initial=0) * 1e-7
    if width <= cells:
        loadings = sides * there
    else:
        loadings = centred.T @ (sides * np.divide(1, lengths, out=np.zeros_like(lengths), where=there))
    loadings = loadings * _signs(loadings)
    scores = centred @ loadings
    return Components(values / max(cells - 1, 1), scores.astype(np.float32), loadings.astype(np.float32))


def dimension_for(variances: F64, explained: float = EXPLAINED) -> int:
    """The fewest leading components whose variances sum to the share `explained` of all; 0 where nothing varies."""
    whole = variances.sum()
    if whole <= 0:
        return 0
    return int(np.searchsorted(np.cumsum(variances) / whole, explained - 1e-12)) + 1


def block_shares(loadings: F32, blocks: Sequence[tuple[str, slice]]) -> dict[str, F64]:
    """Each encoder's share of each component: the sum of its columns' squared loadings, (kept,); shares sum to 1."""
    squares = np.square(loadings.astype(np.float64))
    whole = np.maximum(squares.sum(axis=0), np.finfo(np.float64).tiny)
    return {name: squares[columns].sum(axis=0) / whole for name, columns in blocks}


def _signs(loadings: F64) -> F64:
    largest = np.abs(loadings).argmax(axis=0)
    return np.where(loadings[largest, np.arange(loadings.shape[1])] < 0, -1.0, 1.0)
