"""One plate's whole response from its counts: what metrics, the page and the table show. Pure.

The one place that says in which order the figures of this room follow from each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellvigil.response.values import F64, Bools, Estimate, Ints


@dataclass(frozen=True, slots=True)
class Fit:
    """A figure of one compound, with its 95 % interval; NaN where the data do not give it."""

    compound: str
    unit: str  # of `value`: the plate map's, or "" for a ratio
    measure: str  # "response" or "gr" (half-maximal dose), "gr_max"
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class PlateResponse:
    """What a plate's counts say, at the time points on the axis T that were asked for (one a well, or all)."""

    places: Ints  # (W, T) place on the time axis of the counts; -1 = the well has none
    plain: Estimate  # (W, T, S) share of the cells in alive, dying and dead; NaN for states of other groups
    corrected: Estimate  # (W, T, S) the same, corrected for the index's confusion; NaN unless `correction` is "ok"
    correction: str  # ok | no_confusion | overridden | ill_conditioned | residual | shifted
    correlation: float  # intra-class correlation that the intervals use
    basis: str  # what it was estimated from: fields | wells | default
    arms: tuple[str, ...]  # (A,)
    arm_wells: Ints  # (A,) wells of the arm
    arm_plain: Estimate  # (A, T, S)
    arm_corrected: Estimate  # (A, T, S)
    arm_response: Estimate  # (A, T)
    treated_s: F64  # (W,) seconds since 1970; NaN = not treated, or nobody said when
    live_index: Estimate  # (W, T) live(t) / live(t0)
    response: Estimate  # (W, T) 1 - L / median L of the well's controls at that time
    paused: Bools  # (W, T) between plate_out and plate_in
    onset_s: F64  # (W,) acquisition time of the time point at which the onset was found; NaN = none
    growth_rate: F64  # (W, T) GR value; NaN where it means nothing
    dead_timepoints: Ints  # (W, T) time points in a row with the dead share above the limit
    fits: tuple[Fit, ...]
