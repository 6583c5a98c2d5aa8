"""The network simplex over the cheapest pairs alone: the same optimum as over all pairs, on problems that are large."""

from __future__ import annotations

import numpy as np
import pytest

from cellvigil_indexes.aligning.libraries import library
from cellvigil_indexes.aligning.maps import simplex

SIDES = (760, 700)
assert SIDES[0] * SIDES[1] > simplex.SMALL


def _problem(seed: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masses of both sides and the costs between them."""
    random = np.random.default_rng(seed)
    p, q = (random.dirichlet(np.full(count, 2.0)) for count in SIDES)
    if kind == "noise":
        return p, q, random.random(SIDES)
    own, theirs = random.normal(size=(SIDES[0], 3)), random.normal(size=(SIDES[1], 3)) + 2.0
    if kind == "far apart":  # every pair that is cheap for one cell is dear for the others
        theirs[: SIDES[1] // 5] += 30.0
    return p, q, np.square(own[:, None] - theirs).sum(axis=2)


@pytest.mark.parametrize("kind", ["noise", "clouds", "far apart"])
def test_the_cheapest_pairs_lead_to_the_optimum_of_all_pairs(kind: str) -> None:
    p, q, costs = _problem(3, kind)
    plan, _ = simplex.emd(p, q, costs)
    whole = library("ot", "POT", "the twin").emd(p, q, costs, numItermax=10_000_000)
    assert np.isclose(np.vdot(plan, costs), np.vdot(whole, costs), rtol=1e-9)
    np.testing.assert_allclose(plan.sum(axis=1), p, atol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), q, atol=1e-12)


def test_duals_of_a_like_problem_change_nothing_but_the_time() -> None:
    p, q, costs = _problem(4, "clouds")
    _, duals = simplex.emd(p, q, costs)
    nudged = costs * np.random.default_rng(5).uniform(0.98, 1.02, SIDES)
    cold, _ = simplex.emd(p, q, nudged)
    warm, _ = simplex.emd(p, q, nudged, duals)
    assert np.isclose(np.vdot(cold, nudged), np.vdot(warm, nudged), rtol=1e-9)
