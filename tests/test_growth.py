"""Growth-rate inhibition: figures worked from the paper's definition, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.response.growth import growth_rate
from cellvigil.response.live import control_median, control_reach
from cellvigil.response.values import Estimate

HOUR = 3600.0


def grid(*rows):
    return np.array(rows, dtype=float)


def gr(index, *, controls=None, treated=None, acquired=None):
    """Well 0 is treated, all others are its controls; a frame an hour, treated at hour 0."""
    wells, times = index.shape
    if controls is None:
        controls = np.zeros((wells, wells), bool)
        controls[0, 1:] = True
    treated = np.zeros(wells) if treated is None else np.asarray(treated, float)
    acquired = np.tile(np.arange(times) * HOUR, (wells, 1)) if acquired is None else acquired
    return growth_rate(Estimate(index, index, index), controls, treated, acquired).value


@pytest.mark.parametrize(
    ("own", "control", "expected"),
    [
        (4.0, 4.0, 1.0),  # as the controls
        (1.0, 4.0, 0.0),  # no growth at all: cytostatic
        (2.0, 4.0, math.sqrt(2) - 1),  # one doubling where the controls made two: 2^(1/2) - 1
        (0.5, 4.0, 2**-0.5 - 1),  # fewer than there were: cytotoxic
        (0.0, 4.0, -1.0),  # none left
        (8.0, 4.0, 2**1.5 - 1),  # faster than the controls
        (2.0, 2.0, 1.0),  # as the controls, whatever these do: what GR is for
        (1.0, 1.09, math.nan),  # the controls have grown less than 10 %
        (1.0, 0.7, math.nan),
        (math.nan, 4.0, math.nan),
        (2.0, math.nan, math.nan),
    ],
)
def test_the_papers_definition(own, control, expected):
    found = gr(grid([1, own], [1, control]))
    assert found[0, 1] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(found[0, 0])  # at treatment nothing has grown yet
    assert np.isnan(found[1]).all()  # it has no control


def test_the_controls_stand_for_their_median_of_those_that_are_there():
    found = gr(grid([1, 2, 2], [1, 4, math.nan], [1, 4, 2.0], [1, 90, 2.0]))
    assert found[0].tolist() == pytest.approx([math.nan, math.sqrt(2) - 1, 1.0], nan_ok=True)


def test_time_before_treatment_has_no_value_and_is_not_growth():
    """The controls' index began earlier: only what they grew since the well was treated counts."""
    index = grid([0.5, 1, 2], [1, 2, 8])
    found = gr(index, treated=[1.5 * HOUR, math.nan])
    assert found[0].tolist() == pytest.approx([math.nan, math.nan, math.sqrt(2) - 1], nan_ok=True)


def test_wells_treated_at_different_times_each_have_their_own_start():
    index = grid([1, 2, 4], [math.nan, 1, 2], [1, 2, 4])
    controls = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]], bool)
    found = gr(index, controls=controls, treated=[0, HOUR, 0])
    assert found[:2].tolist() == [
        pytest.approx(row, nan_ok=True) for row in ([math.nan, 1, 1], [math.nan, math.nan, 1])
    ]


@pytest.mark.parametrize(("late_s", "there"), [(600.0, True), (5000.0, False)])
def test_a_plate_filmed_soon_after_dosing_counts_from_its_first_frame(late_s, there):
    acquired = np.tile(late_s + np.arange(3) * HOUR, (2, 1))
    found = gr(grid([1, 1, 2], [1, 2, 4]), acquired=acquired)
    assert np.isfinite(found[0, 1:]).all() == there


def test_an_untreated_well_a_missing_frame_and_an_empty_plate():
    assert np.isnan(gr(grid([1, 2], [1, 2]), treated=[math.nan, 0])).all()
    acquired = grid([math.nan, HOUR], [0, HOUR])
    assert np.isnan(gr(grid([math.nan, 2], [1, 2]), acquired=acquired, treated=[0, 0])).all()
    assert gr(np.zeros((2, 0)), acquired=np.zeros((2, 0))).shape == (2, 0)
    assert np.isnan(gr(grid([0, 0], [1, 2]))).all()  # nobody was alive at treatment


@given(
    st.integers(1, 4).flatmap(
        lambda times: st.lists(
            st.lists(st.one_of(st.just(math.nan), st.floats(0.01, 20)), min_size=times, max_size=times),
            min_size=3,
            max_size=5,
        )
    ),
    st.integers(-1, 3),
)
def test_as_a_slow_twin_says(rows, treated):
    index = np.array(rows)
    wells, times = index.shape
    found = gr(index, treated=np.full(wells, treated * HOUR))
    for t in range(times):
        before = [u for u in range(times) if u <= treated and not math.isnan(index[0, u])]
        soon = [u for u in range(times) if treated < u <= treated + 1 and not math.isnan(index[0, u])]
        start = before[-1] if before else soon[0] if soon else None
        expected = math.nan
        if start is not None and t > start:
            grown = []
            for row in index[1:]:
                past = [value for value in row[: start + 1] if not math.isnan(value)]
                values = [value for value in row if not math.isnan(value)]
                if values and not math.isnan(row[t]):
                    grown.append(row[t] / (past[-1] if past else values[0]))
            if grown and np.median(grown) >= 1.1:
                expected = 2 ** (math.log2(index[0, t] / index[0, start]) / math.log2(np.median(grown))) - 1
        assert found[0, t] == pytest.approx(expected, nan_ok=True)


def plates(rng, wells, times):
    """A treated well and its controls, `times` independent time points: true L 1.5 and 4, seen with an error."""
    truth = np.log(np.r_[1.5, np.full(wells, 4.0)])[:, None]
    spread = np.r_[0.1, np.full(wells, 0.15)][:, None]
    seen = truth + spread * rng.standard_normal((wells + 1, times))
    return Estimate(*(np.exp(np.c_[np.zeros(wells + 1), seen + end * spread]) for end in (0, -1.96, 1.96)))


@pytest.mark.parametrize("wells", [2, 4, 12])
def test_the_interval_holds_what_it_promises(wells):
    live = plates(np.random.default_rng(wells), wells, 4000)
    held = np.zeros((wells + 1, wells + 1), bool)
    held[0, 1:] = True
    _, error, there = control_median(live, held)
    acquired = np.tile(np.arange(live.value.shape[1]) * HOUR, (wells + 1, 1))
    found = growth_rate(live, held, np.zeros(wells + 1), acquired, control_reach(error, there))
    true = 2 ** (math.log2(1.5) / 2) - 1
    inside = (found.low[0, 1:] <= true) & (true <= found.high[0, 1:])
    assert 0.93 < inside.mean() < 0.99
    assert (found.low[0, 1:] <= found.value[0, 1:]).all()
    assert (found.value[0, 1:] <= found.high[0, 1:]).all()


def test_where_the_controls_may_not_have_grown_there_is_a_value_and_no_interval():
    live = Estimate(grid([1, 1.2], [1, 1.3]), grid([1, 1.1], [1, 1.0]), grid([1, 1.3], [1, 1.7]))
    held = np.array([[False, True], [False, False]])
    hours = np.array([[0, HOUR]] * 2)
    sure, unsure = (growth_rate(live, held, np.zeros(2), hours, np.full((2, 2), doubt)) for doubt in (0.1, 0.3))
    assert sure.low[0, 1] < sure.value[0, 1] < sure.high[0, 1]
    assert unsure.value[0, 1] == sure.value[0, 1]
    assert np.isnan(unsure.low[0, 1])
    assert np.isnan(unsure.high[0, 1])


def test_a_well_without_a_live_cell_left_has_an_upper_end():
    live = Estimate(grid([1, 0], [1, 4]), grid([1, 0], [1, 3]), grid([1, 0.1], [1, 5]))
    held = np.array([[False, True], [False, False]])
    found = growth_rate(live, held, np.zeros(2), np.array([[0, HOUR]] * 2), np.full((2, 2), 0.1))
    assert found.value[0, 1] == found.low[0, 1] == -1
    assert -1 < found.high[0, 1] < 0
