"""Maps of references into a target's space: none, z-score, CORAL, sphering, Monge; affine maps; pooled references."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.affine import affine_of, applied, composed
from cellvigil_indexes.aligning.maps.catalogue import MAPS, TRANSPORTS
from cellvigil_indexes.aligning.maps.coral import coral
from cellvigil_indexes.aligning.maps.domains import cell_masses
from cellvigil_indexes.aligning.maps.monge import monge
from cellvigil_indexes.aligning.maps.sphering import sphering
from cellvigil_indexes.aligning.maps.zscore import zscore

SIMPLE = [name for name in MAPS if name not in TRANSPORTS]
GAUSSIAN = {"coral": coral, "sphering": sphering, "monge": monge}


def cells(count: int = 300, dimensions: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cells of three classes whose means differ, in dimensions of different spreads."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int16)
    means = 3 * rng.normal(size=(3, dimensions))
    vectors = (means[labels] + rng.normal(size=(count, dimensions))) * np.linspace(0.5, 3, dimensions)
    return vectors.astype(np.float32), labels


def stretched(vectors: np.ndarray) -> np.ndarray:
    return vectors * np.linspace(0.4, 2.0, vectors.shape[1], dtype=np.float32) + np.float32(3)


def sheared(vectors: np.ndarray) -> np.ndarray:
    """By a symmetric positive matrix: what the Monge map between two Gaussians can undo."""
    rng = np.random.default_rng(9)
    square = rng.normal(size=(vectors.shape[1],) * 2)
    return (vectors @ (square @ square.T / len(square) + 0.5 * np.eye(len(square))) - 2).astype(np.float32)


def scaled(vectors: np.ndarray) -> np.ndarray:
    return 1.7 * vectors - np.float32(5)


EXACT = {
    "zscore, each dimension stretched": (zscore, stretched),
    "zscore, all scaled": (zscore, scaled),
    "monge, sheared": (partial(monge, shrinkage=0.0), sheared),
    "monge, scaled": (monge, scaled),
    "coral, scaled": (coral, scaled),
    "sphering, each dimension stretched": (sphering, stretched),
}


@pytest.mark.parametrize("case", EXACT)
def test_a_shifted_copy_is_carried_back(case: str) -> None:
    mapper, shift = EXACT[case]
    vectors, labels = cells()
    target = shift(vectors)
    mapped = mapper(vectors, labels, target, None)
    assert np.abs(mapped.vectors - target).max() < 2e-3 * np.abs(target).max()


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("count", [300, 5])  # 5: fewer cells than dimensions
def test_equal_domains_stay(name: str, count: int) -> None:
    vectors, labels = cells(count)
    mapped = MAPS[name](vectors, labels, vectors.copy(), None)
    assert np.allclose(mapped.vectors, vectors, atol=1e-3)
    assert mapped.kept.all()


@pytest.mark.parametrize("name", SIMPLE)
def test_the_affine_is_what_was_done(name: str) -> None:
    vectors, labels = cells(seed=1)
    target, _ = cells(200, seed=2)
    mapped = MAPS[name](vectors, labels, target, np.array([0.2, 0.3, 0.5]))
    assert mapped.affine is not None
    assert np.allclose(applied(mapped.affine, vectors), mapped.vectors, atol=1e-4)
    assert mapped.vectors.dtype == np.float32


@pytest.mark.parametrize("name", GAUSSIAN)
def test_the_targets_moments_are_taken_on(name: str) -> None:
    vectors, labels = cells(400, seed=3)
    target, _ = cells(300, seed=4)
    mapped = GAUSSIAN[name](vectors, labels, target, None, shrinkage=0.0)
    assert np.allclose(mapped.vectors.mean(axis=0), target.mean(axis=0), atol=1e-3)
    wanted = np.cov(target.T, bias=True)
    assert np.allclose(np.cov(mapped.vectors.T, bias=True), wanted, atol=1e-2 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["zscore", "coral", "sphering", "monge"])
def test_shares_keep_a_rare_class_from_looking_like_a_shift(name: str) -> None:
    """The same cells at the same places, but one class makes up 80 % of the target and 10 % of the references."""
    rng = np.random.default_rng(5)

    def drawn(counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat([0, 1], counts).astype(np.int16)
        means = np.array([[0.0] * 4, [6.0] + [0.0] * 3])
        return (means[labels] + rng.normal(size=(len(labels), 4))).astype(np.float32), labels

    references, labels = drawn((900, 100))
    target, _ = drawn((200, 800))
    plain = MAPS[name](references, labels, target, None).vectors
    told = MAPS[name](references, labels, target, np.array([0.2, 0.8])).vectors
    assert np.abs(told - references).mean() < 0.25
    assert np.abs(plain - references).mean() > 0.8


@pytest.mark.parametrize("name", GAUSSIAN)
def test_many_dimensions_and_few_cells(name: str) -> None:
    """340 cells of 1,280 dimensions, shifted and pale: the map is finite, undoes it, and keeps neighbours."""
    rng = np.random.default_rng(6)
    whole = rng.normal(size=(340, 8)) @ rng.normal(size=(8, 1280)) + 0.1 * rng.normal(size=(340, 1280))
    labels = (np.arange(340) % 4).astype(np.int16)
    target = (0.6 * whole + rng.normal(size=1280)).astype(np.float32)
    mapped = GAUSSIAN[name](whole.astype(np.float32), labels, target, None)
    assert np.abs(mapped.vectors - target).max() < 0.01 * np.abs(target).max()
    again = GAUSSIAN[name](whole.astype(np.float32), labels, target[:40], None)
    assert np.isfinite(again.vectors).all()


@pytest.mark.parametrize("name", MAPS)
def test_a_constant_dimension_does_no_harm(name: str) -> None:
    vectors, labels = cells(60)
    vectors[:, 2] = 4.0
    target = vectors[::2] + np.float32(1)
    mapped = MAPS[name](vectors, labels, target, None)
    assert np.isfinite(mapped.vectors).all()
    if name != "none":
        assert np.allclose(mapped.vectors[:, 2], 5.0, atol=1e-3)


BAD = {
    "one reference": (lambda x, y: (x[:1], y[:1], x), "1 reference cell cannot"),
    "one target cell": (lambda x, y: (x, y, x[:1]), "1 target cell cannot"),
    "no target cells": (lambda x, y: (x, y, x[:0]), "0 target cells cannot"),
    "identical references": (
        lambda x, y: (np.repeat(x[:1], 9, axis=0), y[:9], x),
        "all 9 reference cells are the same",
    ),
    "identical target": (lambda x, y: (x, y, np.repeat(x[:1], 9, axis=0)), "all 9 target cells are the same"),
    "not finite": (lambda x, y: (x, y, np.where(x == x[3, 1], np.nan, x)), "1 target cells have vectors .* row 3"),
    "other dimensions": (lambda x, y: (x, y, x[:, :4]), "not cells of one encoder"),
    "labels missing": (lambda x, y: (x, y[:-1], x), "have 49 labels"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", MAPS)
def test_bad_input_says_what_to_do(name: str, case: str) -> None:
    spoil, message = BAD[case]
    references, labels, target = spoil(*cells(50))
    with pytest.raises(UsageError, match=message) as caught:
        MAPS[name](references, labels, target, None)
    assert caught.value.hint


BAD_SHARES = {
    "too few": [0.5, 0.5],
    "negative": [-0.1, 0.6, 0.5],
    "not finite": [np.nan, 0.5, 0.5],
    "all nothing": [0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("case", BAD_SHARES)
def test_bad_shares_are_refused(case: str) -> None:
    with pytest.raises(UsageError) as caught:
        cell_masses(np.array([0, 1, 2, 2], dtype=np.int16), np.array(BAD_SHARES[case]))
    assert caught.value.hint


def test_masses_are_class_shares_over_the_classes_there_are() -> None:
    labels = np.array([0, 0, 0, 2], dtype=np.int16)
    assert cell_masses(labels, None).tolist() == [0.25] * 4
    assert np.allclose(cell_masses(labels, np.array([0.3, 0.5, 0.2])), [0.2, 0.2, 0.2, 0.4])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), thin=st.tuples(st.booleans(), st.booleans()))
def test_composed_is_one_after_the_other(seed: int, thin: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(seed)
    first, second = (
        affine_of(rng.normal(size=4), rng.normal(size=4 if diagonal else (4, 4)), rng.normal(size=4))
        for diagonal in thin
    )
    vectors = rng.normal(size=(7, 4)).astype(np.float32)
    both = composed(first, second)
    assert np.allclose(applied(both, vectors), applied(second, applied(first, vectors)), atol=1e-4)
    assert both.matrix.ndim == (1 if all(thin) else 2)


def test_affine_refuses_other_dimensions() -> None:
    affine = affine_of(np.zeros(3), np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="do not fit"):
        applied(affine, np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="cannot follow"):
        composed(affine, affine_of(np.zeros(4), np.ones(4), np.zeros(4)))
