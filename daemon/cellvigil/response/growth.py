"""Growth-rate inhibition: what a treatment does to the rate at which live cells multiply, whatever that rate is. Pure.

Hafner et al., "Growth rate inhibition metrics correct for confounders in measuring sensitivity to cancer drugs", Nature
Methods 13:521 (2016), equation 1: GR = 2^(log2(x / x0) / log2(xc / x0)) - 1, with x live cells now, x0 at treatment, xc
those of the controls now. 1 = as the controls, 0 = no growth, down to -1 = all dead. Counts are chained over new
baselines (`live.live_index`), so that the ratios stand in for the counts. Interval: those of the well's live index and
of the controls' median, combined on the scale of the exponent (square-and-add: Zou and Donner, Statistics in Medicine
27:1693, 2008; the ratio of logarithms to first order).
"""

from __future__ import annotations

import numpy as np

from cellvigil.response.live import origins
from cellvigil.response.values import F64, Bools, Estimate

_DOUBLING = float(np.log(2))

MIN_GROWTH = 1.1
"""What the controls must have grown to: below it GR divides by next to nothing (Hafner et al. ask for as much)."""


def growth_rate(live: Estimate, controls: Bools, treated_s: F64, acquired_s: F64, doubt: F64 | None = None) -> Estimate:
    """GR value of every well at every time point after treatment, (W, T); NaN where it means nothing.

    Args:
        live: (W, T) live index L(t) = live(t) / live(t0), chained; NaN where there is none.
        controls: (W, W) row: well; True where that well is one of its controls.
        treated_s: (W,) seconds since 1970; NaN = not treated: no GR.
        acquired_s: (W, T) seconds since 1970; NaN where there is no frame.
        doubt: (W, T) half the 95 % interval of the logarithm of the controls' median L; NaN or None = no interval.

    The controls' growth is the median of their L, from the treated well's own t0 on: controls that were treated at
    another time, or never, are held against the same stretch. NaN where it is below `MIN_GROWTH`, where no control has
    a value, and at or before t0. Suspension cells leave the field as they like: do not ask for theirs.
    """
    index, shape = live.value, live.value.shape
    found, low, high = (np.full(shape, np.nan) for _ in range(3))
    if not shape[1]:
        return Estimate(found, low, high)
    held = np.full(shape, np.nan) if doubt is None else doubt
    t0 = origins(acquired_s, np.isfinite(index) & np.isfinite(acquired_s), treated_s)
    groups, group = np.unique(np.column_stack([controls, t0]), axis=0, return_inverse=True)
    for number, key in enumerate(groups):
        origin = int(key[-1])
        if origin < 0:
            continue
        rows = np.flatnonzero(group.reshape(-1) == number)
        grown = median_of(since(index[key[:-1] > 0], origin))
        grown = np.where(grown >= MIN_GROWTH, grown, np.nan)
        grown[: origin + 1] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(since(index[rows], origin))
            found[rows] = np.exp(logs / np.log(grown) * _DOUBLING) - 1
            down, up = np.log(index[rows] / live.low[rows]), np.log(live.high[rows] / index[rows])
            low[rows], high[rows] = _ends(logs, np.log(grown), down, up, held[rows])
            none_left = index[rows] == 0  # nothing to take the log of: the upper end of L alone
            most = np.exp(np.log(since(live.high[rows], origin)) / np.log(grown) * _DOUBLING) - 1
            low[rows] = np.where(none_left & np.isfinite(most), -1.0, low[rows])
            high[rows] = np.where(none_left, most, high[rows])
    return Estimate(found, low, high)


def _ends(logs: F64, grown: F64, down: F64, up: F64, held: F64) -> tuple[F64, F64]:
    """Ends of GR (n, T) from log L (n, T) and how far it may be down and up, the log of the controls' growth (T,) and
    how far that may be off (n, T). NaN where the controls may not have grown at all.
    """
    exponent, sure = logs / grown, held < grown
    shared = np.abs(exponent) * held
    low = np.exp((exponent - np.hypot(down, shared) / grown) * _DOUBLING) - 1
    high = np.exp((exponent + np.hypot(up, shared) / grown) * _DOUBLING) - 1
    return np.where(sure, low, np.nan), np.where(sure, high, np.nan)


def since(index: F64, origin: int) -> F64:
    """Live indexes (n, T) as a share of what they were at `origin`: at the last value up to it, else the first at all.

    NaN for a well that had no live cell then.
    """
    known = np.isfinite(index)
    early = known[:, : origin + 1]
    last = origin - np.argmax(early[:, ::-1], axis=1)
    place = np.where(early.any(axis=1), last, np.argmax(known, axis=1))
    base = index[np.arange(len(index)), place]
    return np.asarray(index / np.where(base > 0, base, np.nan)[:, None])


def median_of(values: F64) -> F64:
    """(T,) median over the rows that have a value; NaN where none has."""
    found, some = np.full(values.shape[1], np.nan), np.isfinite(values).any(axis=0)
    if some.any():
        found[some] = np.nanmedian(values[:, some], axis=0)
    return found
