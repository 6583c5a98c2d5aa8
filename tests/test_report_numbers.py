"""The numbers of a report: against the papers' tables, and against slow, obvious twins."""

from __future__ import annotations

import importlib.util
import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import UsageError
from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.alignment import alignments, gaussian_kernel
from cellvigil_indexes.report.markup import heat_table, number, percent, table
from cellvigil_indexes.report.principal import block_shares, components, dimension_for
from cellvigil_indexes.report.projection import method_for, project
from cellvigil_indexes.report.similarity import class_similarity
from cellvigil_indexes.report.trials import summarised
from cellvigil_indexes.report.typical import shown
from cellvigil_indexes.sampling import KEPT_A_CLASS, sampled

SMALL = settings(max_examples=40, deadline=None)


def cloud(seed: int, cells: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(cells, width)).astype(np.float32)


# -- class similarity


def slow_similarity(vectors, labels, classes):
    """Every pair of different cells, one after the other."""
    matrix = np.full((classes, classes), np.nan)
    for a in range(classes):
        for b in range(classes):
            cosines = []
            for i, j in itertools.product(np.flatnonzero(labels == a), np.flatnonzero(labels == b)):
                lengths = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
                if i != j and lengths > 0:
                    cosines.append(float(vectors[i] @ vectors[j] / lengths))
            if cosines:
                matrix[a, b] = np.mean(cosines)
    return matrix


@SMALL
@given(st.integers(0, 10_000), st.integers(1, 14), st.integers(1, 4), st.booleans())
def test_similarity_is_the_mean_cosine_over_pairs(seed, cells, classes, with_nothing):
    rng = np.random.default_rng(seed)
    vectors, labels = cloud(seed, cells, 3).astype(np.float64), rng.integers(0, classes, cells).astype(np.int16)
    if with_nothing:
        vectors[0] = 0
    found = class_similarity(vectors, labels, classes)
    slow = slow_similarity(vectors, labels, classes)
    np.testing.assert_allclose(found.matrix, slow, atol=1e-6)
    known = [c for c in range(classes) if np.isfinite(slow[c, c])]
    rows = [[slow[a, b] for b in known if b != a] for a in known]
    if not known:
        assert np.isnan([found.intra, found.inter, found.separability]).all()
        return
    assert found.intra == pytest.approx(np.mean([slow[c, c] for c in known]), abs=1e-6)
    assert found.separability == pytest.approx(
        np.mean([slow[c, c] - sum(row) for c, row in zip(known, rows, strict=True)]), abs=1e-6
    )
    if len(known) > 1:
        assert found.inter == pytest.approx(np.mean(rows), abs=1e-6)


# Frontiers in Oncology 2025, tables 1 and 2: intra, inter, separability; eight white blood cell classes, four states
PUBLISHED = [
    (8, 0.355, -0.043, 0.654), (8, 0.349, -0.041, 0.637), (8, 0.33, -0.04, 0.612), (8, 0.244, -0.027, 0.431),
    (8, 0.179, -0.021, 0.329), (8, 0.183, -0.014, 0.283), (8, 0.144, -0.019, 0.274),
    (4, 0.188, 0.009, 0.162), (4, 0.147, -0.004, 0.159), (4, 0.176, 0.007, 0.154), (4, 0.130, -0.007, 0.152),
    (4, 0.140, -0.001, 0.143), (4, 0.215, 0.032, 0.120), (4, 0.290, 0.128, -0.093),
]  # fmt: skip


@pytest.mark.parametrize(("classes", "intra", "inter", "separability"), PUBLISHED)
def test_the_published_tables_agree_with_our_reading_of_separability(classes, intra, inter, separability):
    """Diagonal minus the *sum* of the row's other entries: intra - (C - 1) inter, to the printed digits."""
    assert intra - (classes - 1) * inter == pytest.approx(separability, abs=0.0005 + (classes - 1) * 0.0005 + 0.0005)


def test_the_identity_holds_for_ours():
    vectors, labels = cloud(1, 90, 12), (np.arange(90) % 6).astype(np.int16)
    found = class_similarity(vectors, labels, 6)
    assert found.separability == pytest.approx(found.intra - 5 * found.inter)


# -- alignment


def alignment(first, second, *, debiased):
    return alignments([first, second], debiased=debiased)[0, 1]


def slow_cka(first, second, bandwidth=0.8):
    """Kornblith et al. 2019, equation 3 and section 3: HSIC = tr(K H L H) / (m - 1)^2, normalised."""
    m = len(first)
    middle = np.eye(m) - np.ones((m, m)) / m
    kernels = []
    for vectors in (first, second):
        away = np.array([[np.sum((a - b) ** 2) for b in vectors.astype(float)] for a in vectors.astype(float)])
        sigma2 = bandwidth**2 * np.median(away[np.triu_indices(m, 1)])
        kernels.append(np.exp(-away / (2 * sigma2)))
    k, l = kernels  # noqa: E741 - the paper's names
    return np.trace(k @ middle @ l @ middle) / np.sqrt(
        np.trace(k @ middle @ k @ middle) * np.trace(l @ middle @ l @ middle)
    )


@SMALL
@given(st.integers(0, 10_000), st.integers(5, 15))
def test_alignment_is_that_of_the_definition(seed, cells):
    first, second = cloud(seed, cells, 4), cloud(seed + 1, cells, 7)
    found = alignment(gaussian_kernel(first), gaussian_kernel(second), debiased=False)
    assert found == pytest.approx(slow_cka(first, second), abs=1e-6)


def test_alignment_does_not_see_turns_shifts_and_units():
    vectors = cloud(2, 60, 8)
    turn, _ = np.linalg.qr(cloud(3, 8, 8))
    moved = 7 * vectors @ turn + 3
    for debiased in (False, True):
        found = alignment(gaussian_kernel(vectors), gaussian_kernel(moved.astype(np.float32)), debiased=debiased)
        assert found == pytest.approx(1, abs=1e-4)


def test_unrelated_spaces_are_at_zero_only_when_debiased():
    plain, debiased = [], []
    for seed in range(12):
        kernels = gaussian_kernel(cloud(seed, 50, 30)), gaussian_kernel(cloud(seed + 100, 50, 30))
        plain.append(alignment(*kernels, debiased=False))
        debiased.append(alignment(*kernels, debiased=True))
    assert np.mean(plain) > 0.3
    assert abs(np.mean(debiased)) < 0.03


def test_cells_that_are_all_alike_are_aligned_with_nothing():
    kernels = gaussian_kernel(np.ones((6, 3), dtype=np.float32)), gaussian_kernel(cloud(0, 6, 3))
    assert np.isnan(alignment(*kernels, debiased=False))
    assert np.isnan(alignment(*kernels, debiased=True))


# -- principal components


@pytest.mark.parametrize(("cells", "width"), [(40, 6), (6, 40), (10, 10), (3, 1), (2, 5)])
def test_components_are_those_of_the_singular_values(cells, width):
    vectors = cloud(4, cells, width) * np.linspace(3, 0.5, width, dtype=np.float32) + 5
    found = components(vectors, 4)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    kept = min(4, cells - 1, width)
    np.testing.assert_allclose(found.variances[:kept], sizes[:kept] ** 2 / (cells - 1), rtol=1e-4)
    np.testing.assert_allclose(np.abs(found.scores), np.abs(left[:, :kept] * sizes[:kept]), atol=1e-3)
    np.testing.assert_allclose(found.loadings.T @ found.loadings, np.eye(kept), atol=1e-4)


@pytest.mark.parametrize(
    ("variances", "dimension"), [([90, 5, 5], 2), ([96, 4], 1), ([1] * 20, 19), ([1] * 100, 95), ([0, 0], 0), ([], 0)]
)
def test_dimension_is_the_fewest_components_that_explain_enough(variances, dimension):
    assert dimension_for(np.array(variances, dtype=np.float64)) == dimension


def test_block_shares_say_where_a_component_comes_from():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([10 * rng.normal(size=(50, 2)), rng.normal(size=(50, 3))], axis=1).astype(np.float32)
    found = components(vectors, 5)
    shares = block_shares(found.loadings, [("loud", slice(0, 2)), ("quiet", slice(2, 5))])
    np.testing.assert_allclose(shares["loud"] + shares["quiet"], 1, atol=1e-6)
    assert (shares["loud"][:2] > 0.95).all()
    assert (shares["quiet"][2:] > 0.95).all()


# -- samples and choices


def test_a_sample_keeps_shares_and_rare_classes():
    labels = np.repeat(np.arange(3), [9000, 970, 30]).astype(np.int16)
    rows = sampled(labels, 1000)
    counts = np.bincount(labels[rows])
    assert counts.tolist() == [900, KEPT_A_CLASS, 30]
    assert (np.diff(rows) > 0).all()
    assert (rows == sampled(labels, 1000)).all()
    assert sampled(labels, 10_000).tolist() == list(range(10_000))


def test_typical_cells_are_near_the_mean_and_odd_ones_far_from_all():
    vectors = np.array([[x, 0] for x in (*np.linspace(-0.3, 0.3, 13), 4.0, 9.0, 100.0)], dtype=np.float32)
    labels = np.array([0] * 15 + [1], dtype=np.int16)
    novelty = np.array([0.1] * 13 + [4.0, np.nan, 50.0], dtype=np.float32)
    found = shown(vectors, labels, novelty, 0)
    assert not set(found.typical) & set(found.odd)
    assert found.odd[0] == 13  # row 14's novelty is not known, row 15 is of another class
    assert 14 not in found.typical
    assert len(shown(vectors, labels, novelty, 1).typical) == 1


@pytest.mark.parametrize(("wanted", "cells", "name"), [("pca", 999, "pca"), ("auto", 10, "pca"), ("umap", 10, "pca")])
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
def test_few_cells_are_drawn_by_their_principal_components(wanted, cells, name):
    assert method_for(wanted, cells).name == name


def test_without_umap_the_page_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # what an interpreter without it looks like
    assert "umap-learn is not installed" in method_for("auto", 999).words
    with pytest.raises(UsageError, match="pip install"):
        method_for("umap", 999)


def test_umap_keeps_what_belongs_together_and_repeats_itself():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    vectors = np.concatenate([cloud(0, 40, 10), cloud(1, 40, 10) + 30])
    found = components(vectors, 10)
    method = method_for("auto", 80)
    points = project(found, method)
    assert method.name == "umap"
    away = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    np.fill_diagonal(away, np.inf)
    assert ((away.argmin(axis=1) < 40) == (np.arange(80) < 40)).all()
    assert (points == project(found, method)).all()


# -- trials


def trial(encoders, mean, **settings):
    return {"encoders": encoders, "mean": mean, "sd": 0.01, "k_min": 3, "k_max": 100, "threshold": 0.3, **settings}


def test_trials_are_summed_up_by_set_and_by_setting():
    found = summarised(
        [
            trial(("a", "b"), 0.9, k_min=10),
            trial(("a", "b"), 0.8),
            trial(("a",), 0.85),
            trial(("a",), 0.7, k_min=10),
            trial(("b",), float("nan")),
        ]
    )
    assert found.count == 5
    assert [(each.encoders, each.mean) for each in found.by_subset] == [(("a", "b"), 0.9), (("a",), 0.85)]
    assert list(found.sensitivity) == ["k_min"]  # nothing else varies
    assert [(s.value, s.best, s.held) for s in found.sensitivity["k_min"]] == [(3, 0.85, 0.8), (10, 0.9, 0.9)]
    assert summarised([trial(("a",), float("nan"))]) is None


# -- markup


def test_foreign_text_never_becomes_markup():
    bad = "<script>alert(1)</script>\"'&"
    whole = joined(
        tag("p", bad, title=bad),
        table([bad], [[bad]], caption=bad),
        heat_table(np.eye(1), [bad], [bad], caption=bad, corner=bad, low=0, high=1),
    )
    assert "<script" not in whole
    assert whole.count("&lt;script&gt;") == 9
    assert tag("p", Html("<b>kept</b>")) == "<p><b>kept</b></p>"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (-0.0001, "0.000"), (-1.5, "\N{MINUS SIGN}1.500"), (float("nan"), "\N{EN DASH}")],
)
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text
    assert percent(0.12345) == "12.3 %"
