"""The response of arms: wells are the unit."""

from __future__ import annotations

import numpy as np
import pytest

from cellvigil.response.arm_course import arm_live_index, arm_response
from cellvigil.response.live import response
from index_estimates import NAN, estimates, held, same

ARMS = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]], dtype=np.bool_)


def test_an_arm_is_the_mean_of_its_wells_and_its_interval_that_of_wells():
    live = estimates([[0.4], [0.5], [0.6], [0.3], [0.9], [1.0], [1.1]])
    one, found = response(live, held("ttttccc")), arm_response(live, held("ttttccc"), ARMS)
    same(found.value[0], one.value[:3].mean(axis=0))
    assert (found.low[:, 0] < found.value[:, 0]).all()
    assert (found.value[:, 0] < found.high[:, 0]).all()
    assert found.high.max() <= 1


def test_an_arm_whose_wells_differ_more_has_the_wider_interval():
    def width(*wells):
        live = estimates([*([each] for each in wells), [0.3], [0.99], [1.0], [1.01]])
        found = arm_response(live, held("ttttccc"), ARMS)
        return float(found.high[0, 0] - found.low[0, 0])

    assert width(0.5, 0.5, 0.5) < width(0.45, 0.5, 0.55) < width(0.3, 0.5, 0.7)


@pytest.mark.parametrize("wells", [1, 2, 4])
def test_intervals_of_arms_cover_with_few_wells(wells):
    rng, noise, hits = np.random.default_rng(wells), 0.1, []
    roles = "t" * wells + "cccc"
    arm = np.array([[role == "t" for role in roles]])
    for _ in range(600):
        live = np.exp(noise * rng.standard_normal((len(roles), 1)))
        live[:wells] *= 0.6
        found = arm_response(estimates(live, 1.96 * noise), held(roles), arm)
        hits.append(found.low[0, 0] <= 0.4 <= found.high[0, 0])
    assert 0.93 <= np.mean(hits) <= 0.995


def test_wells_that_lack_are_left_out_of_their_arm():
    live = [[0.4, NAN], [0.6, 0.6], [NAN, NAN], [0.3, NAN], [1, 1], [1, 1], [1, NAN]]
    found = arm_response(estimates(live), held("ttttccc"), ARMS)
    same(found.value[:2], [[0.5, 0.4], [0.7, NAN]])
    assert np.isnan(arm_response(estimates(live), np.zeros((7, 7), dtype=np.bool_), ARMS).value).all()


def test_arms_of_a_plate_without_time_points_or_arms():
    empty = estimates(np.zeros((7, 0)))
    assert arm_response(empty, held("ttttccc"), ARMS).value.shape == (3, 0)
    assert arm_response(estimates(np.ones((7, 2))), held("ttttccc"), ARMS[:0]).value.shape == (0, 2)


@pytest.mark.parametrize("wells", [1, 2, 4])
def test_intervals_of_an_arms_live_index_cover_with_few_wells(wells):
    rng, noise, hits = np.random.default_rng(wells), 0.1, []
    arm = np.ones((1, wells), dtype=np.bool_)
    for _ in range(800):
        live = 0.6 * np.exp(noise * rng.standard_normal((wells, 1)))
        found = arm_live_index(estimates(live, 1.96 * noise), arm)
        hits.append(found.low[0, 0] <= 0.6 <= found.high[0, 0])
        assert 0 <= found.low[0, 0] <= found.value[0, 0] <= found.high[0, 0]
    assert 0.93 <= np.mean(hits) <= 0.995


def test_an_arms_live_index_is_the_mean_of_the_wells_that_are_there():
    found = arm_live_index(estimates([[0.4, NAN], [0.6, 0.5], [NAN, NAN]]), np.ones((1, 3), dtype=np.bool_))
    same(found.value, [[0.5, 0.5]])
    assert arm_live_index(estimates(np.zeros((3, 0))), np.ones((1, 3), dtype=np.bool_)).value.shape == (1, 0)
