"""When a well was treated, when its record pauses, and where one stretch of comparable values ends. Pure.

Values of one well may be held against each other only within a *baseline*: the same index named the cells, the same
medium was on them, and the field showed the same place. Events and shifts that say otherwise begin a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import frozen_array
from cellvigil.events import DOSED, MEDIUM, PLATE_IN, PLATE_OUT, Event
from cellvigil.platemap import CONTROL, TREATED, PlatePlan
from cellvigil.response.values import F64, I32, Bools, PlateCounts

Shifts = Mapping[tuple[str, int], float]
"""(well, time point) -> how far its field had moved against the frame before, as a share of its side; NaN = moved by
nobody knows how much."""


@dataclass(frozen=True, slots=True, eq=False)
class Epochs:
    """What may be compared with what."""

    baseline: I32  # (W, T) number of the baseline, from 0
    paused: Bools  # (W, T) between plate_out and plate_in: no response is told there

    def __post_init__(self) -> None:
        for name in ("baseline", "paused"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))


def epochs(counts: PlateCounts, events: Sequence[Event], shifts: Shifts, *, max_shift: float) -> Epochs:
    """Pauses and baselines of every well.

    A new baseline begins where another index calls, at the first time point after a medium change, and where `shifts`
    tells of more than `max_shift`. A shift that nobody could measure counts as too far: on returning to the microscope
    (`plate_in`) too, where there is no entry. A baseline never begins before, or at, the first frame of a well. An out
    without an in pauses until further notice, also for wells that are not in the plate map.
    """
    times = _times(counts)
    starts = _index_swaps(counts) | _shifted(counts, shifts, max_shift)
    paused = np.zeros(times.shape, dtype=np.bool_)
    for row, well in enumerate(counts.wells):
        mine = sorted(event for event in events if event.touches(well))
        if mine:
            starts[row] |= _event_starts(
                counts.acquired_s[row], mine, [(well, point) in shifts for point in counts.timepoints]
            )
            paused[row] = _paused(times[row], mine)
    framed = np.isfinite(counts.acquired_s)
    first = (
        np.where(framed.any(axis=1), framed.argmax(axis=1), times.shape[1]) if times.shape[1] else framed.sum(axis=1)
    )
    starts &= np.arange(times.shape[1]) > first[:, None]
    return Epochs(np.cumsum(starts, axis=1, dtype=np.int32), paused)


def treated_s(counts: PlateCounts, plan: PlatePlan, events: Sequence[Event]) -> F64:
    """(W,) seconds since 1970 at which each well was treated (a control: got its vehicle); NaN = not, or nobody said.

    The plate map's time, else the first `dosed` event that touches the well; for a control about which neither says
    anything, the median of the treated wells, so that it has an origin to be compared from. Blanks have none.
    """
    dosed = sorted(event for event in events if event.kind == DOSED)
    told = np.full(len(counts.wells), np.nan)
    for row, well in enumerate(counts.wells):
        place = plan.wells.get(well)
        if place is None or place.role not in (CONTROL, TREATED):
            continue
        when = place.treated_at or next((event.at for event in dosed if event.touches(well)), None)
        told[row] = np.nan if when is None else when.timestamp()
    role = np.asarray([plan.wells[well].role if well in plan.wells else "" for well in counts.wells], dtype=np.str_)
    known = told[(role == TREATED) & np.isfinite(told)]
    if known.size:
        told[(role == CONTROL) & np.isnan(told)] = np.median(known)
    return told


def controls(counts: PlateCounts, plan: PlatePlan) -> Bools:
    """(W, W) whether the well of the column is a control of the well of the row (`PlatePlan.controls`)."""
    place = {well: column for column, well in enumerate(counts.wells)}
    held = np.zeros((len(place), len(place)), dtype=np.bool_)
    for row, well in enumerate(counts.wells):
        held[row, [place[each] for each in plan.controls(well) if each in place]] = True
    return held


def _times(counts: PlateCounts) -> F64:
    """(W, T) acquisition times; where a well has no frame, the median of the wells that have one at that time point."""
    known = np.isfinite(counts.acquired_s)
    middle = np.full(known.shape[1], np.nan)
    for column in np.flatnonzero(known.any(axis=0)):
        middle[column] = np.median(counts.acquired_s[known[:, column], column])
    return np.where(known, counts.acquired_s, middle)


def _index_swaps(counts: PlateCounts) -> Bools:
    """(W, T) where a well's frames are called by another index than its frames before."""
    place = np.where(counts.version >= 0, np.arange(counts.version.shape[1]), -1)
    last = np.maximum.accumulate(place, axis=1) if place.size else place
    before = np.concatenate([np.full((len(last), 1), -1, dtype=last.dtype), last[:, :-1]], axis=1)[:, : last.shape[1]]
    older = np.take_along_axis(counts.version, np.maximum(before, 0), axis=1) if place.size else counts.version
    return np.asarray((counts.version >= 0) & (before >= 0) & (older != counts.version))


def _shifted(counts: PlateCounts, shifts: Shifts, max_shift: float) -> Bools:
    """(W, T) where a shift is told that is too far, or could not be measured."""
    row = {well: place for place, well in enumerate(counts.wells)}
    column = {point: place for place, point in enumerate(counts.timepoints)}
    moved = np.zeros((len(row), len(column)), dtype=np.bool_)
    for (well, point), shift in shifts.items():
        if well in row and point in column:
            moved[row[well], column[point]] = not abs(shift) <= max_shift
    return moved


def _event_starts(acquired_s: F64, events: list[Event], measured: list[bool]) -> Bools:
    """(T,) where events alone begin a baseline: at a medium change, and at a return that no shift tells about.

    That is at the well's own next frame, which is where its shift is told, too.
    """
    starts = np.zeros(len(acquired_s), dtype=np.bool_)
    for event in events:
        with np.errstate(invalid="ignore"):
            after = np.flatnonzero(acquired_s >= event.at.timestamp())
        if after.size and (event.kind == MEDIUM or (event.kind == PLATE_IN and not measured[after[0]])):
            starts[after[0]] = True
    return starts


def _paused(times: F64, events: list[Event]) -> Bools:
    """(T,) whether the last of the plate's goings, by then, was out; of two at one minute it went before it came."""
    paused = np.zeros(len(times), dtype=np.bool_)
    for event in sorted(events, key=lambda event: (event.at, event.kind == PLATE_IN)):
        if event.kind in (PLATE_OUT, PLATE_IN):
            paused[times >= event.at.timestamp()] = event.kind == PLATE_OUT
    return paused
