"""Live index of wells and their response against controls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.response.epochs import Epochs, epochs
from cellvigil.response.live import GRACE_S, MIN_LIVE, control_median, live_index, response
from cellvigil.response.values import Estimate
from index_estimates import NAN, estimates, held, same
from response_plates import HOUR, event, plate

RHO = 0.05


def index(counts, treated_h=0.0, events=(), shifts=None, rho=RHO):
    wells = len(counts.wells)
    spans = epochs(counts, events, shifts or {}, max_shift=0.2)
    return live_index(counts, spans, np.broadcast_to(np.asarray(treated_h) * HOUR, wells), rho)


def values(*args, **more):
    return index(*args, **more).value


def test_live_cells_against_those_at_the_last_look_before_the_treatment():
    same(values(plate([[80, 100, 50, 0]]), treated_h=1.9), [[0.8, 1, 0.5, 0]])
    same(values(plate([[80, 100, 50, 0]]), treated_h=2), [[1.6, 2, 1, 0]])  # a look of that very moment is before


def test_dead_cells_do_not_count():
    same(values(plate([[100, 50]], [[0, 500]])), [[1, 0.5]])


def test_a_look_that_lacks_is_no_value_and_no_origin():
    same(values(plate([[80, 999, 40]], missing=[(0, 1)]), treated_h=1.5), [[1, NAN, 0.5]])


@pytest.mark.parametrize(("late_s", "expected"), [(GRACE_S - 1, [1, 0.5]), (GRACE_S + 1, [NAN, NAN])])
def test_a_plate_dosed_before_its_first_look_has_an_origin_if_that_came_soon(late_s, expected):
    same(values(plate([[100, 50]]), treated_h=-late_s / HOUR), [expected])


def test_a_well_that_nobody_treated_has_no_index():
    assert np.isnan(values(plate([[100, 50]]), treated_h=NAN)).all()


def test_a_field_that_lacks_at_one_time_fakes_no_loss():
    live = [[[100, 300], [90, 270], [80, 240]]]
    same(values(plate(live)), [[1, 0.9, 0.8]])
    same(values(plate(live, missing=[(0, 1, 1)])), [[1, 0.9, 0.8]])
    same(values(plate(live, missing=[(0, 0, 1)])), [[1, 0.9, 0.8]])
    same(values(plate(live, missing=[(0, 0, 1), (0, 2, 0)])), [[1, 0.9, NAN]])  # no field in common


@pytest.mark.parametrize(("live", "told"), [(MIN_LIVE - 1, False), (MIN_LIVE, True)])
def test_too_few_live_cells_are_no_divisor(live, told):
    assert np.isfinite(values(plate([[live, 30]]))).all() == told


def test_nothing_is_told_while_the_plate_is_out_and_its_looks_are_no_origin():
    out = [event(0.5, "plate_out"), event(2.5, "plate_in")]
    still = {("A1", 3): 0.0}
    same(values(plate([[100, 7, 7, 50]]), events=out, shifts=still, treated_h=2), [[1, NAN, NAN, 0.5]])


def test_over_a_new_baseline_the_index_goes_on_from_its_last_value():
    counts = plate([[100, 60, 200, 100, 50]])
    same(values(counts, shifts={("A1", 2): 1.0}), [[1, 0.6, 0.6, 0.3, 0.15]])
    same(values(counts, shifts={("A1", 2): 1.0, ("A1", 4): 1.0}), [[1, 0.6, 0.6, 0.3, 0.3]])
    same(values(counts, events=[event(1.5, "medium")]), [[1, 0.6, 0.6, 0.3, 0.15]])


def test_over_a_new_baseline_the_doubt_goes_on_too():
    found = index(plate([[100, 60, 200, 100]]), shifts={("A1", 2): 1.0})
    widths = np.log(found.high / found.low)[0]
    assert widths[2] == pytest.approx(widths[1], rel=0.05)
    assert widths[3] > widths[2] > widths[0]


@pytest.mark.parametrize("dead", [300, 3, 0])
def test_a_well_without_live_cells_has_an_interval_that_says_so(dead):
    found = index(plate([[300, 0]], [[15, dead]]))
    assert found.value[0, 1] == found.low[0, 1] == 0
    assert 0.005 < found.high[0, 1] < 0.3


def test_before_the_treatment_it_is_told_within_the_same_baseline_only():
    counts = plate([[100, 60, 200, 100, 50]])
    same(values(counts, shifts={("A1", 2): 1.0}, treated_h=3), [[NAN, NAN, 2, 1, 0.5]])


def test_a_killed_well_keeps_its_index_over_a_new_baseline():
    found = values(plate([[200, 10, 5, 4]]), shifts={("A1", 2): 1.0})
    same(found, [[1, 0.05, 0.05, 0.04]])  # five cells would be no divisor, were there much of L left to tell
    assert np.isnan(values(plate([[200, 180, 15, 15]]), shifts={("A1", 2): 1.0})[0, 2:]).all()


def test_a_well_without_live_cells_at_a_new_baseline_stays_without():
    found = index(plate([[200, 0, 0, 3]]), shifts={("A1", 2): 1.0})
    assert (found.value[0, 1:3] == [0, np.nan]).tolist() == [True, False]


@given(
    st.lists(st.integers(0, 400), min_size=2, max_size=8),
    st.integers(20, 400),
    st.floats(0, 0.5),
    st.sets(st.integers(1, 8)),
)
def test_the_value_lies_in_its_interval_and_correlation_widens_it(later, first, rho, moved):
    shifts = {("A1", point): 1.0 for point in moved}
    counts = plate([[first, *later]], [[5] * (len(later) + 1)])
    narrow, wide = index(counts, shifts=shifts, rho=0.0), index(counts, shifts=shifts, rho=rho)
    told = np.isfinite(narrow.value)
    for found in (narrow, wide):
        assert (np.isfinite(found.low) == told).all()
        assert (found.low[told] <= found.value[told]).all()
        assert (found.value[told] <= found.high[told]).all()
    assert (wide.high[told] >= narrow.high[told] * (1 - 1e-12)).all()


def test_intervals_cover_wells_whose_share_and_number_vary():
    rng, rho, wells = np.random.default_rng(3), 0.08, 3000
    cells = rng.poisson(200, (wells, 2))
    share = rng.beta(0.7 * (1 / rho - 1), 0.3 * (1 / rho - 1), (wells, 2))
    live = rng.binomial(cells, share)
    found = index(plate(live, cells - live), rho=rho)
    told = np.isfinite(found.value[:, 1])
    covered = (found.low[told, 1] <= 1) & (found.high[told, 1] >= 1)  # at both times 0.7 of 200
    assert 0.94 <= covered.mean() <= 0.98


# ------------------------------------------------------------------ response


def test_response_is_one_minus_the_index_over_the_controls_median():
    found = response(estimates([[0.5], [1.0], [2.0], [9.0]]), held("tccc"))
    same(found.value[0], [0.75])
    same(found.value[2], [1 - 2 / 5])  # a control against the other controls
    assert found.low[0, 0] < 0.75 < found.high[0, 0] <= 1


def test_controls_that_lack_at_a_time_are_left_out_there_and_nothing_is_interpolated():
    live = [[0.5, 0.5, 0.5], [1, NAN, NAN], [2, 2, NAN], [3, 1, NAN]]
    same(response(estimates(live), held("tccc")).value[0], [0.75, 1 - 0.5 / 1.5, NAN])


def test_one_control_gives_a_value_without_an_interval():
    found = response(estimates([[0.5], [1.0]]), held("tc"))
    same(found.value, [[0.5], [NAN]])
    assert np.isnan([found.low, found.high]).all()


def test_few_controls_that_differ_widen_the_interval():
    def width(*of_controls):
        found = response(estimates([[0.5], *([each] for each in of_controls)]), held("t" + "c" * len(of_controls)))
        return float(found.high[0, 0] - found.low[0, 0])

    assert width(1, 1, 1) < width(0.9, 1, 1.1) < width(0.9, 1.1)
    assert width(*[0.9, 1, 1.1] * 4) < width(0.9, 1, 1.1)


def test_a_well_without_live_cells_has_responded_wholly():
    dead = Estimate(np.array([[0.0], [1], [1.1]]), np.array([[0.0], [0.9], [1]]), np.array([[0.02], [1.1], [1.2]]))
    found = response(dead, held("tcc"))
    assert found.value[0, 0] == found.high[0, 0] == 1
    assert 0.9 < found.low[0, 0] < 1


@pytest.mark.parametrize("controls", [0, 1])
def test_a_well_without_live_cells_and_too_few_controls_has_no_end_of_an_interval(controls):
    found = response(estimates([[1, 0.0], *[[1, 1.5]] * controls]), held("t" + "c" * controls))
    assert np.isnan(found.value[0, 1]) == (controls == 0)
    assert np.isnan([found.low[0, 1], found.high[0, 1]]).all()


def test_dead_controls_give_no_response():
    assert np.isnan(response(estimates([[0.5], [0.0], [0.0]]), held("tcc")).value).all()


@pytest.mark.parametrize("of_controls", [2, 4, 12])
def test_intervals_of_the_response_cover_with_few_controls(of_controls):
    rng, wells, noise = np.random.default_rng(5), 1 + of_controls, 0.15
    hits = []
    for _ in range(600):
        live = np.exp(noise * rng.standard_normal((wells, 1)))
        live[0] *= 0.6
        found = response(estimates(live, 1.96 * noise), held("t" + "c" * of_controls))
        hits.append(found.low[0, 0] <= 0.4 <= found.high[0, 0])
    assert 0.93 <= np.mean(hits) <= 0.995


def test_medians_of_controls_equal_a_slow_twin():
    rng = np.random.default_rng(2)
    live = np.where(rng.random((7, 20)) < 0.3, np.nan, rng.random((7, 20)) + 0.1)
    mine = held("tttcccc")
    middle, error, wells = control_median(estimates(live), mine)
    for well in range(7):
        for time in range(20):
            there = [live[each, time] for each in range(7) if mine[well, each] and np.isfinite(live[each, time])]
            assert wells[well, time] == len(there)
            same(middle[well, time], np.median(there) if there else NAN)
            logs, own = np.log(there), (0.1 / 1.959964) ** 2  # variance of one by its interval, which weighs like 4
            pooled = (4 * own + np.square(logs - logs.mean()).sum()) / (4 + len(logs) - 1) if len(logs) > 1 else NAN
            np.testing.assert_allclose(error[well, time], 1.2533 * (pooled / max(len(logs), 1)) ** 0.5, rtol=1e-6)


def test_a_plate_without_time_points():
    nothing = plate(np.zeros((2, 0), dtype=int))
    spans = Epochs(np.zeros((2, 0), dtype=np.int32), np.zeros((2, 0), dtype=np.bool_))
    assert live_index(nothing, spans, np.zeros(2), RHO).value.shape == (2, 0)
