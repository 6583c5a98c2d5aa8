"""Mixtures of classes behind shares of calls: the least squares, and how sure a share that follows from it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from cellvigil.response.mixture import drawn_rates, state_share, unmixing
from cellvigil.response.unmixing import unmixed, unmixing_map
from counted_cells import HOME


def slow_unmixed(called: np.ndarray, rates: np.ndarray) -> np.ndarray:
    found = minimize(
        lambda x: np.square(x @ rates - called).sum(),
        np.full(len(rates), 1 / len(rates)),
        jac=lambda x: 2 * (x @ rates - called) @ rates.T,
        bounds=[(0, 1)] * len(rates),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(len(rates))},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.asarray(found.x)


shares_of_calls = arrays(np.float64, (5, 5), elements=st.floats(0.001, 1)).map(
    lambda a: a / a.sum(axis=1, keepdims=True)
)
confusions = arrays(np.float64, (4, 5), elements=st.floats(0, 0.1)).map(
    lambda a: (a + np.eye(4, 5)) / (a + np.eye(4, 5)).sum(axis=1, keepdims=True)
)


@settings(deadline=None, max_examples=60)
@given(shares_of_calls, confusions)
def test_it_is_the_constrained_least_squares(called: np.ndarray, rates: np.ndarray) -> None:
    found = unmixed(called, rates)
    assert found.sum(axis=1) == pytest.approx(1)
    assert found.min() >= 0
    for row, calls in zip(found, called, strict=True):
        slow = slow_unmixed(calls, rates)
        ours, other = (np.square(x @ rates - calls).sum() for x in (row, slow))
        assert ours <= other + 1e-9
        assert row == pytest.approx(slow, abs=1e-3)


@given(shares_of_calls)
def test_no_other_mixture_comes_nearer(called: np.ndarray) -> None:
    found = unmixed(called, HOME)
    best = np.square(found @ HOME - called).sum(axis=1)
    for other in np.random.default_rng(1).dirichlet(np.ones(4) / 2, size=200):
        assert (best <= np.square(other @ HOME - called).sum(axis=1) + 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_at_the_answer_no_class_would_help(seed: int) -> None:
    """Strong confusion of many classes: some that were held at zero on the way have to come back."""
    random = np.random.default_rng(seed)
    rates = 0.3 * np.eye(8, 9) + 0.7 * random.dirichlet(np.full(9, 0.3), size=8)
    called = random.dirichlet(np.full(9, 0.2), size=2000)
    found = unmixed(called, rates)
    slope = (found @ rates - called) @ rates.T
    level = (slope * found).sum(axis=1, keepdims=True)  # equal in all classes that are there
    assert (slope - level).min() > -1e-7
    assert np.abs((slope - level) * found).max() < 1e-7


@given(arrays(np.float64, (6, 4), elements=st.floats(0.001, 1)))
def test_a_mixture_is_found_again(true: np.ndarray) -> None:
    true = true / true.sum(axis=1, keepdims=True)
    assert unmixed(true @ HOME, HOME) == pytest.approx(true, abs=1e-8)
    assert (true @ HOME) @ unmixing_map(HOME).T == pytest.approx(true, abs=1e-8)


def test_pure_wells_are_corners() -> None:
    assert unmixed(HOME, HOME) == pytest.approx(np.eye(4), abs=1e-9)
    assert unmixed(np.eye(5)[:4], HOME) == pytest.approx(np.eye(4), abs=1e-9)


@pytest.mark.parametrize("number", [1, 2, 9])
def test_any_number_of_classes(number: int) -> None:
    random = np.random.default_rng(number)
    rates = 0.7 * np.eye(number, number + 1) + 0.3 * random.dirichlet(np.ones(number + 1), size=number)
    true = random.dirichlet(np.ones(number), size=50)
    assert unmixed(true @ rates, rates) == pytest.approx(true, abs=1e-7)


def test_doubt_is_what_resampling_the_confusion_and_solving_again_gives() -> None:
    cells = HOME * 400
    using = unmixing(cells, np.array([0, 1, 2]))
    true = np.array([[0.1, 0.1, 0.4, 0.4]])
    called = true @ using.rates
    again = np.stack([unmixed(called, rates)[0] for rates in drawn_rates(cells, 800)])
    slow = (again[:, 2] / again[:, :3].sum(axis=1)).std()
    assert np.sqrt(state_share(using, true, 2).doubt(using)[0]) == pytest.approx(slow, rel=0.1)


def test_spread_is_what_drawing_cells_and_solving_again_gives() -> None:
    using = unmixing(HOME * 1e6, np.array([0, 1, 2]))
    true = np.array([[0.5, 0.15, 0.25, 0.1]])
    drawn = np.random.default_rng(1).multinomial(800, (true @ HOME)[0], size=4000) / 800
    again = unmixed(drawn, HOME)
    one = state_share(using, true, 2)
    variance = one.spread[0] @ one.share[0] ** np.arange(4) / 800
    assert np.sqrt(variance) == pytest.approx((again[:, 2] / again[:, :3].sum(axis=1)).std(), rel=0.06)


@given(arrays(np.float64, (1, 4), elements=st.floats(0.01, 1)), st.floats(0, 1), st.integers(0, 2))
def test_spread_at_another_share_is_that_of_the_mixture_with_that_share(
    true: np.ndarray, share: float, state: int
) -> None:
    using, living = unmixing(HOME * 1e6, np.array([0, 1, 2])), np.array([1, 1, 1, 0])
    true = true / true.sum()
    mass, own = float(true[0] @ living), np.eye(4)[state]
    others = true[0] * (living - own)
    moved = true[0] * (1 - living) + mass * ((1 - share) * others / others.sum() + share * own)
    called = moved @ using.rates
    towards = using.map.T @ (own - share * living) / mass
    slow = towards @ (np.diag(called) - np.outer(called, called)) @ towards
    assert state_share(using, true, state).spread[0] @ share ** np.arange(4) == pytest.approx(slow, abs=1e-9)
