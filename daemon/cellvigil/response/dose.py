"""Half-maximal dose of a compound, from the values of its wells, with an interval that takes wells as the unit. Pure.

Curve (Hafner et al., Nature Methods 13:521, 2016, equation 2): y(c) = yinf + (1 - yinf) / (1 + (c / c50)^h), y = the GR
value, or 1 - response (live cells against the controls). Both are 1 without an effect. The half-maximal dose is where
the curve is at 0.5 (GR50, IC50), not half-way to yinf, and only told where that is among the doses that were given.

Fit: least squares over the doses' means, each weighed by its wells, over nested grids: no start to choose, no local
minimum to end in. Interval: profile likelihood (Venzon and Moolgavkar, Applied Statistics 37:87, 1988) with F for
chi-square, and the error of the controls' median, which all wells share, added to it. Coverage: tests/test_dose.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import fdtrc, fdtri, stdtrit

from cellvigil.response.hill import FREE, Hill
from cellvigil.response.values import F64

Measure = Literal["response", "gr"]
Status = Literal["ok", "few_doses", "no_dose_effect", "no_half_effect"]

FEWEST = 5
"""Distinct doses below which nothing is fitted."""

_LEVEL = 0.95
_NOISE = 0.05  # chance of a curve where there is none: above it the doses are not told apart


@dataclass(frozen=True, slots=True)
class Dosed:
    """A figure of one compound and its 95 % interval; NaN unless `status` is "ok".

    An end that the doses do not bound is 0 or infinite.
    """

    value: float
    low: float
    high: float
    status: Status


def half_maximal(doses: F64, values: F64, *, measure: Measure, shared: float = 0.0) -> Dosed:
    """The dose at which half of the effect is reached, in the unit of `doses`.

    Args:
        doses: (n,) one a well; a dose of 0 (vehicle) and NaN are left out.
        values: (n,) the well's response or GR value; NaN = none.
        measure: what they are.
        shared: standard error of what all values hang on: of the logarithm of the controls' median live index; for "gr"
            that divided by the logarithm of that median (`growth_error`). NaN counts as 0.

    "few_doses": fewer than 5 distinct ones have a value. "no_dose_effect": the effect does not grow with the dose more
    than chance would have it (F test, 5 %). "no_half_effect": the curve is not at half within the doses given.
    """
    means = Means.of(doses, values if measure == "gr" else 1 - values)
    if means is None:
        return _nothing("few_doses")
    curve = Hill.of(means.doses, means.values, means.wells, floor=-1.0 if measure == "gr" else 0.0)
    middle, least = curve.nearest()
    freedom = means.count - FREE
    residual = means.within + least
    explained = means.within + means.between - residual
    if explained <= 0 or (residual > 0 and fdtrc(FREE - 1, freedom, explained * freedom / residual / 2) > _NOISE):
        return _nothing("no_dose_effect")
    if curve.least_without_half() < least or not means.doses[0] <= middle <= means.doses[-1]:
        return _nothing("no_half_effect")
    limit = least + residual * float(fdtri(1, freedom, _LEVEL)) / freedom
    low, high = curve.ends(middle, limit)
    if shared > 0:
        low, high = _widened(means, measure, shared, (low, middle, high), float(stdtrit(freedom, 0.975)))
    return Dosed(middle, low, high, "ok")


def largest_effect(doses: F64, values: F64) -> Dosed:
    """GRmax: the mean value of the wells with the highest dose (Hafner et al. 2016), not where the curve might end.

    Interval: Student's t, with the spread between wells of one dose pooled over the doses; NaN without replicates.
    "few_doses" as for `half_maximal`.
    """
    means = Means.of(doses, values)
    if means is None:
        return _nothing("few_doses")
    top, freedom = float(means.values[-1]), means.count - len(means.doses)
    if not freedom:
        return Dosed(top, np.nan, np.nan, "ok")
    half = float(stdtrit(freedom, 0.975)) * np.sqrt(means.within / freedom / float(means.wells[-1]))
    return Dosed(top, top - half, top + half, "ok")


def growth_error(error: float, growth: float) -> float:
    """`shared` for GR values: relative error of the controls' log growth. `error`: standard error of the logarithm of
    the controls' median live index, `growth`: that median. NaN where they have not grown.
    """
    return float(error / np.log(growth)) if growth > 1 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """The wells of each dose, in one number each."""

    doses: F64  # (D,) ascending, above 0
    values: F64  # (D,) mean
    wells: F64  # (D,)
    within: float  # sum of squares of the wells about their dose's mean
    between: float  # of the doses' means about the mean of all wells

    @classmethod
    def of(cls, doses: F64, values: F64) -> Means | None:
        """None where fewer than `FEWEST` doses have a value."""
        there = np.isfinite(doses) & np.isfinite(values) & (doses > 0)
        distinct, place = np.unique(doses[there], return_inverse=True)
        if len(distinct) < FEWEST:
            return None
        wells = np.bincount(place).astype(np.float64)
        means = np.bincount(place, weights=values[there]) / wells
        within = float(np.square(values[there] - means[place]).sum())
        grand = float((means * wells).sum() / wells.sum())
        return cls(distinct, means, wells, within, float((wells * np.square(means - grand)).sum()))

    @property
    def count(self) -> int:
        """Wells, of all doses."""
        return int(self.wells.sum())


def _widened(
    means: Means, measure: Measure, shared: float, found: tuple[float, float, float], reach: float
) -> tuple[float, float]:
    """Ends (low, high) with the controls' error added: how far the dose moves when the controls' median is off by it.

    Each side by itself, squares added on the log scale (Zou and Donner, Statistics in Medicine 27:1693, 2008).
    """
    low, middle, high = found
    if measure == "gr" and shared >= 1:  # the controls may as well not have grown
        return 0.0, np.inf
    moved = []
    for factor in (np.exp(-shared), np.exp(shared)) if measure == "response" else (1 - shared, 1 + shared):
        values = _rescaled(means.values, measure, factor)
        curve = Hill.of(means.doses, values, means.wells, floor=-1.0 if measure == "gr" else 0.0)
        dose, least = curve.nearest()
        moved.append(np.inf if curve.least_without_half() < least else dose)
    with np.errstate(divide="ignore"):
        steps = np.log(np.array(moved)) - np.log(middle)
        down = np.hypot(np.log(middle) - np.log(low), reach * max(0.0, -steps.min()))
        up = np.hypot(np.log(high) - np.log(middle), reach * max(0.0, steps.max()))
    return float(middle * np.exp(-down)), float(middle * np.exp(up))


def _rescaled(values: F64, measure: Measure, factor: float) -> F64:
    """The values as they would be if the controls had `factor` times the live index (for GR: the log growth)."""
    return values / factor if measure == "response" else np.exp2(np.log2(np.maximum(values + 1, 1e-9)) / factor) - 1


def _nothing(status: Status) -> Dosed:
    return Dosed(np.nan, np.nan, np.nan, status)
