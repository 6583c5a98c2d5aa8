"""Whether a probability of being right is kept: the reliability diagram, and its error without the bias of small bins.

The usual (plug-in) expected calibration error is above zero for a perfectly calibrated model: each bin's share of right
calls scatters, and the distance to it is counted. Kumar, Liang and Ma, "Verified Uncertainty Calibration" (NeurIPS
2019, section 5) take the expected scatter off each bin's squared error, after Broecker (2012) and Ferro and Fricker
(2012). Here it is taken off as the variance of the mean of d = p - right over a bin, s_d^2 / n, which is their
y (1 - y) / (n - 1) wherever p is the same throughout a bin, and is unbiased where it is not.

We debias the squared (l2) error because only there it can be done exactly: its mean is 0 for a calibrated model, and it
may come out negative. Its root is never below the l1 error of the same bins, so a promise kept in l2 is kept in l1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import I64, Bools

BINS = 15
CELLS_A_BIN = 20  # fewer say nothing, so there are fewer bins
_Z95 = 1.959964

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Cells of like probability."""

    n: int
    probability: float  # mean
    accuracy: float  # share that was right
    low: float  # of the accuracy: Wilson's 95 % interval
    high: float
    scatter: float  # expected squared distance of probability and accuracy by chance alone; NaN for one cell


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a probability of being right and being right go together."""

    n: int
    squared: float  # debiased l2 error, squared; scatters around 0, also below, where the probability is kept
    error: float  # its root; 0 where `squared` is below 0
    plug_in: float  # the usual expected calibration error (l1), biased upwards: to compare with others' figures
    mean_probability: float
    accuracy: float
    bins: tuple[Bin, ...]  # by probability

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def reliability(probability: F64, right: Bools, bins: int = BINS) -> Reliability | None:
    """Compare the probability of being right, (n,) in 0..1, with being right, (n,); None for fewer than two cells.

    Bins hold about the same number of cells; cells of equal probability share one.
    """
    if len(probability) < 2:
        return None
    p, hit = np.asarray(probability, dtype=np.float64), np.asarray(right, dtype=np.float64)
    found = tuple(_bin(p[rows], hit[rows]) for rows in equal_bins(p, bins))
    weights = np.array([each.n for each in found]) / len(p)
    gaps = np.array([each.probability - each.accuracy for each in found])
    scatter = np.array([each.scatter for each in found])
    squared = float(np.sum(weights * (gaps**2 - scatter)))
    return Reliability(
        n=len(p),
        squared=squared,
        error=float(np.sqrt(max(squared, 0.0))),
        plug_in=float(np.sum(weights * np.abs(gaps))),
        mean_probability=float(p.mean()),
        accuracy=float(hit.mean()),
        bins=found,
    )


def equal_bins(values: F64, bins: int) -> list[I64]:
    """Rows by value, cut into at most `bins` parts of about the same size, each of two or more; ties stay together."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    wanted = max(1, min(bins, len(values) // CELLS_A_BIN))
    cuts = {int(np.searchsorted(ordered, ordered[len(values) * i // wanted], side="left")) for i in range(1, wanted)}
    inner: list[int] = []
    for cut in sorted(cuts):
        if cut - (inner[-1] if inner else 0) >= 2 and len(values) - cut >= 2:
            inner.append(cut)
    return [np.asarray(part, dtype=np.int64) for part in np.split(order, inner)]


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), without continuity correction; n of 1 or more."""
    share, z2 = right / n, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def mean_error(runs: Sequence[Reliability]) -> float:
    """The root of the mean debiased squared error over runs: averaged before the root, so that it stays unbiased."""
    return float(np.sqrt(max(float(np.mean([run.squared for run in runs])), 0.0)))


def _bin(p: F64, hit: F64) -> Bin:
    low, high = wilson(int(hit.sum()), len(p))
    scatter = float(np.var(p - hit, ddof=1) / len(p))
    return Bin(len(p), float(p.mean()), float(hit.mean()), low, high, scatter)
