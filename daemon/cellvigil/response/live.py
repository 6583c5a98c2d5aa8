"""Live index of a well, and its response against the controls, each with its uncertainty. Pure.

L(t) = live(t) / live(t0), with counts, not shares: dead cells detach, and a share would not see them go. Response =
1 - L / median L of the controls at that time (DESIGN.md, "What a count means").
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from cellvigil.response.deviation import medians
from cellvigil.response.epochs import Epochs
from cellvigil.response.intervals import wilson_ends
from cellvigil.response.values import F64, Bools, Estimate, Ints, PlateCounts

MIN_LIVE = 20
"""Live cells at t0 below which L is not told: the counting error of the divisor alone would be above 22 %."""

GRACE_S = 3600.0
"""A plate is often dosed on the bench and filmed minutes later: without a frame before, t0 may be so late."""

PRIOR = 4.0  # wells that wells' own intervals weigh like, where the spread between few of them is told

REACH = float(ndtri(0.975))
_LEAST_INDEX = 0.02  # what a well without live cells counts for where a logarithm is taken


def live_index(counts: PlateCounts, epochs: Epochs, treated_s: F64, correlation: float) -> Estimate:
    """(W, T) live(t) / live(t0); t0 = the last usable time point at or before `treated_s` (W,), seconds since 1970.

    Only the fields that count at both times are compared: a field that lacks or is out of focus then moves nothing,
    and differences in density between fields cancel. Across a new baseline L is chained: its last value goes on with
    live(t) / live(first of the new one). Before t0 it is told within the same baseline; it is NaN while paused, where
    no field is common, and where live(t0) is below `MIN_LIVE` (after a change of baseline: below its share L of that,
    since little of L hangs on it).

    Interval (95 %): of the log of a ratio of two counts, by square-and-add (Zou and Donner, Statistics in Medicine
    27:1693, 2008): each is a Poisson number of cells in view, of which a beta-binomial part lives (Wilson's interval
    for the effective number of cells, `correlation` between cells of a field; Williams, Applied Statistics 31:144,
    1982).
    """
    live = counts.counts[..., counts.columns("alive")].sum(axis=3).astype(np.float64)
    every = counts.counts[..., counts.columns("alive", "dying", "dead")].sum(axis=3).astype(np.float64)
    seen = counts.usable & ~epochs.paused & np.isfinite(counts.acquired_s)
    value, low, high = (np.full(seen.shape, np.nan) for _ in range(3))
    for row, origin in enumerate(origins(counts.acquired_s, seen, treated_s)):
        if origin >= 0:
            cells = _Cells(live[row], every[row], counts.counted[row], correlation)
            value[row], low[row], high[row] = _chained(cells, seen[row], epochs.baseline[row], int(origin))
    return Estimate(value, low, high)


def response(live: Estimate, controls: Bools) -> Estimate:
    """(W, T) 1 - L / median L of the well's controls (W, W) at the same ordinal time point; NaN where there is none.

    Wells of one time point are acquired minutes apart and count as simultaneous; nothing is interpolated, since the
    controls that are there at that time are enough for a median. Interval (95 %): that of L and that of the controls'
    median combined on the log scale (square-and-add: Zou and Donner, Statistics in Medicine 27:1693, 2008), the
    median's from the moderated spread between control wells, t-corrected. Without two controls there is a value, but no
    interval.
    """
    middle, error, wells = control_median(live, controls)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = live.value / middle
        reach = control_reach(error, wells)
        down = np.hypot(np.log(live.value / live.low), reach)
        up = np.hypot(np.log(live.high / live.value), reach)
        low, high = 1 - ratio * np.exp(up), 1 - ratio * np.exp(-down)
        none_left = live.value == 0  # nothing to take the log of: the upper end of L alone
        low = np.where(none_left, 1 - live.high / middle * np.exp(reach), low)
        high = np.where(none_left & np.isfinite(low), 1.0, high)
    return Estimate(1 - ratio, low, high)


def control_reach(error: F64, wells: Ints) -> F64:
    """(W, T) half the 95 % interval of the logarithm of the controls' median L, of what `control_median` gives."""
    return np.asarray(stdtrit(np.maximum(wells - 1, 1) + PRIOR, 0.975) * error)


def control_median(live: Estimate, controls: Bools) -> tuple[F64, F64, Ints]:
    """Of each well's controls: median L (W, T), standard error of its log (NaN below two wells), and their number.

    The error is that of a mean, 1.25 times (the median of normal values; Kendall and Stuart, sect. 14.12), with the
    spread between the wells moderated by their own intervals, which weigh like `PRIOR` wells.
    """
    shape = live.value.shape
    middle, error, wells = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    own = np.diag(controls.any(axis=0))  # with itself a control has the same set as its neighbours: one sorting for all
    logs, doubts = _logs(live)
    for key in np.unique(controls | own, axis=0):
        members, rows = np.flatnonzero(key), np.flatnonzero(((controls | own) == key).all(axis=1))
        there = np.isfinite(live.value[members])
        median, found = medians(live.value[members], there)
        spread = _log_variance(logs[members], doubts[members], there, found)
        inside = np.isin(rows, members) & ~controls[rows, rows]
        place = np.where(inside, np.searchsorted(members, rows), members.size)
        middle[rows] = np.where(median > 0, median, np.nan)[place]
        error[rows], wells[rows] = 1.2533 * np.sqrt(spread)[place], found[place]
    return middle, error, wells


def _logs(live: Estimate) -> tuple[F64, F64]:
    """(W, T) log L, and its variance by the interval."""
    with np.errstate(invalid="ignore"):
        log, low, high = (np.log(np.maximum(each, _LEAST_INDEX)) for each in (live.value, live.low, live.high))
    return log, np.square((high - low) / (2 * REACH))


def _log_variance(logs: F64, doubts: F64, there: Bools, found: Ints) -> F64:
    """(n + 1, T) variance of the mean of log L over all but one of n wells, and over all (last row); NaN below two."""
    none = np.zeros((1, logs.shape[1]))
    centred = np.where(there, logs, 0.0)
    centred = np.where(there, centred - centred.sum(axis=0) / np.maximum(there.sum(axis=0), 1), 0.0)
    sums, squares, doubt = (
        each.sum(axis=0) - np.vstack([each, none])
        for each in (centred, np.square(centred), np.where(there, doubts, 0.0))
    )
    many = np.maximum(found, 2)
    between = np.maximum(squares - np.square(sums) / many, 0.0) + PRIOR * doubt / many
    return np.where(found > 1, between / (many - 1 + PRIOR) / many, np.nan)


class _Cells:
    """One well's cells by time and field, and how to compare two times."""

    def __init__(self, live: F64, every: F64, counted: Bools, correlation: float) -> None:
        self.live, self.every, self.counted, self.correlation = live, every, counted, correlation

    def against(self, origin: int) -> tuple[F64, F64, F64, F64]:
        """(T,) live(t) over the fields common with `origin`, live(origin) over the same, and how far the interval of
        their ratio's logarithm reaches down and up, squared.
        """
        common = self.counted & self.counted[origin]
        now, then = np.where(common, self.live, 0), np.where(common, self.live[origin], 0)
        down, up = self._reach(now, np.where(common, self.every, 0))
        down_then, up_then = self._reach(then, np.where(common, self.every[origin], 0))
        return now.sum(axis=1), then.sum(axis=1), down + up_then, up + down_then

    def _reach(self, live: F64, cells: F64) -> tuple[F64, F64]:
        """(T,) squared reach, down and up, of log live = log cells in view + log share of them that lives."""
        total = cells.sum(axis=1)
        crowd = np.square(cells).sum(axis=1) / np.maximum(total, 1)  # cells in the field of a typical cell
        share = (live.sum(axis=1) + 0.5) / (total + 1)
        low, high = wilson_ends(share, np.maximum(total, 1) / (1 + np.maximum(crowd - 1, 0) * self.correlation), REACH)
        number = np.square(REACH) / (total + 1)
        return number + np.square(np.log(share / low)), number + np.square(np.log(high / share))


def origins(acquired_s: F64, seen: Bools, treated_s: F64) -> Ints:
    """(W,) place of t0 on the time axis: the last that was `seen` (W, T) at or before the treatment, else the first
    within `GRACE_S` after it; -1 where there is none.
    """
    if not seen.shape[1]:
        return np.full(len(seen), -1, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        before = seen & (acquired_s <= treated_s[:, None])
        soon = seen & ~before & (acquired_s <= treated_s[:, None] + GRACE_S)
    last, first = seen.shape[1] - 1 - np.argmax(before[:, ::-1], axis=1), np.argmax(soon, axis=1)
    return np.where(before.any(axis=1), last, np.where(soon.any(axis=1), first, -1)).astype(np.int64)


def _chained(cells: _Cells, seen: Bools, baseline: Ints, origin: int) -> tuple[F64, F64, F64]:
    """(T,) L and its interval of one well, from `origin`'s baseline on."""
    value, low, high = (np.full(len(seen), np.nan) for _ in range(3))
    level, carried, reference = 1.0, (0.0, 0.0), origin
    for number in np.unique(baseline[seen & (baseline >= baseline[origin])]):
        places = np.flatnonzero(seen & (baseline == number))
        if number != baseline[origin]:
            reference = int(places[0])
        now, then, *reaches = (each[places] for each in cells.against(reference))
        enough = (cells.counted[places] & cells.counted[reference]).any(axis=1)
        enough &= then >= max(MIN_LIVE * min(level, 1.0), 1.0)
        down, up = (np.where(places == reference, 0.0, each) + old for each, old in zip(reaches, carried, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(enough, level * now / then, np.nan)
            steady = np.where(enough, level * (now + 0.5) / (then + 0.5), np.nan)
        value[places] = ratio
        low[places] = np.minimum(steady * np.exp(-np.sqrt(down)), ratio)
        high[places] = np.maximum(steady * np.exp(np.sqrt(up)), ratio)
        known = np.flatnonzero(np.isfinite(ratio))
        if not known.size:
            break  # the chain is broken: nothing to go on from
        last = known[-1]
        level, carried = float(ratio[last] or steady[last]), (float(down[last]), float(up[last]))
    return value, low, high
