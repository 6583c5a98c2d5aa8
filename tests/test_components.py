"""Leading principal components against a full decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from cellvigil_indexes.searching.components import principal_components


def steep(cells, dimensions, seed=0):
    """Vectors whose spread falls by 4 % from one hidden direction to the next, off the origin."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    return ((rng.normal(size=(cells, dimensions)) * 0.96 ** np.arange(dimensions)) @ turn + 5).astype(np.float32)


@pytest.mark.parametrize("dimensions", [20, 100, 500])
def test_against_a_full_decomposition(dimensions):
    block = steep(3_000, dimensions)
    found = principal_components([block], [1.0], np.arange(3_000), seed=0)
    centred = block.astype(float) - block.mean(axis=0, dtype=float)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    held = np.cumsum(lengths**2) / np.sum(lengths**2)
    kept = len(found.matrix)
    assert kept == min(-(-(np.searchsorted(held, 0.9) + 1) // 32) * 32, dimensions)
    assert found.variance == pytest.approx(held[kept - 1], abs=0.003)
    assert found.matrix @ found.matrix.T == pytest.approx(np.eye(kept), abs=1e-4)
    ours, theirs = block @ found.matrix.T + found.offset, centred @ axes[:kept].T
    assert np.linalg.norm(ours, axis=1) == pytest.approx(np.linalg.norm(theirs, axis=1), rel=0.03)
    assert ours.mean(axis=0) == pytest.approx(np.zeros(kept), abs=1e-3)


def test_scales_weigh_the_encoders():
    blocks = [steep(500, 12) * 100, steep(500, 20, seed=1)]
    found = principal_components(blocks, [0.25, 4.0], np.arange(500), seed=0)
    joined = np.hstack([blocks[0] * 0.5, blocks[1] * 2.0])
    ours = np.hstack(blocks) @ found.matrix.T + found.offset
    pairs = np.random.default_rng(2).integers(0, 500, (2, 200))
    wanted = np.linalg.norm(joined[pairs[0]] - joined[pairs[1]], axis=1)
    assert np.linalg.norm(ours[pairs[0]] - ours[pairs[1]], axis=1) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("rows", [1, 5])
def test_cells_that_are_all_alike(rows):
    block = np.full((rows, 7), 3.0, dtype=np.float32)
    found = principal_components([block], [1.0], np.arange(rows), seed=0)
    assert found.variance == 1.0
    assert block @ found.matrix.T + found.offset == pytest.approx(np.zeros((rows, len(found.matrix))), abs=1e-5)
