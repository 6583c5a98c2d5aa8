"""How much wells without an effect go apart, told by the control wells at that time. Pure; part of `onset`.

Few controls know their own spread badly, and the tails that matter (one well in a thousand) not at all. So it is drawn
towards what may be expected: how far all wells of the plate lay apart before the treatment, or, where that is not known
either, an intra-class correlation of 0.15. Simulations (benchmarks/onset.py) set the figures below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from cellvigil.response.deviation import Looks, medians, own_baseline, risen
from cellvigil.response.values import F64, Bools, Ints

APART = 0.022  # variance between wells before anything is seen, square radians: a correlation of 0.15 at low shares
DRIFT, LEAST_DRIFT = 1.7, 0.003  # variance of wells' drift from their baselines: so much of that between them, and more

PRIOR = 8.0  # wells that what is known beforehand weighs like
WORTH = 1.5  # independent looks that the fading past of a control is worth: its deviation lasts for hours
MEMORY_S = 43200.0  # how fast the past fades, and how long a well takes to drift apart
FLICKER_MEMORY_S = 86400.0  # the same for the change from look to look
FLICKER, FLICKER_PRIOR = 0.008, 10.0  # that change before anything is seen, as a correlation, and its weight in changes

AMPLIFIED = 0.1  # of the squared distance by which a well began above the controls: added variance of its drift
_LEAST = 0.08  # radians: what comes and goes within minutes, from the first look on


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What the controls say at each time point."""

    middle: F64  # (T,) median rise
    present: Ints  # (T,) controls that have a look
    share: F64  # (T,) variance of that median over that of one well
    lasting: F64  # (T,) variance, beyond binomial noise, that `scale` multiplies
    noise: F64  # (T,) mean binomial variance of a control
    level: F64  # (T,) median of the controls' baselines, of those seen by then
    settled: F64  # (T,) how much of a drift may have happened by then, 0 to 1
    scale: F64  # (T,) variance between wells over what noise and `lasting` say; below 1 for quiet plates
    flicker: F64  # (T,) variance that comes and goes between two looks, as an intra-class correlation

    def deviation(self, rise: F64, noise: F64, level: F64) -> F64:
        """(n, T) how many standard deviations wells lie above the controls; what `deviation.risen` gives."""
        own = noise + self.lasting + self.share * (self.noise + self.lasting)
        above = np.maximum(level[:, None] - self.level, 0.0)
        known = self.scale * own + AMPLIFIED * np.square(above) * self.settled
        return np.asarray((rise - self._expected(level)) / np.sqrt(known))

    def _expected(self, level: F64) -> F64:
        """(n, T) rise of wells without an effect: the controls' own, or, of one that began above them, what the same
        factor on the odds of a dead cell makes of it, if that is more: where deaths multiply, they do so most, in
        absolute terms, where there were many.
        """
        factor = np.maximum(_log_odds(self.level + self.middle) - _log_odds(self.level), 0.0)
        high = np.maximum(level[:, None], self.level)
        raised = np.arcsin(np.sqrt(expit(_log_odds(high) + factor))) - high
        return np.where(level[:, None] > self.level, np.maximum(self.middle, raised), self.middle)


def _log_odds(angle: F64) -> F64:
    """Of the share that an angle stands for; not below 2 %, where few cells would make large factors."""
    return np.asarray(logit(np.clip(np.square(np.sin(np.clip(angle, 0.0, np.pi / 2))), 0.02, 0.98)))


def spread(seen: Looks, rows: Ints, alike: Ints, start: int, elapsed_s: F64) -> Spread:
    """Of the control wells `rows`; their baseline ends at the place `start` of the time axis (-1: before it begins).
    `alike`: the wells that are all untreated until then.

    Each control is held against the median of the others; squared deviations are averaged over the controls and, with
    fading weight, over the looks so far.
    """
    early = np.broadcast_to(np.arange(len(elapsed_s)) <= start, (len(rows), len(elapsed_s)))
    rise, noise, level = risen(seen, rows, early)
    there = seen.there[rows]
    middle, left = medians(rise, there)
    share = np.pi / (2 * np.maximum(left, 1) - 2 + np.pi)  # near pi / 2n, and 1 for one well
    since = np.maximum(elapsed_s - elapsed_s[max(start, 0)], 0.0)
    drifted = -np.expm1(-since / MEMORY_S)
    lasting = _drift(seen, alike, start) * drifted + _LEAST**2
    held = there & (left[:-1] > 0)
    square = np.where(held, np.square(rise - middle[:-1]) / ((noise + lasting) * (1 + share[:-1])), 0.0)
    wells = held.sum(axis=0)
    scale = _scale(square.sum(axis=0) / np.maximum(wells, 1), np.maximum(wells - 1, 0), elapsed_s)
    mean = np.where(there, noise, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    flicker, usual = _flicker(seen, rows, elapsed_s), _usual(level, np.logical_or.accumulate(there, axis=1))
    return Spread(middle[-1], left[-1], share[-1], lasting, mean, usual, drifted, scale, flicker)


def _usual(level: F64, known: Bools) -> F64:
    """(T,) median of the levels (n,) known by then (n, T)."""
    return np.asarray(medians(np.broadcast_to(level[:, None], known.shape), known)[0][-1])


def _drift(seen: Looks, rows: Ints, start: int) -> float:
    """How far wells may drift apart, as a variance, by how far they lie apart before the treatment, when all are alike.

    Were all of that to fade, drifts would have twice its variance. Drawn towards `APART`, and not above its `DRIFT`.
    """
    early = np.broadcast_to(np.arange(seen.there.shape[1]) <= start, (len(rows), seen.there.shape[1]))
    known = (seen.there[rows] & early).any(axis=1)
    wells = max(int(known.sum()), 1)
    level, noise = own_baseline(seen.there[rows], seen.angle[rows], seen.variance[rows], early)
    between = max(float(np.var(level[known], ddof=1) - noise[known].mean()), 0.0) if wells > 1 else APART
    between = (PRIOR * APART + (wells - 1) * between) / (PRIOR + wells - 1)
    return min(LEAST_DRIFT + DRIFT * between, LEAST_DRIFT + DRIFT * APART)


def _scale(square: F64, freedom: Ints, elapsed_s: F64) -> F64:
    """(T,) mean squares over the fading past, drawn towards 1."""
    summed = fading(square * freedom, elapsed_s, MEMORY_S)
    looks = fading(freedom.astype(np.float64), elapsed_s, MEMORY_S)
    weight = np.minimum(WORTH * np.maximum.accumulate(freedom), looks)
    return np.asarray((PRIOR + weight * summed / np.where(looks > 0, looks, 1.0)) / (PRIOR + weight))


def _flicker(seen: Looks, rows: Ints, elapsed_s: F64) -> F64:
    """(T,) mean squared change between successive looks, beyond what befell all controls alike and binomial noise, as
    an intra-class correlation: 4 times the variance, half of which each of the two looks has.
    """
    there, before, number = seen.there[rows], seen.before[rows], seen.baseline[rows]
    older = np.maximum(before, 0)
    same = there & (before >= 0) & (np.take_along_axis(number, older, axis=1) == number)
    wells = same.sum(axis=0)
    freedom = np.maximum(wells - 1, 0) / np.maximum(wells, 1)
    change = np.where(same, seen.angle[rows] - np.take_along_axis(seen.angle[rows], older, axis=1), 0.0)
    change = np.where(same, change - change.sum(axis=0) / np.maximum(wells, 1), 0.0)
    noise = np.where(same, seen.variance[rows] + np.take_along_axis(seen.variance[rows], older, axis=1), 0.0)
    summed = fading(2 * (np.square(change).sum(axis=0) - freedom * noise.sum(axis=0)), elapsed_s, FLICKER_MEMORY_S)
    changes = fading(freedom * wells, elapsed_s, FLICKER_MEMORY_S)
    return np.maximum((FLICKER * FLICKER_PRIOR + summed) / (FLICKER_PRIOR + changes), 0.0)


def fading(values: F64, elapsed_s: F64, memory_s: float) -> F64:
    """(T,) sums over the past, each value fading by 1 / e in `memory_s`."""
    kept = np.exp(-np.diff(elapsed_s, prepend=elapsed_s[:1]) / memory_s)
    out, total = np.zeros(len(values)), 0.0
    for place, (value, keep) in enumerate(zip(values.tolist(), kept.tolist(), strict=True)):
        out[place] = total = total * keep + value
    return out
