"""How far a well's dying and dead share has gone from its own baseline and from its controls. Pure; part of `onset`.

The scale is arcsin sqrt(share) in radians, on which binomial noise has variance 1 / 4n whatever the share (Anscombe,
Biometrika 35:246, 1948) and a beta-binomial well-to-well spread changes little as all wells' deaths rise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.response.epochs import Epochs
from cellvigil.response.values import F64, Bools, Ints, PlateCounts

MIN_CELLS = 10
"""Cells below which a well's share is not looked at."""

BASELINE_LOOKS = 4
"""Looks up to the treatment, the last ones, whose mean is a well's own baseline."""


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Every well's looks on the variance-stabilised scale."""

    there: Bools  # (W, T) settled, in focus, not paused, and with enough cells
    angle: F64  # (W, T) radians; 0 where there is no look
    variance: F64  # (W, T) binomial variance of it; 0 where there is no look
    baseline: Ints  # (W, T) number of the baseline
    before: Ints  # (W, T) place of the look before; -1 = none


def looks(counts: PlateCounts, epochs: Epochs) -> Looks:
    """The looks of all wells."""
    harmed = counts.total("dying", "dead").astype(np.float64)
    cells = counts.total("alive", "dying", "dead").astype(np.float64)
    there = counts.usable & ~epochs.paused & (cells >= MIN_CELLS) & np.isfinite(counts.acquired_s)
    angle = np.where(there, np.arcsin(np.sqrt((harmed + 0.375) / (cells + 0.75))), 0.0)
    variance = np.where(there, 1 / (4 * cells + 2), 0.0)
    last = np.maximum.accumulate(np.where(there, np.arange(there.shape[1]), -1), axis=1)
    before = np.concatenate([np.full((len(last), 1), -1), last[:, :-1]], axis=1)
    return Looks(there, angle, variance, epochs.baseline.astype(np.int64), before)


def risen(seen: Looks, rows: Ints, early: Bools) -> tuple[F64, F64, F64]:
    """(n, T) rise of the wells `rows` since their baseline, median of three looks; its binomial variance; and the level
    of that baseline, (n,).

    `early` (n, T): looks up to the treatment. The baseline is the mean of the last `BASELINE_LOOKS` of them; a well
    without one takes its first look. Over a change of baseline the rise is chained: it goes on from its last value, so
    that a dying well is not declared healthy. One odd look of three (debris) moves nothing.
    """
    there, angle, variance = seen.there[rows], seen.angle[rows], seen.variance[rows]
    before, number = seen.before[rows], seen.baseline[rows]
    chained, added = _chained(there, angle, variance, before, number)
    level, noise = own_baseline(there, chained, variance, early)
    rise = chained - level[:, None]
    one, two = np.maximum(before, 0), np.maximum(np.take_along_axis(before, np.maximum(before, 0), axis=1), 0)
    second, third = (np.take_along_axis(rise, places, axis=1) for places in (one, two))
    many = (before >= 0) & (np.take_along_axis(before, one, axis=1) >= 0)
    low, high = np.minimum(rise, second), np.maximum(rise, second)
    smooth = np.where(many, np.maximum(low, np.minimum(high, third)), np.where(before >= 0, (low + high) / 2, rise))
    return smooth, 0.5 * variance + added + noise[:, None], level


def _chained(there: Bools, angle: F64, variance: F64, before: Ints, number: Ints) -> tuple[F64, F64]:
    """(n, T) angles with the jumps at new baselines taken out, and the variance that this adds."""
    older = np.maximum(before, 0)
    fresh = there & (before >= 0) & (np.take_along_axis(number, older, axis=1) != number)
    jump = np.where(fresh, angle - np.take_along_axis(angle, older, axis=1), 0.0)
    error = np.where(fresh, variance + np.take_along_axis(variance, older, axis=1), 0.0)
    return angle - np.cumsum(jump, axis=1), np.cumsum(error, axis=1)


def own_baseline(there: Bools, angle: F64, variance: F64, early: Bools) -> tuple[F64, F64]:
    """(n,) level before the treatment and its variance."""
    mine = there & early
    first = there & (np.cumsum(there, axis=1) == 1)
    mine |= first & ~mine.any(axis=1, keepdims=True)
    left = np.cumsum(mine[:, ::-1], axis=1)[:, ::-1]  # looks of the baseline from here on
    mine &= left <= BASELINE_LOOKS
    count = np.maximum(mine.sum(axis=1), 1)
    return np.where(mine, angle, 0).sum(axis=1) / count, np.where(mine, variance, 0).sum(axis=1) / np.square(count)


def medians(rise: F64, there: Bools) -> tuple[F64, Ints]:
    """Over controls (n, T): the median at each time of all (row n) and of all but one (row of that one), and of how
    many. 0 where there is none.
    """
    count, points = rise.shape
    if not count:
        return np.zeros((1, points)), np.zeros((1, points), dtype=np.int64)
    order = np.sort(np.where(there, rise, np.inf), axis=0)
    present = there.sum(axis=0)
    rank = np.argsort(np.argsort(np.where(there, rise, np.inf), axis=0, kind="stable"), axis=0)
    left = np.concatenate([np.where(there, present - 1, present), present[None]])
    rank = np.concatenate([np.where(there, rank, count), np.full((1, points), count)])
    low, high = np.maximum(left - 1, 0) // 2, left // 2
    both = [np.minimum(place + (place >= rank), count - 1) for place in (low, high)]
    columns = np.arange(points)
    picked = [np.where(left > 0, order[place, columns], 0.0) for place in both]
    return np.where(left > 0, (picked[0] + picked[1]) / 2, 0.0), left
