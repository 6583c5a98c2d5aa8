"""What a certainty is good for: how accurate the rest is when the least certain calls are left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import Bools

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Selective:
    """One certainty as a ranking of calls; its scale does not matter."""

    auroc: float | None  # chance that a right call is more certain than a wrong one; None where all or none are right
    area: float  # mean accuracy over all coverages, 0..1
    best_area: float  # the same for a certainty that puts every right call first
    curve: tuple[tuple[float, float], ...]  # (share of cells kept, their accuracy), the most certain kept

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def selective(certainty: F64, right: Bools) -> Selective | None:
    """Judge a certainty (n,) by which calls were right (n,); None without cells, ValueError for NaN.

    Equal certainties cannot be told apart: each has the accuracy that leaving out at random among them would give.
    """
    if not len(right):
        return None
    kept = accuracies(certainty, right)
    rows = [max(1, round(coverage * len(right))) for coverage in COVERAGES]
    return Selective(
        auroc=auroc(certainty[right], certainty[~right]),
        area=float(kept.mean()),
        best_area=float(accuracies(right.astype(np.float64), right).mean()),
        curve=tuple((row / len(right), float(kept[row - 1])) for row in dict.fromkeys(rows)),
    )


def accuracies(certainty: F64, right: Bools) -> F64:
    """Expected accuracy of the 1, 2, ... n most certain cells, (n,). Raises ValueError for NaN."""
    if np.isnan(certainty).any():
        raise ValueError("a certainty that is not a number ranks nothing")
    values, place, sizes = np.unique(-np.asarray(certainty, dtype=np.float64), return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=right, minlength=len(values))
    expected = np.repeat(hits / sizes, sizes)
    return np.asarray(np.cumsum(expected) / np.arange(1, len(right) + 1))


def auroc(higher: npt.ArrayLike, lower: npt.ArrayLike) -> float | None:
    """Chance that a value of `higher` is above one of `lower`, ties count half; None where either has no value.

    The Mann-Whitney statistic. Raises ValueError for NaN.
    """
    one, two = np.asarray(higher, dtype=np.float64), np.sort(np.asarray(lower, dtype=np.float64))
    if np.isnan(one).any() or np.isnan(two).any():
        raise ValueError("a score that is not a number ranks nothing")
    if not one.size or not two.size:
        return None
    below = np.searchsorted(two, one, side="left")
    upto = np.searchsorted(two, one, side="right")
    return float((below + upto).sum() / (2 * one.size * two.size))
