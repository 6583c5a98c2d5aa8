"""When a well was treated, where its record pauses, and where a new baseline begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellvigil.platemap import CONTROL, NO_PLAN, TREATED, PlatePlan, WellPlan
from cellvigil.response.epochs import controls, epochs, treated_s
from response_plates import HOUR, at, event, plan_of, plate

PLAN = plan_of("tc")
SIX = np.full((2, 6), 100)


def baselines(counts=None, events=(), shifts=None):
    found = epochs(counts or plate(SIX), events, shifts or {}, max_shift=0.2)
    return found.baseline.tolist()


def paused(*events):
    return epochs(plate(SIX), events, {}, max_shift=0.2).paused.astype(int).tolist()


def test_one_baseline_without_a_reason_for_another():
    assert baselines() == [[0] * 6] * 2
    assert baselines(events=[event(2, "dosed")]) == [[0] * 6] * 2


@pytest.mark.parametrize(
    ("events", "shifts", "first", "second"),
    [
        ([event(2.5, "medium")], {}, [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]),
        ([event(2, "medium", "A1")], {}, [0, 0, 1, 1, 1, 1], [0] * 6),  # the frame of that very moment is after it
        ([event(1, "medium"), event(3.5, "medium", "A2")], {}, [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2]),
        ([event(-1, "medium"), event(0, "medium")], {}, [0] * 6, [0] * 6),  # before anything was seen
        ([event(99, "medium")], {}, [0] * 6, [0] * 6),
        ([], {("A1", 3): 0.21, ("A2", 3): 0.2}, [0, 0, 0, 1, 1, 1], [0] * 6),
        ([], {("A1", 3): -0.5}, [0, 0, 0, 1, 1, 1], [0] * 6),
        ([], {("A1", 3): float("nan"), ("Z9", 3): 1.0, ("A2", 77): 1.0}, [0, 0, 0, 1, 1, 1], [0] * 6),
        ([], {("A1", 0): 1.0}, [0] * 6, [0] * 6),
        # back in the microscope: as far as the shift says; without a measurement a new baseline
        ([event(1, "plate_out"), event(3, "plate_in")], {("A1", 3): 0.05}, [0] * 6, [0, 0, 0, 1, 1, 1]),
        ([event(1, "plate_out"), event(3, "plate_in")], {("A1", 3): 0.6}, [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]),
        ([event(2, "medium"), event(1.5, "plate_in")], {}, [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]),  # once, not twice
    ],
)
def test_a_new_baseline_begins(events, shifts, first, second):
    assert baselines(events=events, shifts=shifts) == [first, second]


def test_a_return_is_measured_at_the_wells_own_next_frame():
    counts = plate(SIX, missing=[(0, 3)])
    returned = [event(1, "plate_out"), event(2.5, "plate_in")]
    assert baselines(counts, returned, {("A1", 4): 0.05, ("A2", 3): 0.05}) == [[0] * 6] * 2
    assert baselines(counts, returned, {("A2", 3): 0.05}) == [[0, 0, 0, 0, 1, 1], [0] * 6]


def test_another_index_begins_a_baseline_where_it_first_calls():
    counts = plate(SIX, version=[[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0]], missing=[(0, 2)])
    assert baselines(counts) == [[0, 0, 0, 1, 1, 2], [0] * 6]


def test_a_well_that_comes_late_has_its_first_baseline_like_the_others():
    counts = plate(SIX, missing=[(0, 0), (0, 1)])
    assert baselines(counts, events=[event(1, "medium")]) == [[0] * 6, [0, 1, 1, 1, 1, 1]]


def test_a_medium_change_falls_between_the_frames_of_others_where_a_well_has_none():
    counts = plate(SIX, missing=[(0, 3), (0, 4)])
    assert baselines(counts, events=[event(2.5, "medium")])[0][5] == 1


@pytest.mark.parametrize(
    ("events", "first", "second"),
    [
        ([], [0] * 6, [0] * 6),
        ([event(1.5, "plate_out"), event(3.5, "plate_in")], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]),
        ([event(1.5, "plate_out", "A2")], [0] * 6, [0, 0, 1, 1, 1, 1]),  # until further notice
        ([event(3.5, "plate_in")], [0] * 6, [0] * 6),
        ([event(3, "plate_in"), event(1, "plate_out")], [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]),  # in any order
        ([event(2, "plate_in"), event(2, "plate_out")], [0] * 6, [0] * 6),  # both written down at one minute
        ([event(0, "plate_out"), event(1, "plate_in"), event(4, "plate_out")], [1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1]),
    ],
)
def test_the_record_pauses_between_out_and_in(events, first, second):
    assert paused(*events) == [first, second]


def test_plates_without_time_points_or_frames():
    nothing = epochs(plate(np.zeros((2, 0), dtype=int)), [event(1, "medium")], {}, max_shift=0.2)
    assert nothing.baseline.shape == nothing.paused.shape == (2, 0)
    blind = plate(SIX, missing=[(well, time) for well in range(2) for time in range(6)])
    assert baselines(blind, events=[event(1, "medium")], shifts={("A1", 3): 1.0}) == [[0] * 6] * 2
    with pytest.raises(ValueError, match="read-only"):
        nothing.baseline[...] = 1


def test_the_plate_map_says_when_else_the_first_dosing():
    plan = PlatePlan(
        {
            "A1": WellPlan("A1", TREATED, treated_at=at(1)),
            "A2": WellPlan("A2", TREATED),
            "A3": WellPlan("A3", TREATED),
            "A4": WellPlan("A4", CONTROL),
            "A5": WellPlan("A5", "blank", treated_at=at(1)),
        }
    )
    events = [event(5, "dosed"), event(4, "dosed", "A2"), event(2, "medium")]
    found = treated_s(plate(np.full((6, 3), 9)), plan, events) / HOUR
    assert found[:4].tolist() == [1, 4, 5, 5]  # a control that nobody names was dosed with the whole plate
    assert np.isnan(found[4:]).all()  # a blank, and a well that is not in the map


def test_a_control_without_a_time_has_that_of_the_treated_wells():
    plan = replace(plan_of("tttc"))
    events = [event(1, "dosed", "A1"), event(2, "dosed", "A2"), event(7, "dosed", "A3")]
    assert (treated_s(plate(np.full((4, 3), 9)), plan, events) / HOUR).tolist() == [1, 2, 7, 2]
    assert np.isnan(treated_s(plate(np.full((4, 3), 9)), plan, ())).all()
    assert np.isnan(treated_s(plate(np.full((4, 3), 9)), NO_PLAN, events)).all()


def test_controls_are_those_of_the_plan_that_the_plate_shows():
    plan = PlatePlan(
        {each.well: each for each in [WellPlan("A1", TREATED), *(WellPlan(f"A{n}", CONTROL) for n in (2, 3, 9))]}
    )
    found = controls(plate(np.full((4, 2), 9)), plan).astype(int).tolist()
    assert found == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
