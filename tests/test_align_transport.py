"""Fused Gromov-Wasserstein: the plan, the images, subsets, and the variant whose class masses may give."""

from __future__ import annotations

import sys

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.barycentre import images
from cellvigil_indexes.aligning.maps.catalogue import MAPS, PULL
from cellvigil_indexes.aligning.maps.comparing import distances
from cellvigil_indexes.aligning.maps.fused import Problem, cost, crossed, fused_plan, line_step, problem
from cellvigil_indexes.aligning.maps.relaxed import relaxed_plan
from cellvigil_indexes.aligning.maps.subsets import dealt
from cellvigil_indexes.aligning.maps.transport import Transport, fgw
from cellvigil_indexes.aligning.sharing.graph import geodesic

WEB = 8  # k of the graphs here


def clumps(counts: tuple[int, ...], seed: int = 0, *, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Cells of classes at the same three places whatever the seed, their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
    means = np.array([[0, 0, 0, 0, 0], [5, 0, 0, 0, 0], [0, 4, 3, 0, 0]])
    vectors = means[labels] + rng.normal(size=(len(labels), 5)) + shift
    return vectors.astype(np.float32), labels


def posed(references: np.ndarray, target: np.ndarray, *, alpha: float = 0.5, p: np.ndarray | None = None) -> Problem:
    masses = np.full(len(references), 1 / len(references)) if p is None else p
    return problem(
        distances(references, target),
        geodesic(references, WEB),
        geodesic(target, WEB),
        masses,
        np.full(len(target), 1 / len(target)),
        alpha=alpha,
    )


def pots(given: Problem) -> tuple[np.ndarray, float]:
    """POT's plan at its defaults, and its cost."""
    plan, told = ot.gromov.fused_gromov_wasserstein(
        given.features,
        given.source.astype(np.float64),
        given.target.astype(np.float64),
        given.p,
        given.q,
        alpha=given.alpha,
        log=True,
    )
    return plan, float(told["fgw_dist"])


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_dearer_than_pot(alpha: float, seed: int) -> None:
    references, _ = clumps((60, 40, 50), seed)
    target, _ = clumps((20, 50, 45), seed + 50, shift=0.7)
    given = posed(references, target, alpha=alpha)
    ours = fused_plan(given)
    theirs, dear = pots(given)
    assert cost(given, theirs) == pytest.approx(dear, rel=1e-5)
    assert ours.cost <= dear * (1 + 1e-5)
    assert ours.cost == pytest.approx(cost(given, ours.coupling), rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(3, 25), columns=st.integers(3, 25), alpha=st.floats(0.0, 1.0))
def test_marginals_hold_and_the_cost_is_equation_2(seed: int, rows: int, columns: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    references, target = (rng.normal(size=(count, 3)).astype(np.float32) for count in (rows, columns))
    p = rng.dirichlet(np.full(rows, 3.0))
    given = posed(references, target, alpha=alpha, p=p)
    plan = fused_plan(given)
    assert np.allclose(plan.coupling.sum(axis=1), p, atol=1e-9)
    assert np.allclose(plan.coupling.sum(axis=0), given.q, atol=1e-9)
    assert (plan.coupling >= -1e-12).all()
    misfit = np.square(given.source[:, None, :, None].astype(np.float64) - given.target[None, :, None, :])
    slow = (1 - alpha) * (given.features * plan.coupling).sum()
    slow += alpha * np.einsum("ijkl,ij,kl->", misfit, plan.coupling, plan.coupling)
    assert plan.cost == pytest.approx(slow, rel=1e-4, abs=1e-6)


def test_crossed_is_the_three_matrices() -> None:
    references, _ = clumps((8, 8, 8))
    target, _ = clumps((5, 6, 7), 1)
    given = posed(references, target)
    plan = fused_plan(given).coupling
    assert np.allclose(crossed(given, plan), given.source @ plan @ given.target, atol=1e-5)


@pytest.mark.parametrize(
    ("slope", "curve", "least"),
    [(-1.0, 1.0, 0.5), (-4.0, 1.0, 1.0), (1.0, 1.0, 0.0), (-1.0, -1.0, 1.0), (1.0, -3.0, 1.0)],
)
def test_line_step_finds_the_least(slope: float, curve: float, least: float) -> None:
    assert line_step(slope, curve) == least


@pytest.mark.parametrize("name", ["fgw", "fgw-coral", "fgw-relaxed"])
def test_images_lie_in_the_targets_hull(name: str) -> None:
    references, labels = clumps((40, 30, 30))
    target, _ = clumps((20, 30, 40), 1, shift=2.0)
    mapped = MAPS[name](references, labels, target, None)
    assert mapped.affine is None
    assert (mapped.vectors >= target.min(axis=0) - 1e-4).all()
    assert (mapped.vectors <= target.max(axis=0) + 1e-4).all()


@pytest.mark.parametrize("name", ["fgw", "fgw-coral", "fgw-relaxed"])
def test_permuting_cells_permutes_the_result(name: str) -> None:
    references, labels = clumps((40, 30, 30))
    target, _ = clumps((20, 30, 41), 1)
    mapped = MAPS[name](references, labels, target, np.array([0.3, 0.3, 0.4]))
    rng = np.random.default_rng(0)
    order, other = rng.permutation(len(labels)), rng.permutation(len(target))
    again = MAPS[name](references[order], labels[order], target[other], np.array([0.3, 0.3, 0.4]))
    assert np.abs(again.vectors - mapped.vectors[order]).mean() < 0.02  # f32: a near tie may fall the other way


@pytest.mark.parametrize("name", ["fgw", "fgw-coral"])
def test_equal_domains_stay(name: str) -> None:
    references, labels = clumps((40, 30, 30))
    mapped = MAPS[name](references, labels, references.copy(), None)
    assert np.allclose(mapped.vectors, references, atol=1e-4)


def test_a_shift_is_undone_class_by_class() -> None:
    references, labels = clumps((60, 60, 60))
    target, truth = clumps((50, 50, 50), 1, shift=6.0)
    mapped = fgw(references, labels, target, None)
    centres = np.stack([target[truth == label].mean(axis=0) for label in range(3)])
    nearest = np.linalg.norm(mapped.vectors[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.95


def dead_shares(mapped_vectors: np.ndarray, labels: np.ndarray, target: np.ndarray) -> float:
    """Share of target cells that 5 nearest references, weighted by class, call class 1."""
    near = distances(target, mapped_vectors).argsort(axis=1)[:, :5]
    votes = np.stack([(labels[near] == label).sum(axis=1) / (labels == label).sum() for label in (0, 1)], axis=1)
    return float((votes.argmax(axis=1) == 1).mean())


def test_balanced_squeezes_the_dead_and_rebalanced_does_not() -> None:
    """Reference 10 % dead, target 80 %: balanced sends the living among the dead; told shares or relaxed, none."""
    references, labels = clumps((270, 30))
    target, truth = clumps((60, 240), 1)
    wrong = {}
    for name, mapper, shares in (
        ("balanced", MAPS["fgw"], None),
        ("told", MAPS["fgw"], np.array([0.2, 0.8])),
        ("relaxed", MAPS["fgw-relaxed"], None),
    ):
        mapped = mapper(references, labels, target, shares)
        centres = np.stack([target[truth == label].mean(axis=0) for label in (0, 1)])
        sides = np.linalg.norm(mapped.vectors[:, None] - centres, axis=2).argmin(axis=1)
        wrong[name] = float((sides != labels)[mapped.kept].mean())
        if name != "balanced":
            assert abs(dead_shares(mapped.vectors[mapped.kept], labels[mapped.kept], target) - 0.8) <= 0.05
    assert wrong["balanced"] > 0.5
    assert wrong["told"] < 0.05
    assert wrong["relaxed"] < 0.05


@pytest.mark.parametrize("pull", [PULL, 1e4])
def test_relaxed_masses_go_to_the_truth_or_stay_as_pulled(pull: float) -> None:
    references, labels = clumps((90, 30, 60))
    target, truth = clumps((30, 90, 30), 1)
    given = posed(references, target)
    plan = relaxed_plan(given, labels, pull=pull)
    masses = np.bincount(labels, weights=plan.coupling.sum(axis=1), minlength=3)
    wanted = np.bincount(labels if pull > 1 else truth) / len(labels if pull > 1 else truth)
    assert np.allclose(masses, wanted, atol=0.05)
    assert np.allclose(plan.coupling.sum(axis=0), given.q, atol=1e-9)
    rows = plan.coupling.sum(axis=1)
    assert all(np.ptp(rows[labels == label]) < 1e-9 for label in range(3))


def test_class_shares_are_the_masses_and_a_class_without_share_is_not_kept() -> None:
    references, labels = clumps((40, 30, 30))
    target, _ = clumps((50, 50), 1)
    mapped = fgw(references, labels, target, np.array([0.5, 0.5, 0.0]))
    assert mapped.kept.tolist() == (labels != 2).tolist()


def test_rows_without_mass_are_dropped() -> None:
    coupling = np.array([[0.2, 0.1], [0.001, 0.0], [0.0, 0.0], [0.3, 0.399]])
    target = np.array([[0.0, 0.0], [3.0, 3.0]], dtype=np.float32)
    places, kept = images(coupling, np.array([0.3, 0.2, 0.0, 0.5]), target)
    assert kept.tolist() == [True, False, False, True]
    assert np.allclose(places[0], 1.0)
    assert np.allclose(places[1:3], 1.5)  # the target's mean: finite, and said to be nothing


@pytest.mark.parametrize(("cells", "size"), [(10, 10), (11, 10), (95, 20), (1, 5)])
def test_subsets_hold_every_cell_once_and_every_class_evenly(cells: int, size: int) -> None:
    labels = (np.arange(cells) % 3).astype(np.int16)
    parts = dealt(cells, size, np.random.default_rng(0), labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(cells))
    assert len(parts) == -(-cells // size)
    counts = np.array([np.bincount(labels[part], minlength=3) for part in parts])
    assert np.ptp([len(part) for part in parts]) <= 1
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_subsets_are_recombined_to_one_row_a_reference() -> None:
    references, labels = clumps((60, 60, 60))
    target, truth = clumps((70, 70, 70), 1, shift=3.0)
    mapped = fgw(references, labels, target, None, settings=Transport(subset=60, target_subsets=2))
    assert len(mapped.told["plans"]) == 3 * 2
    assert mapped.vectors.shape == references.shape
    centres = np.stack([target[truth == label].mean(axis=0) for label in range(3)])
    assert (np.linalg.norm(mapped.vectors[:, None] - centres, axis=2).argmin(axis=1) == labels).mean() > 0.95


def test_a_disconnected_target_is_transported() -> None:
    references, labels = clumps((40, 40))
    target, _ = clumps((30, 30), 1)
    target[30:] += np.float32(500)
    mapped = fgw(references, labels, target, None)
    assert np.isfinite(mapped.vectors).all()
    assert mapped.kept.all()


BAD_SETTINGS = {
    "alpha": {"alpha": 1.5},
    "not a number": {"alpha": float("nan")},
    "k": {"k": 0},
    "subset": {"subset": 1},
    "before": {"before": "pca"},
    "pull": {"pull": 0.0},
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_refused(case: str) -> None:
    with pytest.raises(UsageError):
        Transport(**BAD_SETTINGS[case])


def test_costs_that_say_nothing_are_refused() -> None:
    same, uniform = np.zeros((3, 3)), np.full(3, 1 / 3)
    with pytest.raises(UsageError, match="are all 0"):
        problem(np.ones((3, 3)), same, np.ones((3, 3)), uniform, uniform, alpha=0.5)
    with pytest.raises(UsageError, match="not finite"):
        problem(np.full((3, 3), np.inf), np.ones((3, 3)), np.ones((3, 3)), uniform, uniform, alpha=0.5)


def test_without_pot_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    references, labels = clumps((20, 20))
    with pytest.raises(UsageError, match=r"POT.*cellvigil\[index\]"):
        fgw(references, labels, references, None)
