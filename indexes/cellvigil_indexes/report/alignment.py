"""How alike two encoders arrange the same cells: centred kernel alignment with a Gaussian kernel. Pure.

Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, section 3 (HSIC, normalised),
as the Frontiers paper uses it (section 3.1, figure 5, third row). The paper's HSIC is biased upwards where the kernel
is narrow or the cells few; beside it stands the unbiased one (Song et al., JMLR 2012, equation 5), which is 0 on the
mean for spaces that have nothing in common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32

F64 = npt.NDArray[np.float64]

BANDWIDTH = 0.8
"""sigma as a share of the median distance between cells: the widest that Kornblith et al. try, and their best."""


def gaussian_kernel(vectors: F32, bandwidth: float = BANDWIDTH) -> F64:
    """exp(-|x - y|^2 / (2 sigma^2)) of all pairs, sigma = bandwidth x median distance of different cells: (m, m).

    `vectors` is (m, d). Cells that are all alike, and one alone, have a kernel of ones.
    """
    if len(vectors) < 2:
        return np.ones((len(vectors), len(vectors)))
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    lengths = np.einsum("ij,ij->i", centred, centred)
    squared = np.maximum(lengths[:, None] + lengths[None, :] - 2 * centred @ centred.T, 0)
    np.fill_diagonal(squared, 0)
    median = float(np.median(squared[np.triu_indices(len(squared), 1)]))  # of squares: the square of the median
    if median <= 0:
        return np.ones_like(squared)
    return np.asarray(np.exp(-squared / (2 * bandwidth**2 * median)))


def alignments(kernels: list[F64], *, debiased: bool) -> F64:
    """CKA of every two of these (m, m) kernels of the same cells, (spaces, spaces), symmetric.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)); NaN where one is constant. Biased: in 0..1. Debiased: 1 for the same
    arrangement, about 0 for unrelated ones, a little below 0 at times.
    """
    centre = _u_centred if debiased else _centred
    centred = [centre(kernel) for kernel in kernels]
    return np.array([[_aligned(a, b) for b in centred] for a in centred])


def _aligned(first: F64, second: F64) -> float:
    own = float(np.vdot(first, first)), float(np.vdot(second, second))
    if min(own) <= 1e-20 * first.size:
        return float("nan")
    return float(np.vdot(first, second) / np.sqrt(own[0] * own[1]))


def _centred(kernel: F64) -> F64:
    """H K H: the products of two such sum to the biased HSIC (times a constant)."""
    means = kernel.mean(axis=0)
    return np.asarray(kernel - means[:, None] - means[None, :] + kernel.mean())


def _u_centred(kernel: F64) -> F64:
    """Centred so that products of two such sum to the unbiased HSIC (times a constant); diagonal 0. Needs m >= 4."""
    m = len(kernel)
    if m < 4:
        return np.zeros_like(kernel)
    bare = kernel - np.diag(np.diag(kernel))
    sums = bare.sum(axis=0)
    out = bare - sums[:, None] / (m - 2) - sums[None, :] / (m - 2) + sums.sum() / ((m - 1) * (m - 2))
    np.fill_diagonal(out, 0)
    return np.asarray(out)
