"""One plate's whole response from its counts: what metrics, the page and the table show. Pure.

The one place that says in which order the figures of this room follow from each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cellvigil.config import Response
from cellvigil.events import Event
from cellvigil.platemap import CONTROL, PlatePlan
from cellvigil.response.arm_course import arm_live_index, arm_response
from cellvigil.response.arms import arm_shares
from cellvigil.response.correction import Confusion, take_apart, well_shares
from cellvigil.response.correlation import between_wells, intraclass
from cellvigil.response.course import course_of, dead_timepoints
from cellvigil.response.fits import Fit, Newest, fits
from cellvigil.response.shares import plain
from cellvigil.response.values import F64, Bools, Estimate, Ints, PlateCounts


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
    arm_live_index: Estimate  # (A, T)
    arm_response: Estimate  # (A, T)
    treated_s: F64  # (W,) seconds since 1970; NaN = not treated, or nobody said when
    live_index: Estimate  # (W, T) live(t) / live(t0)
    response: Estimate  # (W, T) 1 - L / median L of the well's controls at that time
    paused: Bools  # (W, T) between plate_out and plate_in
    onset_s: F64  # (W,) acquisition time of the time point at which the onset was found; NaN = none
    onset_why_not: tuple[str, ...]  # (W,) why a treated well is not tested; "" = it is, or it is not treated
    growth_rate: Estimate  # (W, T) GR value; NaN where it means nothing
    dead_timepoints: Ints  # (W, T) time points in a row with the dead share above the limit
    fits: tuple[Fit, ...]


def evaluate(
    counts: PlateCounts,
    plan: PlatePlan,
    events: Sequence[Event],
    *,
    confusion: Confusion | None,
    novel: float,
    typical: float = np.nan,
    shifts: Mapping[tuple[str, int], float],
    settings: Response,
    dead_share: float,
    every: bool = False,
) -> PlateResponse:
    """The response of one plate.

    Args:
        counts: of the whole time course.
        plan: the plate map; `platemap.NO_PLAN` gives shares only.
        events: of the plate.
        confusion: of the index that called last; None where it has none.
        novel: share of the control wells' cells with a novelty p-value of at most 0.1; NaN = not known.
        typical: share of them with one above 0.5; NaN = not known.
        shifts: (well, timepoint) -> how far its fields have moved, as a share of their side; NaN = nobody can tell.
        settings: the configuration's `response`.
        dead_share: what `dead_timepoints` counts from (`alerts.dead_share`).
        every: T are all time points of `counts`; else one, the newest usable value of each well.
    """
    newest = counts.latest()[:, None]
    places = np.where(counts.usable, np.arange(len(counts.timepoints)), -1).astype(np.int64) if every else newest
    asked = counts if every else counts.at(newest[:, 0])
    roles = np.asarray([plan.wells[well].role if well in plan.wells else "" for well in counts.wells], dtype=np.str_)
    is_control = roles == CONTROL
    correlation = intraclass(counts, is_control)
    apart = partial(
        take_apart,
        confusion=confusion,
        correlation=correlation,
        novel=novel,
        typical=typical,
        controls=is_control,
        course=counts,
    )
    mixtures, status = apart(asked)
    arms = tuple(plan.arm(well) for well in counts.wells)
    members = _members(arms)
    arm_places = None if every else _arm_places(newest[:, 0], members)
    # While a round is coming in, an arm shows the time point that half of it has reached, and its wells' values then.
    together = asked if arm_places is None else counts.at(_of_wells(arm_places, members))
    names, arm_wells, arm_plain, arm_corrected = arm_shares(
        together, arms, mixtures if every else apart(together)[0], between=between_wells(counts, arms)
    )
    course = course_of(counts, plan, events, shifts=shifts, settings=settings, correlation=correlation.value)
    arm_live, arm_course = arm_live_index(course.live, members), arm_response(course.live, course.controls, members)
    of_now = (course.response.value, course.growth.value, course.control, course.control_error)
    return PlateResponse(
        places=places,
        plain=plain(asked, correlation),
        corrected=well_shares(asked, mixtures, correlation),
        correction=status,
        correlation=correlation.value,
        basis=correlation.basis,
        arms=names,
        arm_wells=arm_wells,
        arm_plain=arm_plain,
        arm_corrected=arm_corrected,
        arm_live_index=arm_live if arm_places is None else _estimate_at(arm_live, arm_places),
        arm_response=arm_course if arm_places is None else _estimate_at(arm_course, arm_places),
        treated_s=course.treated_s,
        live_index=_estimate_at(course.live, places),
        response=_estimate_at(course.response, places),
        paused=_at(course.paused, places, missing=False),
        onset_s=course.onsets.at_s,
        onset_why_not=course.onsets.why_not,
        growth_rate=_estimate_at(course.growth, places),
        dead_timepoints=_at(dead_timepoints(counts, dead_share), places, missing=0),
        fits=fits(counts.wells, plan, Newest(*(_at(figures, newest)[:, 0] for figures in of_now))),
    )


_Figures = TypeVar("_Figures", bound=np.generic)


def _at(figures: npt.NDArray[_Figures], places: Ints, missing: float = np.nan) -> npt.NDArray[_Figures]:
    """(R, n) of (R, T): the columns `places` (R, n) of each row; `missing` where a place is -1."""
    if not figures.shape[1]:
        return np.full(places.shape, missing, dtype=figures.dtype)
    return np.where(places >= 0, np.take_along_axis(figures, np.maximum(places, 0), axis=1), missing).astype(
        figures.dtype
    )


def _estimate_at(estimate: Estimate, places: Ints) -> Estimate:
    return Estimate(*(_at(figures, places) for figures in (estimate.value, estimate.low, estimate.high)))


def _members(arms: Sequence[str]) -> Bools:
    """(A, W) whether a well is of an arm; arms by name, "" is none."""
    names = sorted({arm for arm in arms if arm})
    return np.asarray([[arm == name for arm in arms] for name in names], dtype=np.bool_).reshape(len(names), len(arms))


def _of_wells(arm_places: Ints, members: Bools) -> Ints:
    """(W,) each well's arm's place; -1 for a well of no arm."""
    found = np.full(members.shape[1], -1, dtype=np.int64)
    for place, rows in zip(arm_places[:, 0], members, strict=True):
        found[rows] = place
    return found


def _arm_places(newest: Ints, members: Bools) -> Ints:
    """(A, 1) the newest time point that at least half of an arm's wells have reached; -1 for an arm without a value."""
    reached = [np.sort(newest[rows & (newest >= 0)]) for rows in members]
    places = [int(some[(len(some) - 1) // 2]) if some.size else -1 for some in reached]
    return np.asarray(places, dtype=np.int64).reshape(len(members), 1)
