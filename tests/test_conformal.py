"""Conformal sets: worked by hand, against a slow twin in exact fractions, and the promise kept on simulated cells."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil import decide
from cellvigil.bundle.calibration import ConformalScores
from cellvigil.neighbours import ExactSearch

PROMISE = 0.9


def scores_of(*by_class, k=5, promise=PROMISE):
    return ConformalScores(k, promise, [sorted(each) for each in by_class])


@pytest.mark.parametrize(
    ("labels", "distances", "expected", "why"),
    [
        # Class 0 nearest at 1, class 1 at 2; two of three are not 1, one is not 0.
        ([0, 1, 0], [1, 2, 3], [1 + 1 / 3, 2 + 2 / 3, 3 + 3 / 4], "class 2 is nowhere: taken as at the last one's 3"),
        ([0, 0, 0], [1, 2, 3], [0 + 1 / 4, 3 + 3 / 4, 3 + 3 / 4], "no other class: taken as at the last one's 3"),
        ([2, 1, 0], [0, 0, 0], [2.5, 2.5, 2.5], "all at no distance: half"),
        ([1, 1, 0], [0, 1, 1], [2 + 1, 1 + 0, 3 + 1], "copies of the cell"),
    ],
)
def test_nonconformity_counts_other_labels_and_breaks_ties_by_distance(labels, distances, expected, why):
    found = decide.nonconformity(np.array([labels]), np.array([distances], np.float32), 3)
    assert found[0] == pytest.approx(expected), why


@pytest.mark.parametrize(("promise", "cells"), [(0.9, 9), (0.8, 4), (0.95, 19), (0.99, 99), (0.5, 1), (2 / 3, 2)])
def test_the_fewest_cells_that_can_rule_a_class_out(promise, cells):
    assert decide.needed(promise) == cells
    far = np.array([[9.0]])
    assert not decide.sets(scores_of([0.0] * cells, promise=promise), far)[0, 0]
    assert decide.sets(scores_of([0.0] * (cells - 1), promise=promise), far)[0, 0]


def test_small_classes_are_compared_together_and_with_everybody_where_they_are_too_few():
    large = list(np.linspace(0, 1, 20))
    own, *rest = decide.pools(scores_of(large, [2.0] * 5, [3.0] * 6))
    assert own.tolist() == large
    assert [each.tolist() for each in rest] == [[2.0] * 5 + [3.0] * 6] * 2
    _, alone = decide.pools(scores_of(large, [2.0] * 5))
    assert alone.tolist() == [*large, *[2.0] * 5]


def slow_p(pool, value):
    return Fraction(1 + sum(one >= value for one in pool), 1 + len(pool))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 8), min_size=9, max_size=40), min_size=1, max_size=4),
    st.lists(st.integers(-1, 9), min_size=1, max_size=5),
    st.sampled_from([Fraction(9, 10), Fraction(4, 5), Fraction(17, 20)]),
)
def test_p_values_and_sets_against_the_slow_twin(by_class, values, promise):
    scores = scores_of(*by_class, promise=float(promise))
    table = np.tile(np.array(values, dtype=float)[:, None], (1, len(by_class)))
    p, sets = decide.p_values(scores, table), decide.sets(scores, table)
    pools = decide.pools(scores)
    for row, value in enumerate(values):
        for class_id, pool in enumerate(pools):
            expected = slow_p(pool.tolist(), value)
            assert p[row, class_id] == pytest.approx(float(expected))
            assert sets[row, class_id] == (expected > 1 - promise)  # in exact fractions, on the boundary too


def test_a_worse_fit_is_never_in_a_set_that_a_better_one_is_not_in():
    scores = scores_of(np.random.default_rng(0).gamma(2, 1, 57).tolist())
    inside = decide.sets(scores, np.linspace(0, 12, 400)[:, None])[:, 0]
    assert inside[0]
    assert not inside[-1]
    assert (np.diff(inside.astype(int)) <= 0).all()


@pytest.fixture(scope="module")
def simulated():
    """3 overlapping classes of unlike size: references, and many cells that are none, with their nonconformity."""
    rng = np.random.default_rng(5)
    means = rng.normal(size=(3, 6))

    def draw(counts):
        labels = np.repeat(np.arange(3), counts)
        return labels, (means[labels] + 0.9 * rng.normal(size=(len(labels), 6))).astype(np.float32)

    known, references = draw((400, 150, 40))
    labels, cells = draw((2000, 1000, 400))
    near = ExactSearch.of(["e"], [references], [1.0]).nearest({"e": cells}, 10)
    return labels, decide.nonconformity(known[near.ids].astype(np.int64), near.distances, 3)


@pytest.mark.parametrize("cells", [9, 14, 19, 99])
def test_every_class_is_covered_as_promised(simulated, cells):
    """Without ties a class is covered by ceil(0.9 (n + 1)) / (n + 1), averaged over draws of the calibration cells."""
    labels, table = simulated
    rng = np.random.default_rng(cells)
    draws, covered = 200, np.zeros(3)
    for _ in range(draws):
        rows = [rng.permutation(np.flatnonzero(labels == c)) for c in range(3)]
        scores = scores_of(*(table[own[:cells], c].tolist() for c, own in enumerate(rows)), k=10)
        covered += [decide.sets(scores, table[own[cells:]])[:, c].mean() for c, own in enumerate(rows)]
    expected = int(np.ceil(PROMISE * (cells + 1) - 1e-9)) / (cells + 1)
    # One draw's coverage is a beta variable with about this variance; four standard errors of the mean of the draws.
    room = 4 * np.sqrt(expected * (1 - expected) / (cells + 2) / draws)
    assert covered / draws == pytest.approx([expected] * 3, abs=room)


def test_whole_numbers_alone_would_overfill_the_sets(simulated):
    """What the fraction is for: most cells share a handful of counts."""
    labels, table = simulated
    own = table[np.arange(len(labels)), labels]
    assert len(np.unique(np.floor(own))) <= 12
    assert len(np.unique(own)) > 0.95 * len(own)
