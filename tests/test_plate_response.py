"""A plate's whole response: the newest values, the whole course, and what an arm shows while a round is coming in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellvigil.config import Response
from cellvigil.platemap import NO_PLAN
from cellvigil.response.plate import PlateResponse, evaluate
from cellvigil.response.values import Estimate, PlateCounts
from response_plates import at, plan_of, plate

ROLES = "cccttt"


def asked(counts: PlateCounts, *, every: bool = False, roles: str = ROLES) -> PlateResponse:
    settings = Response()
    return evaluate(
        counts,
        plan_of(roles, treated_at=at(1)) if roles else NO_PLAN,
        (),
        confusion=None,
        novel=np.nan,
        shifts={},
        settings=settings,
        dead_share=0.3,
        every=every,
    )


def dying(times: int = 8, seed: int = 1, missing: Any = ()) -> PlateCounts:
    """Three controls, and three wells of which ever more cells die."""
    rng = np.random.default_rng(seed)
    share = np.zeros((6, times)) + 0.05
    share[3:] += np.linspace(0, 0.8, times)
    dead = rng.binomial(200, share)
    return plate(200 - dead, dead, missing=missing)


def same(one: Estimate, other: Estimate) -> None:
    for mine, theirs in ((one.value, other.value), (one.low, other.low), (one.high, other.high)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


def test_the_newest_values_are_the_last_of_the_course():
    now, course = asked(dying()), asked(dying(), every=True)
    for name in ("plain", "corrected", "live_index", "response", "growth_rate"):
        one, every = getattr(now, name), getattr(course, name)
        same(one, Estimate(every.value[:, -1:], every.low[:, -1:], every.high[:, -1:]))
    for name in ("arm_plain", "arm_live_index", "arm_response"):
        one, every = getattr(now, name), getattr(course, name)
        same(one, Estimate(every.value[:, -1:], every.low[:, -1:], every.high[:, -1:]))
    assert now.onset_s.tolist()[3:] == course.onset_s.tolist()[3:]
    assert now.fits == course.fits


@pytest.mark.parametrize(("come", "place"), [(1, 6), (2, 7), (3, 7)])
def test_an_arm_shows_one_time_point_while_a_round_is_coming_in(come, place):
    """Three wells an arm; the last round has reached `come` of each: half of an arm decides for all."""
    missing = [(well, 7) for well in (*range(come, 3), *range(3 + come, 6))]
    now, course = asked(dying(missing=missing)), asked(dying(missing=missing), every=True)
    for name in ("arm_plain", "arm_live_index", "arm_response"):
        one, every = getattr(now, name), getattr(course, name)
        at = slice(place, place + 1)
        same(one, Estimate(every.value[:, at], every.low[:, at], every.high[:, at]))


def test_a_plate_without_a_map_has_shares_and_no_more():
    found = asked(dying(), roles="")
    assert found.arms == ()
    assert np.isfinite(found.plain.value[:, 0, 0]).all()
    for absent in (found.live_index, found.response, found.growth_rate):
        assert np.isnan(absent.value).all()
    assert np.isnan(found.onset_s).all()


def test_dead_timepoints_are_counted_in_time_points_and_a_gap_neither_breaks_nor_adds():
    dead = [[20, 40, 50, 60, 10, 40]]
    counts = plate(100 - np.asarray(dead), dead, missing=[(0, 2)])
    assert asked(counts, every=True, roles="c").dead_timepoints[0].tolist() == [0, 1, 0, 2, 0, 1]
    assert asked(counts, roles="c").dead_timepoints[0].tolist() == [1]


@pytest.mark.parametrize("every", [False, True])
def test_a_plate_whose_every_frame_is_left_out_has_nothing_to_say(every):
    missing = [(well, time) for well in range(6) for time in range(8)]
    found = asked(dying(missing=missing), every=every)
    for absent in (found.plain, found.arm_plain, found.live_index, found.arm_live_index, found.response):
        assert np.isnan(absent.value).all()
    assert (found.places == -1).all()
    assert np.isnan(found.onset_s).all()
