"""A well's rise since its baseline and the controls' medians, each against a slow obvious twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.response.deviation import Looks, looks, medians, risen
from cellvigil.response.epochs import epochs
from cellvigil.response.spread import fading
from response_plates import plate


@st.composite
def courses(draw):
    """One well's looks: which are there, angles, baselines, and how many points are before the treatment."""
    points = draw(st.integers(1, 12))
    there = draw(st.lists(st.booleans(), min_size=points, max_size=points))
    angle = draw(st.lists(st.floats(0, 1.5), min_size=points, max_size=points))
    fresh = draw(st.lists(st.booleans(), min_size=points, max_size=points))
    return np.asarray(there), np.where(there, angle, 0.0), np.cumsum(fresh), draw(st.integers(0, points))


@settings(max_examples=200)
@given(courses())
def test_the_rise_equals_a_slow_twin(course):
    there, angle, number, early = course
    places = [place for place in range(len(there)) if there[place]]
    chained, moved = {}, 0.0
    for older, place in zip([None, *places], places, strict=False):
        if older is not None and number[place] != number[older]:
            moved += angle[place] - angle[older]
        chained[place] = angle[place] - moved
    own = [chained[place] for place in places if place < early][-4:] or [chained[place] for place in places[:1]]
    rise = {place: chained[place] - np.mean(own) for place in places}
    before = np.concatenate([[-1], np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))[:-1]])
    seen = Looks(there[None], angle[None], np.where(there, 0.01, 0.0)[None], number[None], before[None])
    mine, noise, level = risen(seen, np.array([0]), (np.arange(len(there)) < early)[None])
    assert level[0] == pytest.approx(np.mean(own) if places else 0)
    for rank, place in enumerate(places):
        assert mine[0, place] == pytest.approx(np.median([rise[each] for each in places[max(rank - 2, 0) : rank + 1]]))
        assert noise[0, place] > 0


@given(st.integers(0, 10**6), st.integers(0, 7), st.integers(0, 5))
def test_medians_without_one_equal_a_slow_twin(seed, wells, points):
    rng = np.random.default_rng(seed)
    rise, there = rng.integers(0, 4, (wells, points)) / 4, rng.random((wells, points)) < 0.7
    mine, left = medians(rise, there)
    for row in range(wells + 1):
        for time in range(points):
            others = [rise[well, time] for well in range(wells) if there[well, time] and well != row]
            assert left[row, time] == len(others)
            assert mine[row, time] == (np.median(others) if others else 0)


def test_fading_sums_forget_by_time_not_by_look():
    found = fading(np.array([1.0, 0, 0, 2]), np.array([0.0, 1, 3, 10]), 5.0)
    assert found == pytest.approx([1, np.exp(-0.2), np.exp(-0.6), np.exp(-2) + 2])


def test_the_scale_makes_counting_noise_equal_at_any_share():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.8):
        dead = rng.binomial(100, share, (4000, 1))
        seen = looks(plate(100 - dead, dead), epochs(plate(100 - dead, dead), (), {}, max_shift=0.2))
        assert seen.angle.var() == pytest.approx(float(seen.variance.mean()), rel=0.1)
