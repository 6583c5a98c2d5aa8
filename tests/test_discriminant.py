"""Discriminant axes of reference cells: against generalised eigenvectors, and what they promise to the search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.bundle.projection import Projection, open_projection, projection_file, write_projection
from cellvigil.data import F32, I16, Array
from cellvigil.errors import BundleError, UsageError
from cellvigil_indexes import discriminant
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.crossfit import PARTS, leaving_parts_out
from cellvigil_indexes.settings import IndexSettings


def cells(
    seed: int, counts: tuple[int, ...], dimension: int, apart: float = 2.0, nuisance: float = 1.0
) -> tuple[F32, I16]:
    """Classes with their means `apart` along axes of their own, and one common direction of `nuisance` size."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
    vectors = rng.normal(size=(len(labels), dimension)) + apart * np.eye(len(counts), dimension)[labels]
    vectors[:, -1] *= nuisance
    return vectors.astype(np.float32), labels


def distances(a: Array, b: Array) -> Array:
    return np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=2)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 99),
    counts=st.lists(st.integers(2, 20), min_size=2, max_size=5).map(tuple),
    dimension=st.integers(5, 60),
    shrinkage=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_distances_are_those_of_the_generalised_eigenvectors(
    seed: int, counts: tuple[int, ...], dimension: int, shrinkage: float
) -> None:
    vectors, labels = cells(seed, counts, dimension)
    ours = discriminant.fit(vectors, labels, shrinkage=shrinkage).of(vectors)
    x = vectors.astype(np.float64)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(len(counts))])
    within = sum(np.outer(cell - means[c], cell - means[c]) for cell, c in zip(x, labels, strict=True)) / len(x)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / dimension * np.eye(dimension)
    between = np.cov(means.T, bias=True)
    _, vectors_of = scipy.linalg.eigh(between, within)
    theirs = x @ vectors_of[:, -(len(counts) - 1) :]
    np.testing.assert_allclose(distances(ours, ours), distances(theirs, theirs), rtol=1e-4, atol=1e-4)


def test_axes_are_no_more_than_the_classes_less_one() -> None:
    assert discriminant.fit(*cells(1, (9, 9, 9, 9), 30)).dimension == 3
    assert discriminant.fit(*cells(1, (9, 9), 30)).dimension == 1


def test_means_on_a_line_have_one_axis() -> None:
    vectors = np.array([[0, 1], [0, -1], [2, 1], [2, -1], [4, 1], [4, -1]], dtype=np.float32)
    fitted = discriminant.fit(vectors, np.array([0, 0, 1, 1, 2, 2], dtype=np.int16), shrinkage=0.5)
    assert fitted.dimension == 1
    steps = np.abs(np.diff(fitted.of(vectors)[::2, 0]))
    np.testing.assert_allclose(steps, 2 / np.sqrt(0.5 * 0 + 0.5 * 0.5), rtol=1e-5)  # covariance diag(0, 1), trace/d 1/2


def test_what_differs_within_a_class_no_longer_decides() -> None:
    (reference, labels), (asked, truth) = (cells(s, (60, 60, 60), 40, apart=4, nuisance=40) for s in (1, 2))

    def right(reference: F32, asked: F32) -> float:
        bank = Bank(("a", "b", "c"), {"e": reference}, labels, np.arange(len(labels), dtype=np.int32))
        return float((ewc(bank, {"e": asked}, IndexSettings(k_max=20)).best == truth).mean())

    axes = discriminant.fit(reference, labels)
    assert right(reference, asked) < 0.8
    assert right(axes.of(reference), axes.of(asked)) > 0.95


def test_cells_are_read_in_blocks_mapped_and_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = cells(3, (30, 20, 10), 24)
    halves = vectors.astype(np.float16)
    np.save(tmp_path / "block.npy", halves)
    mapped = np.load(tmp_path / "block.npy", mmap_mode="r")
    wanted = discriminant.fit(halves.astype(np.float32), labels).of(vectors)
    monkeypatch.setattr(discriminant, "_ROWS", 7)
    got = discriminant.fit(mapped, labels)
    np.testing.assert_allclose(np.abs(got.of(vectors)), np.abs(wanted), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(got.of(mapped), got.of(halves.astype(np.float32)))


@pytest.mark.parametrize(
    ("vectors", "labels", "complaint"),
    [
        (np.eye(3), [1, 1, 1], "one class alone"),
        (np.eye(3), [0, 1, 2], "no class has two cells that differ"),
        (np.array([[0, 0], [0, 0], [1, 1], [1, 1]]), [0, 0, 1, 1], "no class has two cells that differ"),
        (np.array([[0, 1], [0, -1], [1, 0], [-1, 0]]), [0, 0, 1, 1], "all classes have the same mean"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(vectors: Array, labels: list[int], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        discriminant.fit(vectors.astype(np.float32), np.array(labels, dtype=np.int16))


@pytest.mark.parametrize("shrinkage", [0.0, -1.0, 1.1, float("nan")])
def test_a_shrinkage_that_is_no_share_is_refused(shrinkage: float) -> None:
    with pytest.raises(ValueError, match="shrinkage"):
        discriminant.fit(*cells(0, (3, 3), 4), shrinkage=shrinkage)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 90))
def test_a_cell_is_projected_alike_whatever_it_comes_with(seed: int, count: int) -> None:
    vectors, labels = cells(5, (30, 30, 30), 200)
    axes = discriminant.fit(vectors, labels)
    rows = np.random.default_rng(seed).permutation(90)[:count]
    np.testing.assert_array_equal(axes.of(vectors[rows]), axes.of(vectors)[rows])


def test_no_cells_are_no_error_and_other_vectors_are_one() -> None:
    axes = discriminant.fit(*cells(5, (3, 3), 8))
    assert axes.of(np.empty((0, 8), dtype=np.float32)).shape == (0, 1)
    with pytest.raises(ValueError, match="do not fit a projection from 8"):
        axes.of(np.ones((2, 9), dtype=np.float32))


def test_a_projection_survives_the_disk(tmp_path: Path) -> None:
    vectors, labels = cells(6, (8, 8, 8), 16)
    written = discriminant.fit(vectors, labels)
    write_projection(tmp_path, "lite", written)
    read = open_projection(tmp_path, "lite", 16)
    np.testing.assert_array_equal(read.of(vectors), written.of(vectors))
    assert not read.matrix.flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        np.ones((8, 3)),
        np.ones((7, 3), np.float32),
        np.ones((8, 1), np.float32),
        np.ones(8, np.float32),
        np.full((8, 3), np.nan, np.float32),
        np.array([{}] * 8),
        b"",
        b"no array",
        None,
    ],
)
def test_a_file_that_is_no_such_projection_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / projection_file("lite")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(BundleError, match=r"projection_lite\.npy cannot be opened.*build the index again"):
        open_projection(tmp_path, "lite", 8)


@pytest.mark.parametrize(("mean", "matrix"), [((3,), (4, 2)), ((3,), (3,)), ((3,), (3, 0))])
def test_parts_that_do_not_fit_make_no_projection(mean: tuple[int, ...], matrix: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="make no projection"):
        Projection(np.ones(mean, np.float32), np.ones(matrix, np.float32))


@pytest.mark.parametrize("cells_there", [24, 90, 129])
def test_few_cells_have_the_axes_that_the_whole_covariance_gives(cells_there: int) -> None:
    """Fewer cells than dimensions take a shorter way; it must lead to the same place."""
    rng = np.random.default_rng(cells_there)
    labels = np.arange(cells_there, dtype=np.int16) % 3
    block = (rng.normal(size=(cells_there, 130)) + 2 * rng.normal(size=(3, 130))[labels]).astype(np.float32)
    means = np.stack([block[labels == c].astype(np.float64).mean(axis=0) for c in range(3)])
    residual = block - means[labels]
    spread = residual.T @ residual / cells_there
    spread = 0.5 * spread + 0.5 * np.trace(spread) / 130 * np.eye(130)
    wanted = np.linalg.solve(spread, (means - means.mean(axis=0)).T)
    axes = discriminant.fit(block, labels).matrix
    assert axes.shape == (130, 2)
    within = axes.T @ spread @ axes
    np.testing.assert_allclose(within, np.eye(2), atol=1e-4)
    left = wanted - axes @ np.linalg.lstsq(axes, wanted, rcond=None)[0]
    assert np.abs(left).max() < 1e-4 * np.abs(wanted).max()


ALONG = IndexSettings(scaling="discriminant")


def paired(seed: int) -> Bank:
    """240 cells by two encoders, of 200 and 50 dimensions, two cells an image."""
    (first, labels), (second, _) = cells(seed, (80, 80, 80), 200), cells(seed + 50, (80, 80, 80), 50)
    return Bank(("a", "b", "c"), {"e": first, "f": second}, labels, np.arange(240, dtype=np.int32) // 2)


def test_reference_cells_lie_among_the_others_as_new_cells_will() -> None:
    bank, new = paired(1), paired(2)
    axes = discriminant.fit_all(bank.embeddings, bank.labels)
    reference = Bank(bank.classes, discriminant.projected(bank.embeddings, axes), bank.labels, bank.groups)
    live = ewc(reference, discriminant.projected(new.embeddings, axes), IndexSettings()).novelty.mean()
    own = ewc(reference, reference.embeddings, IndexSettings()).near.distances[:, 1:4].mean()
    assert own < 0.85 * live  # why a search among themselves will not do
    fair = leaving_parts_out(bank, ("e", "f"), ALONG, 3, rows=np.arange(240)).distances.mean()
    assert fair == pytest.approx(live, rel=0.1)


def test_no_cell_answers_for_its_own_image_nor_twice() -> None:
    bank = paired(3)
    rows = np.array([0, 17, 238, 239])
    near = leaving_parts_out(bank, ("f",), ALONG, 300, rows=rows)
    whole = leaving_parts_out(bank, ("f",), ALONG, 300, rows=np.arange(240))
    for row, ids in zip(rows, near.ids, strict=True):
        there = ids[ids >= 0]
        assert len(np.unique(there)) == len(there) >= len(bank) * (PARTS - 1) // PARTS - 2
        assert not (bank.groups[there] == bank.groups[row]).any()
    np.testing.assert_array_equal(near.ids, whole.ids[rows])
    np.testing.assert_allclose(near.distances, whole.distances[rows], rtol=1e-6)
    assert np.isinf(near.distances[near.ids < 0]).all()
