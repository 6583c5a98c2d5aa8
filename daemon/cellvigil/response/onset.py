"""When a treated well began to die faster than its controls. Pure; a function of the counts alone.

The promise is family-wise: at most `false_onset` chance of any false onset on a plate, over all its treated wells and
all looks of `horizon_h` hours. Statistic: the well's dying and dead share (arcsin sqrt, median of three looks), minus
its own baseline, minus the controls' median, over the spread between control wells at that time (`deviation`,
`spread`). Its limit is the largest of so many independent normal values, times a margin found by simulating assays
that are not normal (benchmarks/onset.py: beta-binomial wells whose deviations last or fade, few controls, debris,
defocus, missing and unequal looks). The share, and not the live count, because growth, crowding and cells that wander
make counts far noisier; dying cells are seen before they detach.

An onset stands at the time point at which the statistic crosses its limit; both follow from that time point and earlier
ones alone, so that no later image takes it back or moves it. What changes the record of earlier times may: a frame that
is processed late or written anew, an edited plate map or event.

What was tried and left: an anytime-valid likelihood ratio over Kalman innovations. It kept its promise for wells that
are Gaussian and alike, and broke it in most beta-binomial plates, where wells differ in how much they fluctuate; what
it gained by adding looks up was little, since a well's deviation persists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from cellvigil.data import frozen_array
from cellvigil.platemap import TREATED, PlatePlan
from cellvigil.response.deviation import looks, risen
from cellvigil.response.epochs import Epochs, controls
from cellvigil.response.spread import spread
from cellvigil.response.values import F64, Bools, Ints, PlateCounts

MIN_CONTROLS = 2
"""Control wells, seen at the time point itself, below which nothing is said."""

MARGIN = 1.32  # by simulation: what 60 wells and more need over the normal quantile
INDEPENDENT_H = 4.0  # hours after which a look counts as another one: nearer ones go together
FLICKER = 30.0  # the limit rises by so much of the controls' flicker, ...
MAX_FLICKER = 0.01  # ... and above this nothing is said: each look is as good as a new draw from a long tail


@dataclass(frozen=True, slots=True, eq=False)
class Onsets:
    """What was found, and how strong it is."""

    at_s: F64  # (W,) acquisition time of the look that crossed, seconds since 1970; NaN = none
    place: Ints  # (W,) its place on the time axis; -1 = none
    evidence: F64  # (W, T) statistic over its limit: an onset from 1 on; NaN where nothing can be said
    why_not: tuple[str, ...]  # (W,) why nothing can be said of a treated well, at its newest look; "" = it can

    def __post_init__(self) -> None:
        for name in ("at_s", "place", "evidence"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))


def onsets(
    counts: PlateCounts, plan: PlatePlan, treated_s: F64, epochs: Epochs, *, false_onset: float, horizon_h: float
) -> Onsets:
    """The onset of every treated well. `treated_s` (W,) seconds since 1970, NaN = unknown (`epochs.treated_s`).

    Tested are looks after the treatment, not paused, with at least `deviation.MIN_CELLS` cells; without a look before
    the treatment the first one is the baseline. Over a new baseline the rise is chained, and an onset found stays.
    """
    wells, points = counts.acquired_s.shape
    held, seen = controls(counts, plan), looks(counts, epochs)
    why_not = _untested(counts, plan, treated_s, held)
    tested = np.asarray([reason == "" for reason in why_not], dtype=np.bool_) & bool(points)
    with np.errstate(invalid="ignore"):
        early = counts.acquired_s <= treated_s[:, None]
    start = np.where(seen.there & early, np.arange(points), -1).max(axis=1, initial=-1)
    elapsed_s = _elapsed(counts.acquired_s)
    highest = limit(sum(each.role == TREATED for each in plan.wells.values()), false_onset, horizon_h)
    evidence, flickers = np.full((wells, points), np.nan), np.zeros((wells, points), dtype=np.bool_)
    for key in np.unique(np.column_stack([held, start])[tested], axis=0).astype(np.int64):
        rows = np.flatnonzero(tested & (held == key[:-1]).all(axis=1) & (start == key[-1]))
        of_controls = np.flatnonzero(key[:-1])
        theirs = spread(seen, of_controls, np.union1d(rows, of_controls), int(key[-1]), elapsed_s)
        flickers[rows] = theirs.flicker > MAX_FLICKER
        sure = (theirs.present >= MIN_CONTROLS) & (theirs.flicker <= MAX_FLICKER)
        over = theirs.deviation(*risen(seen, rows, early[rows])) / (highest * (1 + FLICKER * theirs.flicker))
        evidence[rows] = np.where(seen.there[rows] & ~early[rows] & sure, over, np.nan)
    crossed = np.nan_to_num(evidence, nan=0.0) >= 1
    place = np.where(crossed.any(axis=1), crossed.argmax(axis=1) if points else -1, -1).astype(np.int64)
    at_s = np.full(wells, np.nan)
    at_s[place >= 0] = counts.acquired_s[place >= 0, place[place >= 0]]
    told = tuple(
        "the control wells change too much from look to look" if not reason and row[-1:].any() else reason
        for row, reason in zip(flickers, why_not, strict=True)
    )
    return Onsets(at_s, place, evidence, tuple("" if reason == _NOT_TREATED else reason for reason in told))


def limit(wells: int, false_onset: float, horizon_h: float) -> float:
    """Standard deviations that a well without an effect passes with a chance of `false_onset` on the whole plate.

    The quantile of the largest of so many normal values, times a margin that grows the farther out that lies, where
    the tails of beta-distributed shares are longer than normal ones.
    """
    draws = max(wells, 1) * max(horizon_h / INDEPENDENT_H, 1.0)
    normal = -float(ndtri(-np.expm1(np.log1p(-false_onset) / draws)))
    return normal * float(np.interp(normal, (3.2, 3.9), (1.0, MARGIN)))


_NOT_TREATED = "not treated"


def _untested(counts: PlateCounts, plan: PlatePlan, treated_s: F64, held: Bools) -> tuple[str, ...]:
    """(W,) why a well is not tested; "" where it is."""
    reasons = []
    for row, well in enumerate(counts.wells):
        if well not in plan.wells or plan.wells[well].role != TREATED:
            reasons.append(_NOT_TREATED)
        elif not np.isfinite(treated_s[row]):
            reasons.append("no treatment time: give treated_at in the plate map, or a dosed event")
        elif held[row].sum() < MIN_CONTROLS:
            reasons.append(f"too few control wells: {held[row].sum()}, needed are {MIN_CONTROLS}")
        else:
            reasons.append("")
    return tuple(reasons)


def _elapsed(acquired_s: F64) -> F64:
    """(T,) seconds since the first time point: medians over the wells that have a frame, never falling."""
    framed = [each[np.isfinite(each)] for each in acquired_s.T]
    middle = np.asarray([np.median(each) if each.size else -np.inf for each in framed])
    known = middle[np.isfinite(middle)]
    return np.maximum.accumulate(np.maximum(middle, known[0])) - known[0] if known.size else np.zeros(len(middle))
