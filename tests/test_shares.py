"""Shares of states and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq

from cellvigil.response.correlation import (
    Correlation,
    intraclass,
)
from cellvigil.response.intervals import NORMAL, quantile, score_ends, wilson_ends
from cellvigil.response.shares import effective_cells, plain
from counted_cells import STATES, clustered_cells, plate_counts

SOME = Correlation(0.05, "fields", 20)


def field(*cells: int) -> list[list[list[list[int]]]]:
    """One well, one time, one field."""
    return [[[list(cells)]]]


def test_a_share_divides_by_alive_dying_and_dead_and_other_states_have_none() -> None:
    found = plain(plate_counts(field(60, 30, 10, 500, 70)), SOME)
    assert found.value[0, 0, :3] == pytest.approx([0.6, 0.3, 0.1])
    for figures in (found.value, found.low, found.high):
        assert np.isnan(figures[0, 0, 3:]).all()


def test_fields_of_a_well_are_summed_not_averaged() -> None:
    found = plain(plate_counts([[[[90, 0, 10, 0, 0], [0, 0, 10, 0, 0]]]]), SOME)
    assert found.value[0, 0, 2] == pytest.approx(20 / 110)


@pytest.mark.parametrize(
    "changes",
    [{"counted": [[[False]]]}, {"settled": [[False]]}],
    ids=["excluded", "not settled"],
)
def test_what_does_not_count_gives_no_share(changes: dict[str, list[object]]) -> None:
    found = plain(plate_counts(field(60, 30, 10, 0, 0), **changes), SOME)
    assert np.isnan(found.value).all()
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_only_debris_and_unknown_give_no_share() -> None:
    assert np.isnan(plain(plate_counts(field(0, 0, 0, 40, 3)), SOME).value).all()


def test_a_plate_without_wells_or_states_of_these_groups_is_no_error() -> None:
    assert plain(plate_counts(np.zeros((0, 0, 0, 5))), SOME).value.shape == (0, 0, 5)
    other = plain(plate_counts([[[[5, 6]]]], states=("debris", "unknown")), SOME)
    assert np.isnan(other.value).all()


@pytest.mark.parametrize(("cells", "value"), [((100, 0, 0, 0, 0), (1.0, 0.0)), ((0, 0, 100, 0, 0), (0.0, 1.0))])
def test_nothing_and_all_have_intervals_of_one_side(cells: tuple[int, ...], value: tuple[float, float]) -> None:
    found = plain(plate_counts(field(*cells)), SOME)
    assert tuple(found.value[0, 0, [0, 2]]) == value
    for place, share in zip((0, 2), value, strict=True):
        low, high = found.low[0, 0, place], found.high[0, 0, place]
        assert (low == 0 and 0.05 < high < 0.5) if share == 0 else (high == 1 and 0.5 < low < 0.95)


counts_of_wells = arrays(np.int32, (4, 3, 2, 5), elements=st.integers(0, 200))


@given(counts_of_wells, st.floats(0, 0.5), st.integers(0, 40))
def test_an_interval_holds_its_share_within_0_and_1(cells: np.ndarray, value: float, clusters: int) -> None:
    found = plain(plate_counts(cells), Correlation(value, "fields", clusters))
    there = ~np.isnan(found.value)
    assert (there == ~np.isnan(found.low)).all()
    assert (there == ~np.isnan(found.high)).all()
    assert (found.low[there] >= 0).all()
    assert (found.high[there] <= 1).all()
    assert (found.low[there] <= found.value[there]).all()
    assert (found.value[there] <= found.high[there]).all()
    total = cells[..., :3].sum(axis=(2, 3)) > 0
    assert found.value[total][:, :3].sum(axis=1) == pytest.approx(1)


def test_the_time_points_do_not_see_each_other() -> None:
    counts = plate_counts(np.random.default_rng(1).integers(0, 50, (5, 7, 3, 5)))
    whole, one = plain(counts, SOME), plain(counts.at(np.full(5, 4)), SOME)
    assert np.array_equal(whole.high[:, [4]], one.high, equal_nan=True)


def test_without_correlation_cells_count_in_full_and_with_it_fields_do() -> None:
    fields = np.array([100.0, 100.0])
    assert effective_cells(fields, 0.0) == 200
    assert effective_cells(fields, 1.0) == pytest.approx(2)
    assert effective_cells(np.array([400.0, 0.0]), 0.1) < effective_cells(np.array([200.0, 200.0]), 0.1)
    assert effective_cells(np.zeros(3), 0.1) == 0


some_shares = st.sampled_from((0.0, 1.0)) | st.floats(1e-4, 1 - 1e-4)


@given(some_shares, st.floats(0.5, 1e4), st.floats(1, 5))
def test_the_ends_are_where_a_score_test_just_accepts(share: float, cells: float, reach: float) -> None:
    ends = wilson_ends(np.array(share), np.array(cells), reach)
    for end, limit in zip(ends, (0.0, 1.0), strict=True):

        def beyond(p: float) -> float:
            return (p - share) ** 2 - reach**2 * p * (1 - p) / cells

        start = share + np.sign(limit - share) * 1e-9  # at a share of 0 or 1 the score is 0 as well
        slow = limit if share == limit else brentq(beyond, *sorted((start, limit)))
        assert float(end) == pytest.approx(slow, abs=1e-6)


@given(some_shares, st.floats(0.5, 1e4), st.floats(1, 5))
def test_halving_finds_the_same_ends_as_the_formula(share: float, cells: float, reach: float) -> None:
    spread = np.array([0, 1, -1, 0]) / cells
    halved = score_ends(np.array(share), spread, reach)
    for end, other in zip(halved, wilson_ends(np.array(share), np.array(cells), reach), strict=True):
        assert float(end) == pytest.approx(float(other), abs=2e-6)


def test_what_is_fixed_widens_and_no_share_has_no_ends() -> None:
    spread = np.array([[0, 1, -1, 0], [0, 1, -1, 0]]) / 50
    narrow = score_ends(np.array([0.3, np.nan]), spread, NORMAL)
    wide = score_ends(np.array([0.3, np.nan]), spread, NORMAL, 0.05**2)
    assert wide[0][0] < narrow[0][0]
    assert wide[1][0] > narrow[1][0]
    assert np.isnan([narrow[0][1], narrow[1][1], wide[0][1], wide[1][1]]).all()


def test_few_degrees_of_freedom_reach_further() -> None:
    assert quantile(np.inf) == pytest.approx(1.959964)
    assert quantile(4) == pytest.approx(2.776445, abs=1e-5)


def test_a_well_interval_covers_what_infinitely_many_fields_would_show() -> None:
    """5,000 intervals; the whole measurement is benchmarks/intervals.py."""
    inside = []
    for seed in range(14):
        mean = np.random.default_rng(seed).dirichlet((4, 1, 2), size=(60, 2))
        mean = np.concatenate([mean, np.zeros((60, 2, 2))], axis=-1)
        counts = plate_counts(clustered_cells(mean, 3, 60, 0.08, seed))
        found = plain(counts, intraclass(counts, np.arange(60) < 12))
        inside.append(((found.low <= mean) & (mean <= found.high))[..., :3].mean())
    assert 0.93 < np.mean(inside) < 0.98


def test_states_are_found_by_group_wherever_they_stand() -> None:
    order = [2, 0, 3, 1, 4]
    cells = np.random.default_rng(5).integers(0, 40, (3, 2, 2, 5))
    usual = plain(plate_counts(cells), SOME)
    other = plain(plate_counts(cells[..., order], states=[STATES[place] for place in order]), SOME)
    assert np.array_equal(other.value, usual.value[..., order], equal_nan=True)
