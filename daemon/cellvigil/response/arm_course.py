"""Live index and response of arms: means over wells, the wells being the unit. Pure."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from cellvigil.response.live import PRIOR, REACH, control_median, response
from cellvigil.response.values import F64, Bools, Estimate


def arm_live_index(live: Estimate, members: Bools) -> Estimate:
    """(A, T) mean live index of the wells of each arm (`members`, (A, W)).

    Interval (95 %), not below 0: spread between the arm's wells, moderated (Smyth, Stat. Appl. Genet. Mol. Biol. 3:3,
    2004) by what their own intervals say, which weigh like `PRIOR` wells.
    """
    own = np.square((live.high - live.low) / (2 * REACH))
    value, low, high = (np.full((len(members), live.value.shape[1]), np.nan) for _ in range(3))
    for arm, rows in enumerate(np.asarray(members, dtype=np.bool_)):
        mean, between, freedom, _ = _over_wells(live.value, own, rows)
        half = _quantile(freedom) * np.sqrt(between)
        value[arm], low[arm], high[arm] = mean, np.maximum(mean - half, 0), mean + half
    return Estimate(value, low, high)


def arm_response(live: Estimate, controls: Bools, members: Bools) -> Estimate:
    """(A, T) mean response of the wells of each arm (`members`, (A, W)).

    Interval (95 %), not above 1: as for `arm_live_index`, and the error of their controls' median (degrees of freedom
    by Welch and Satterthwaite). Without controls NaN.
    """
    one, (middle, error, found) = response(live, controls), control_median(live, controls)
    with np.errstate(invalid="ignore"):
        own = np.square((live.high - live.low) / (2 * REACH * middle))
    value, low, high = (np.full((len(members), one.value.shape[1]), np.nan) for _ in range(3))
    for arm, rows in enumerate(np.asarray(members, dtype=np.bool_)):
        mean, between, freedom, there = _over_wells(one.value, own, rows)
        wells = np.where(there.any(axis=0), there.sum(axis=0), np.nan)
        shared = np.square((1 - mean) * np.where(there, error, 0).sum(axis=0) / wells)
        held = np.maximum(np.where(there, found, 0).sum(axis=0) / wells - 1, 1) + PRIOR
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.square(between + shared) / (np.square(between) / freedom + np.square(shared) / held)
        half = _quantile(freedom) * np.sqrt(between + shared)
        value[arm], low[arm], high[arm] = mean, mean - half, np.minimum(mean + half, 1)
    return Estimate(value, low, high)


def _over_wells(values: F64, own: F64, rows: Bools) -> tuple[F64, F64, F64, Bools]:
    """Of the wells `rows` (W,) that have a value: mean (T,), its variance, degrees of freedom, and which those are.

    `own` (W, T): variance of each value by its own interval.
    """
    there = rows[:, None] & np.isfinite(values)
    wells = np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    mean = np.where(there, values, 0).sum(axis=0) / wells
    square = np.where(there, np.square(values - mean), 0).sum(axis=0)
    own_mean = np.where(there, own, 0).sum(axis=0) / wells
    freedom = PRIOR + wells - 1
    return mean, (PRIOR * own_mean + square) / freedom / wells, freedom, there


def _quantile(freedom: F64) -> F64:
    return np.asarray(stdtrit(np.where(freedom >= 1, freedom, 1.0), 0.975))
