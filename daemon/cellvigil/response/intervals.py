"""Ends of 95 % intervals of a share whose variance depends on the share itself: score intervals. Pure.

Wilson, JASA 22 (1927) 209; with effective numbers of cells and t for z as Korn and Graubard, Survey Methodology 24
(1998) 193, and Franco et al., J. Surv. Stat. Methodol. 7 (2019) 334, compare them for cells that come in clusters. An
end is the share whose own spread just explains what was seen: it stays within 0..1, and 0 % and 100 % still have an
interval.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from cellvigil.response.values import F64, Bools

LEVEL = 0.95
NORMAL = 1.959964  # standard deviations that a 95 % interval of a normal figure reaches to each side
_STEPS = 22  # halvings of an interval no longer than 1: ends to 3e-7


def quantile(freedom: float) -> float:
    """How many standard deviations a 95 % interval reaches to each side: Student's t; normal where `freedom` is inf."""
    return NORMAL if np.isinf(freedom) else float(stdtrit(freedom, 0.5 + LEVEL / 2))


def wilson_ends(share: F64, effective: F64, reach: F64 | float) -> tuple[F64, F64]:
    """Ends (low, high) for shares 0..1 that were seen on `effective` independent cells; arrays that broadcast.

    `reach` is the quantile. NaN where the share is NaN or there are no cells.
    """
    known = np.where(effective > 0, effective, np.nan)
    square = np.square(reach) / known
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def score_ends(share: F64, spread: F64, reach: F64 | float, fixed: F64 | float = 0.0) -> tuple[F64, F64]:
    """Ends (low, high) where (p - share)^2 = reach^2 * variance(p) + fixed, found by halving.

    Args:
        share: (...) 0..1, NaN = none.
        spread: (..., 4) coefficients of the variance at a true share p: spread[0] + spread[1] p + ... + spread[3] p^3.
        reach: the quantile that the standard deviation is multiplied with.
        fixed: (...) square of what widens the interval whatever the share is.
    """
    c0, c1, c2, c3 = np.moveaxis(spread, -1, 0)

    def explained(p: F64) -> Bools:
        variance = np.maximum(c0 + p * (c1 + p * (c2 + p * c3)), 0)
        return np.asarray(np.square(p - share) <= np.square(reach) * variance + fixed)

    def end(limit: float) -> F64:
        inner, outer = share, np.where(np.isnan(share), np.nan, limit)
        whole = explained(outer)
        for _ in range(_STEPS):
            middle = (inner + outer) / 2
            within = explained(middle)
            inner, outer = np.where(within, middle, inner), np.where(within, outer, middle)
        return np.where(whole, np.where(np.isnan(share), np.nan, limit), outer)

    return end(0.0), end(1.0)
