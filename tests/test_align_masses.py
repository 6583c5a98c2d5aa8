"""Class shares told from unlabelled cells, and the frame they are told in, on made domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_gaussians import domain
from cellvigil_indexes.aligning.maps.domains import cell_masses
from cellvigil_indexes.aligning.types.frame import carried, framed, laid_onto, standardised
from cellvigil_indexes.aligning.types.masses import class_shares

COUNTS = st.lists(st.integers(8, 120), min_size=2, max_size=4).map(tuple)


@settings(max_examples=12, deadline=None)
@given(COUNTS, st.integers(0, 1000))
def test_shares_are_found_whatever_the_device(counts, seed):
    here, labels = domain((30,) * len(counts), seed)
    target, _ = domain(counts, seed + 1, moved=True)
    found = class_shares(here, labels, target, len(counts))
    assert found.values.sum() == pytest.approx(1.0)
    assert 0 <= found.doubt <= 1
    even = np.full(len(counts), 1 / len(counts))
    assert np.abs(found.values - even).sum() <= np.abs(found.likeliest - even).sum() + 1e-12
    assert np.abs(found.values - np.array(counts) / sum(counts)).max() < 0.15


def test_a_class_without_references_has_no_share():
    here, labels = domain((30, 0, 30), 0)
    target, _ = domain((50, 0, 50), 1, moved=True)
    assert class_shares(here, labels, target, 3).values[1] == 0


def test_encoders_that_differ_draw_towards_even_shares():
    here, labels = domain((40, 40), 0)
    target, _ = domain((90, 20), 1, moved=True)
    agreeing = class_shares(here, labels, target, 2)
    noise = np.random.default_rng(0).normal(size=target["second"].shape).astype(np.float32)
    differing = class_shares(here, labels, {**target, "second": noise}, 2)
    assert agreeing.doubt < 0.05 < differing.doubt


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_laid_references_have_the_targets_moments(seed, width):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(60, width)) @ (np.eye(width) + np.triu(rng.normal(size=(width, width)), 1))
    theirs = rng.normal(size=(50, width)) * rng.uniform(0.5, 2, size=width) + rng.normal(size=width) * 5
    masses = rng.uniform(0.2, 1, size=60)
    masses /= masses.sum()
    laid = laid_onto(own, theirs, masses)
    centre = masses @ laid
    spread = ((laid - centre) * masses[:, None]).T @ (laid - centre)
    np.testing.assert_allclose(centre, theirs.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(spread, np.cov(theirs.T, bias=True).reshape(width, width), rtol=1e-3, atol=1e-3)


def test_carried_vectors_lie_in_the_frame_where_they_were_laid():
    here, labels = domain((30, 30, 30), 0)
    target, _ = domain((60, 20, 20), 1, moved=True)
    masses = cell_masses(labels, np.array([0.6, 0.2, 0.2]))
    both = standardised(here, target, masses, list(here))
    frame = framed(both, labels)
    laid = frame.laid(masses)
    vectors = carried(both, frame, laid)
    joined = np.concatenate([vectors[name] for name in both.names], axis=1)
    np.testing.assert_allclose((joined - both.mean) / both.spread @ frame.matrix, laid, atol=1e-3)
    assert {name: block.shape for name, block in vectors.items()} == {n: b.shape for n, b in here.items()}
