"""The search against brute force: order, ties, batches, several encoders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.neighbours import Search, mean_squared_distance


def brute_force(blocks, queries, scales, k):
    """All distances in double precision; sorted by distance, then by id."""
    squared = sum(
        scale * ((query[:, None].astype(float) - block[None].astype(float)) ** 2).sum(axis=2)
        for block, query, scale in zip(blocks, queries, scales, strict=True)
    )
    ids = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return ids, np.sqrt(np.take_along_axis(squared, ids, axis=1))


def random_blocks(cells, dimensions, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(cells, dimension)).astype(np.float32) for dimension in dimensions]


# Whole numbers: squared distances are exact in float32, so ties are real and brute force has no rounding of its own.
whole = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-3, 3))


@settings(max_examples=100, deadline=None)
@given(whole, whole, st.integers(1, 40))
def test_against_brute_force_with_ties(block, query, k):
    found = Search.of(["e"], [block], [1.0]).nearest({"e": query}, k)
    ids, distances = brute_force([block], [query], [1.0], k)
    assert found.ids.tolist() == ids.tolist()
    assert found.distances == pytest.approx(distances, abs=1e-6)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 0.01), (3.0, 0.5)])
def test_several_encoders_are_searched_as_their_scaled_concatenation(scales):
    blocks, queries = random_blocks(300, (8, 40)), random_blocks(150, (8, 40), seed=1)
    found = Search.of(["a", "b"], blocks, scales).nearest(dict(zip("ab", queries, strict=True)), 20)
    ids, distances = brute_force(blocks, queries, scales, 20)
    assert found.ids.tolist() == ids.tolist()
    assert found.distances == pytest.approx(distances, rel=1e-5)
    joined = [np.hstack([np.sqrt(s) * b for s, b in zip(scales, part, strict=True)]) for part in (blocks, queries)]
    assert found.ids.tolist() == brute_force([joined[0]], [joined[1]], [1.0], 20)[0].tolist()


def test_a_cells_answer_does_not_depend_on_its_batch():
    (block,), (query,) = random_blocks(500, (33,)), random_blocks(150, (33,), seed=1)
    search = Search.of(["e"], [block], [1.0])
    together = search.nearest({"e": query}, 50)
    for row in (0, 63, 64, 149):
        alone = search.nearest({"e": query[row : row + 1]}, 50)
        assert alone.ids[0].tolist() == together.ids[row].tolist()
        assert alone.distances[0].tolist() == together.distances[row].tolist()


def test_a_reference_finds_itself_at_distance_zero_far_from_the_origin():
    # |x|^2 + |y|^2 - 2xy alone would lose all its digits here.
    block = random_blocks(200, (64,))[0] + np.float32(1000)
    found = Search.of(["e"], [block], [1.0]).nearest({"e": block}, 3)
    assert found.ids[:, 0].tolist() == list(range(200))
    assert not found.distances[:, 0].any()
    assert found.ids.tolist() == brute_force([block], [block], [1.0], 3)[0].tolist()


def test_copies_of_one_cell_come_in_the_order_of_their_ids():
    (block,) = random_blocks(40, (16,))
    block[[3, 17, 30, 31, 39]] = block[3]
    found = Search.of(["e"], [block], [1.0]).nearest({"e": block[3:4]}, 3)
    assert found.ids.tolist() == [[3, 17, 30]]


def test_no_more_neighbours_than_cells():
    (block,) = random_blocks(4, (5,))
    found = Search.of(["e"], [block], [1.0]).nearest({"e": block}, 100)
    assert found.ids.shape == found.distances.shape == (4, 4)


def test_no_queries():
    (block,) = random_blocks(4, (5,))
    assert Search.of(["e"], [block], [1.0]).nearest({"e": np.zeros((0, 5), np.float32)}, 3).ids.shape == (0, 3)


def test_leaving_out_skips_the_own_group_and_says_where_none_is_left():
    block = np.array([[0], [1], [2], [10], [11]], np.float32)
    found = Search.of(["e"], [block], [1.0]).leaving_out(np.array([0, 0, 1, 1, 1], np.int32), 3)
    assert found.ids.tolist() == [[2, 3, 4], [2, 3, 4], [1, 0, -1], [1, 0, -1], [1, 0, -1]]
    assert found.distances[2].tolist() == [1, 2, np.inf]


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ({"other": np.zeros((1, 5), np.float32)}, "no embeddings of encoder e"),
        ({"e": np.zeros((1, 6), np.float32)}, r"the index has \(n, 5\)"),
        ({"e": np.full((1, 5), np.nan, np.float32)}, "not finite"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(embeddings, message):
    with pytest.raises(ValueError, match=message):
        Search.of(["e"], random_blocks(4, (5,)), [1.0]).nearest(embeddings, 3)


def test_mean_squared_distance_is_that_of_all_pairs():
    (block,) = random_blocks(30, (7,))
    pairs = ((block[:, None] - block[None]) ** 2).sum(axis=2)
    assert mean_squared_distance(block) == pytest.approx(pairs.mean(), rel=1e-5)
