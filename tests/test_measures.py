"""Figures about certainty: against figures worked by hand, slow twins, and simulated cells whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil_indexes.measures.coverage import coverage
from cellvigil_indexes.measures.reliability import equal_bins, mean_error, reliability, wilson
from cellvigil_indexes.measures.selective import accuracies, auroc, selective


def simulated(n, seed, wrong_by=0.0):
    """Probabilities, and calls that are right with a chance `wrong_by` below them."""
    rng = np.random.default_rng(seed)
    p = rng.beta(5, 2, n)
    return p, rng.uniform(size=n) < np.clip(p - wrong_by, 0, 1)


@pytest.mark.parametrize("n", [60, 300, 1370])
def test_a_kept_probability_has_no_error_on_average_where_the_usual_estimate_has_one(n):
    runs = [reliability(*simulated(n, seed)) for seed in range(400)]
    squared = np.array([run.squared for run in runs])
    standard_error = squared.std() / np.sqrt(len(runs))
    assert abs(squared.mean()) < 3 * standard_error
    assert np.mean([run.plug_in for run in runs]) ** 2 > 10 * abs(squared.mean())
    assert mean_error(runs) < 0.03


@pytest.mark.parametrize("n", [300, 1370])
def test_a_known_error_is_found(n):
    runs = [reliability(*simulated(n, seed, wrong_by=0.1)) for seed in range(200)]
    assert mean_error(runs) == pytest.approx(0.1, abs=0.01)
    assert np.mean([run.mean_probability - run.accuracy for run in runs]) == pytest.approx(0.1, abs=0.01)


def test_the_correction_is_that_of_kumar_liang_and_ma_where_a_bin_has_one_probability():
    right = np.array([True] * 30 + [False] * 10)
    found = reliability(np.full(40, 0.9), right)
    assert found.squared == pytest.approx((0.9 - 0.75) ** 2 - 0.75 * 0.25 / 39)
    assert found.plug_in == pytest.approx(0.15)
    (only,) = found.bins
    assert (only.n, only.accuracy) == (40, 0.75)
    assert only.low < 0.75 < only.high


def test_the_diagram_counts_every_cell_once_and_never_parts_equal_probabilities():
    p, right = simulated(500, 0)
    found = reliability(np.round(p, 1), right)
    assert sum(each.n for each in found.bins) == found.n == 500
    means = [each.probability for each in found.bins]
    assert means == sorted(set(means))
    assert found.accuracy == pytest.approx(right.mean())


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]), min_size=2, max_size=120), st.integers(1, 20))
def test_bins_hold_two_or_more_cells_in_order(values, bins):
    parts = equal_bins(np.array(values), bins)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(values)))
    assert min(len(part) for part in parts) >= 2
    assert len(parts) <= bins
    for one, next_one in itertools.pairwise(parts):
        assert np.array(values)[one].max() < np.array(values)[next_one].min()


def test_too_few_cells_have_no_reliability():
    assert reliability(np.array([0.5]), np.array([True])) is None


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433)]
)
def test_wilsons_interval(right, n, low, high):
    assert wilson(right, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.8]), st.booleans()), min_size=1, max_size=30),
)
def test_auroc_is_the_share_of_pairs_in_order(cells):
    values, right = (np.array(column) for column in zip(*cells, strict=True))
    pairs = [(a > b) + 0.5 * (a == b) for a in values[right] for b in values[~right]]
    found = auroc(values[right], values[~right])
    assert found == (pytest.approx(np.mean(pairs)) if pairs else None)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1, max_size=7))
def test_accuracy_against_coverage_is_the_mean_over_the_orders_of_equal_cells(cells):
    values, right = (np.array(column) for column in zip(*cells, strict=True))
    rng = np.random.default_rng(0)
    total = np.zeros(len(cells))
    rounds = 1500
    for _ in range(rounds):
        mixed = rng.permutation(len(cells))
        order = mixed[np.argsort(-values[mixed], kind="stable")]
        total += np.cumsum(right[order]) / np.arange(1, len(cells) + 1)
    np.testing.assert_allclose(accuracies(values, right), total / rounds, atol=0.08)


def test_leaving_out_by_a_perfect_and_a_useless_certainty():
    right = np.array([True] * 80 + [False] * 20)
    perfect = selective(right.astype(float), right)
    assert perfect.auroc == 1
    assert perfect.area == perfect.best_area
    assert dict(perfect.curve)[0.8] == 1
    assert dict(perfect.curve)[1.0] == 0.8
    useless = selective(np.zeros(100), right)
    assert (useless.auroc, useless.area) == (0.5, pytest.approx(0.8))
    upside_down = selective(-right.astype(float), right)
    assert upside_down.auroc == 0
    assert upside_down.area < 0.8
    everything = selective(np.arange(5.0), np.ones(5, bool))
    assert everything.auroc is None
    assert everything.area == 1
    assert selective(np.zeros(0), np.zeros(0, bool)) is None


def test_a_certainty_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        selective(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="not a number"):
        auroc([np.nan], [1.0])


def test_coverage_by_class():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    found = coverage(sets, np.array([0, 1, 1, 1], dtype=np.int16), ("a", "b", "c"))
    assert (found.n, found.covered, found.mean_size) == (4, 0.75, 1.0)
    assert (found.empty, found.single) == (0.25, 0.5)
    assert found.low < 0.75 < found.high
    assert list(found.by_class) == ["a", "b"]
    assert (found.by_class["b"].n, found.by_class["b"].covered) == (3, pytest.approx(2 / 3))
    assert coverage(np.zeros((0, 3), bool), np.zeros(0, np.int16), ("a", "b", "c")) is None
