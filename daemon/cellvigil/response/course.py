"""The figures of a plate that need its whole time course: live index, response, growth, onset. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.config import Response
from cellvigil.events import Event
from cellvigil.platemap import PlatePlan
from cellvigil.response.epochs import controls, epochs, treated_s
from cellvigil.response.growth import growth_rate
from cellvigil.response.live import control_median, control_reach, live_index, response
from cellvigil.response.onset import Onsets, onsets
from cellvigil.response.values import F64, Bools, Estimate, Ints, PlateCounts


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """(W, T) unless said."""

    treated_s: F64  # (W,) seconds since 1970; NaN = not treated, or nobody said when
    controls: Bools  # (W, W) whether the well of the column is a control of the well of the row
    paused: Bools
    live: Estimate
    response: Estimate
    control: F64  # median live index of the well's controls
    control_error: F64  # standard error of its logarithm
    growth: Estimate  # GR value; NaN where it means nothing
    onsets: Onsets


def course_of(
    counts: PlateCounts,
    plan: PlatePlan,
    events: Sequence[Event],
    *,
    shifts: Mapping[tuple[str, int], float],
    settings: Response,
    correlation: float,
) -> Course:
    """The time course of one plate; arguments as for `plate.evaluate`. `correlation`: of cells of one field."""
    when, held = treated_s(counts, plan, events), controls(counts, plan)
    spans = epochs(counts, events, shifts, max_shift=settings.max_shift)
    live = live_index(counts, spans, when, correlation)
    middle, error, wells = control_median(live, held)
    if settings.growth == "adherent":
        growth = growth_rate(live, held, when, counts.acquired_s, control_reach(error, wells))
    else:  # such cells drift out of the field and back: their number there says little of how many there are
        growth = Estimate(*(np.full(live.value.shape, np.nan) for _ in range(3)))
    found = onsets(counts, plan, when, spans, false_onset=settings.false_onset, horizon_h=settings.horizon_h)
    return Course(when, held, spans.paused, live, response(live, held), middle, error, growth, found)


def dead_timepoints(counts: PlateCounts, limit: float) -> Ints:
    """(W, T) how many usable time points in a row, up to this one, have a dead share above `limit`.

    The share is that of the group "dead" among alive, dying and dead. Time points without a usable value, or without
    such a cell, are passed over: a frame that is out of focus neither breaks a run nor adds to it.
    """
    dead, every = counts.total("dead"), counts.total("alive", "dying", "dead")
    known = counts.usable & (every > 0)
    above = known & (dead > limit * every)
    runs = np.zeros(known.shape, dtype=np.int64)
    run = np.zeros(len(known), dtype=np.int64)
    for column in range(known.shape[1]):
        run = np.where(known[:, column], np.where(above[:, column], run + 1, 0), run)
        runs[:, column] = run
    return runs
