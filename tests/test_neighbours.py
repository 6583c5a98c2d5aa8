"""Exact search against brute force: order, ties, batches, cuts, several encoders, half precision, mapped files."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.neighbours import ExactSearch, distance_table, exact, mean_distance, tables
from cellvigil.neighbours.halves import single

METRICS = ["l2", "canberra"]


def far(query, block, metric):
    """All distances in double precision, squared for L2, (n, N)."""
    x, y = query[:, None].astype(float), block[None].astype(float)
    if metric == "l2":
        return ((x - y) ** 2).sum(axis=2)
    over, under = np.abs(x - y), np.abs(x) + np.abs(y)
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0).sum(axis=2)


def brute_force(blocks, queries, scales, k, metric="l2"):
    """Sorted by distance, then by id."""
    whole = sum(s * far(q, b, metric) for b, q, s in zip(blocks, queries, scales, strict=True))
    ids = np.argsort(whole, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(whole, ids, axis=1)
    return ids, np.sqrt(found) if metric == "l2" else found


def random_blocks(cells, dimensions, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(cells, dimension)).astype(np.float32) for dimension in dimensions]


def search(block, metric="l2", **more):
    return ExactSearch.of(["e"], [block], [1.0], metric=metric, **more)


# Whole numbers: squared distances are exact in float32, so ties are real and brute force has no rounding of its own.
whole = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-3, 3))


@settings(max_examples=60, deadline=None)
@given(whole, whole, st.integers(1, 40), st.lists(st.integers(1, 40)))
def test_against_brute_force_with_ties(block, query, k, cuts):
    found = search(block).nearest({"e": query}, k, cuts)
    ids, distances = brute_force([block], [query], [1.0], k)
    assert found.ids.tolist() == ids.tolist()
    assert found.distances == pytest.approx(distances, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 0.01), (3.0, 0.5)])
def test_several_encoders_are_searched_as_their_scaled_concatenation(scales, metric):
    blocks, queries = random_blocks(300, (8, 40)), random_blocks(150, (8, 40), seed=1)
    found = ExactSearch.of(["a", "b"], blocks, scales, metric=metric).nearest(dict(zip("ab", queries, strict=True)), 20)
    ids, distances = brute_force(blocks, queries, scales, 20, metric)
    assert found.ids.tolist() == ids.tolist()
    assert found.distances == pytest.approx(distances, rel=1e-5)


def test_l2_over_encoders_is_that_of_the_concatenated_vectors():
    blocks, queries, scales = random_blocks(300, (8, 40)), random_blocks(50, (8, 40), seed=1), (3.0, 0.5)
    found = ExactSearch.of(["a", "b"], blocks, scales).nearest(dict(zip("ab", queries, strict=True)), 20)
    joined = [np.hstack([np.sqrt(s) * b for s, b in zip(scales, part, strict=True)]) for part in (blocks, queries)]
    assert found.ids.tolist() == brute_force([joined[0]], [joined[1]], [1.0], 20)[0].tolist()


def clustered(cells, dimension, seed):
    """Cells far from the origin, in three clumps, every fifth one a copy of another: much within rounding of a cut."""
    rng = np.random.default_rng(seed)
    block = 3 + rng.integers(0, 3, (cells, 1)) + 0.001 * rng.normal(size=(cells, dimension))
    block[::5] = block[rng.integers(0, cells, len(block[::5]))]
    return block.astype(np.float32)


def one_by_one(queries, block):
    """Squared L2 in single precision, every pair measured alone: what the search must rank by."""
    here = np.zeros(1, np.int64)
    measure = tables.squared_distances
    return np.array([[measure(q[None], here, row[None], here)[0] for row in block] for q in queries])


@cache
def crowded(dtype, seed):
    """(cells, queries, squared distances one by one)."""
    block = clustered(300, 48, seed)
    queries = np.vstack([block[::60], clustered(5, 48, seed + 100)])
    block = block.astype(dtype)
    return block, queries, one_by_one(queries, block)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 9), min_size=1, max_size=40), seed=st.integers(0, 2))
def test_a_cells_neighbours_do_not_depend_on_its_batch(dtype, rows, seed):
    block, queries, alone = crowded(dtype, seed)
    order = np.argsort(alone, axis=1, kind="stable")
    cuts = [3, 6, 12, 24, 48, 96, 192]
    found = search(block).nearest({"e": queries[rows]}, 250, cuts)
    assert found.ids[:, :32].tolist() == order[rows, :32].tolist()
    assert (found.distances[:, :8] == np.sqrt(np.take_along_axis(alone[rows], order[rows, :8], axis=1))).all()
    for cut in (*cuts, 250):
        assert np.sort(found.ids[:, :cut]).tolist() == np.sort(order[rows, :cut]).tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_of_cells_and_of_queries_change_nothing(metric, monkeypatch):
    block, query = clustered(300, 20, 0), clustered(40, 20, 1)
    cuts = [5, 10, 100]
    whole = search(block, metric).nearest({"e": query}, 200, cuts)
    groups = np.arange(300, dtype=np.int32) // 60
    left = search(block, metric).leaving_out(groups, 50)
    monkeypatch.setattr(exact, "_QUERIES", 17)
    monkeypatch.setattr(exact, "_TABLE", 17 * 100)
    monkeypatch.setattr(tables, "_FLOATS", 17 * 60)
    monkeypatch.setattr(tables, "_CONVERTED", 20 * 7)
    parts = search(block, metric).nearest({"e": query}, 200, cuts)
    for cut in (*cuts, 200):
        assert np.sort(parts.ids[:, :cut]).tolist() == np.sort(whole.ids[:, :cut]).tolist()
    assert parts.ids[:, :32].tolist() == whole.ids[:, :32].tolist()
    again = search(block.astype(np.float16).astype(np.float32), metric).leaving_out(groups, 50)
    halves = search(block.astype(np.float16), metric).leaving_out(groups, 50)
    assert halves.ids[:, :32].tolist() == again.ids[:, :32].tolist()
    assert np.sort(search(block, metric).leaving_out(groups, 50).ids).tolist() == np.sort(left.ids).tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_a_copy_of_a_reference_stands_right_behind_it(metric):
    block, queries = random_blocks(200, (24,))[0], random_blocks(20, (24,), seed=1)[0]
    before = search(block, metric).nearest({"e": queries}, 20, [4, 8])
    after = search(np.vstack([block, block[:50]]), metric).nearest({"e": queries}, 20, [4, 8])
    for old, new in zip(before.ids.tolist(), after.ids.tolist(), strict=True):
        doubled = [i for each in old for i in ((each, each + 200) if each < 50 else (each,))]
        assert new == doubled[:20]


def test_the_order_of_the_first_is_that_of_pairs_measured_one_by_one():
    # Far from the origin, every cell beside one that differs by less than a matrix product can tell.
    block = random_blocks(60, (48,))[0] + np.float32(20)
    block = np.vstack([block, np.nextafter(block, np.float32(99))]).astype(np.float32)
    queries = random_blocks(12, (48,), seed=1)[0] + np.float32(20)
    order = np.argsort(one_by_one(queries, block), axis=1, kind="stable")
    assert search(block).nearest({"e": queries}, 100).ids[:, :32].tolist() == order[:, :32].tolist()
    assert search(block).nearest({"e": queries}, 100, [3, 100]).ids[:, :32].tolist() == order[:, :32].tolist()


def test_a_deep_first_cut_is_exact_throughout():
    block, queries = clustered(300, 30, 3), clustered(10, 30, 4)
    order = np.argsort(one_by_one(queries, block), axis=1, kind="stable")
    found = search(block).nearest({"e": queries}, 200, [100, 200])
    assert found.ids[:, :100].tolist() == order[:, :100].tolist()


def test_a_reference_finds_itself_at_distance_zero_far_from_the_origin():
    # |x|^2 + |y|^2 - 2xy alone would lose all its digits here.
    block = random_blocks(200, (64,))[0] + np.float32(1000)
    found = search(block).nearest({"e": block}, 3)
    assert found.ids[:, 0].tolist() == list(range(200))
    assert not found.distances[:, 0].any()
    assert found.ids.tolist() == brute_force([block], [block], [1.0], 3)[0].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_identical_cells_come_in_the_order_of_their_ids(metric):
    (block,) = random_blocks(40, (16,))
    block[[3, 17, 30, 31, 39]] = block[3]
    assert search(block, metric).nearest({"e": block[3:4]}, 3).ids.tolist() == [[3, 17, 30]]
    same = np.zeros((50, 4), np.float32)
    found = search(same, metric).nearest({"e": same[:2]}, 40, [10])
    assert found.ids.tolist() == [list(range(40))] * 2
    assert not found.distances.any()


def test_half_precision_is_searched_as_it_is_rounded():
    blocks, queries = random_blocks(300, (8, 40)), random_blocks(50, (8, 40), seed=1)
    halves = [block.astype(np.float16) for block in blocks]
    found = ExactSearch.of(["a", "b"], halves, [1.0, 2.0]).nearest(dict(zip("ab", queries, strict=True)), 20)
    rounded = ExactSearch.of(["a", "b"], [h.astype(np.float32) for h in halves], [1.0, 2.0])
    same = rounded.nearest(dict(zip("ab", queries, strict=True)), 20)
    assert found.ids.tolist() == same.ids.tolist() == brute_force(halves, queries, [1.0, 2.0], 20)[0].tolist()
    assert (found.distances == same.distances).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mapped_embeddings_are_neither_copied_nor_read_when_the_norms_are_known(dtype, tmp_path):
    blocks = [block.astype(dtype) for block in random_blocks(200, (16, 8))]
    norms = [(block.astype(np.float64) ** 2).sum(axis=1).astype(np.float32) for block in blocks]
    for name, block in zip("ab", blocks, strict=True):
        np.save(tmp_path / f"{name}.npy", block)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab"]
    opened = ExactSearch.of(["a", "b"], mapped, [1.0, 0.5], norms=norms)
    assert all(np.shares_memory(mine, file) for mine, file in zip(opened.blocks, mapped, strict=True))
    queries = dict(zip("ab", random_blocks(10, (16, 8), seed=1), strict=True))
    found, own = opened.nearest(queries, 30), ExactSearch.of(["a", "b"], blocks, [1.0, 0.5]).nearest(queries, 30)
    assert found.ids.tolist() == own.ids.tolist()

    class Sealed(np.ndarray):
        def __array_ufunc__(self, *args, **more):
            raise AssertionError("read")

        __array_function__ = __array_ufunc__

    sealed = [block.view(Sealed) for block in blocks]
    assert len(ExactSearch.of(["a", "b"], sealed, [1.0, 0.5], norms=norms)) == 200


def test_every_half_becomes_the_single_that_it_is():
    everything = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = everything[np.isfinite(everything)].reshape(-1, 2)
    assert (single(finite).view(np.uint32) == finite.astype(np.float32).view(np.uint32)).all()
    assert (single(finite[:, ::-1]) == finite[:, ::-1].astype(np.float32)).all()
    assert np.array_equal(single(everything), everything.astype(np.float32), equal_nan=True)
    assert single(everything[:0]).shape == (0,)


@pytest.mark.parametrize("metric", METRICS)
def test_no_more_neighbours_than_cells(metric):
    (block,) = random_blocks(4, (5,))
    found = search(block, metric).nearest({"e": block}, 100, [3, 6, 100])
    assert found.ids.shape == found.distances.shape == (4, 4)
    assert found.ids.tolist() == brute_force([block], [block], [1.0], 4, metric)[0].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_no_queries(metric):
    (block,) = random_blocks(4, (5,))
    assert search(block, metric).nearest({"e": np.zeros((0, 5), np.float32)}, 3).ids.shape == (0, 3)
    assert distance_table(np.zeros((0, 5), np.float32), block, metric).shape == (0, 4)


def test_exact_search_fetches_all_at_once():
    assert search(random_blocks(4, (5,))[0]).deepens is False


def test_leaving_out_skips_the_own_group_and_says_where_none_is_left():
    block = np.array([[0], [1], [2], [10], [11]], np.float32)
    groups = np.array([0, 0, 1, 1, 1], np.int32)
    found = search(block).leaving_out(groups, 3)
    assert found.ids.tolist() == [[2, 3, 4], [2, 3, 4], [1, 0, -1], [1, 0, -1], [1, 0, -1]]
    assert found.distances[2].tolist() == [1, 2, np.inf]
    some = search(block).leaving_out(groups, 3, np.array([4, 1]))
    assert some.ids.tolist() == [[1, 0, -1], [2, 3, 4]]
    assert search(block).leaving_out(groups, 3, np.array([], np.int64)).ids.shape == (0, 3)
    assert (search(block).leaving_out(np.zeros(5, np.int32), 3).ids == -1).all()


@pytest.mark.parametrize("metric", METRICS)
def test_leaving_out_against_brute_force(metric):
    block = random_blocks(150, (12,))[0]
    groups = np.random.default_rng(0).integers(0, 6, 150).astype(np.int32)
    whole = far(block, block, metric)
    whole[groups[:, None] == groups[None]] = np.inf
    ids = np.argsort(whole, axis=1, kind="stable")[:, :40]
    assert search(block, metric).leaving_out(groups, 40).ids.tolist() == ids.tolist()
    rows = np.array([7, 3, 149])
    assert search(block, metric).leaving_out(groups, 40, rows, [5, 10]).ids.tolist() == ids[rows].tolist()


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ({"other": np.zeros((1, 5), np.float32)}, "no embeddings of encoder e"),
        ({"e": np.zeros((1, 6), np.float32)}, r"the index has \(n, 5\)"),
        ({"e": np.zeros(5, np.float32)}, r"the index has \(n, 5\)"),
        ({"e": np.full((1, 5), np.nan, np.float32)}, "not finite"),
        ({"e": np.full((1, 5), np.inf, np.float32)}, "not finite"),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_embeddings_that_do_not_fit_are_refused(embeddings, message, metric):
    with pytest.raises(ValueError, match=message):
        search(random_blocks(4, (5,))[0], metric).nearest(embeddings, 3)


def test_encoders_must_speak_of_the_same_cells():
    blocks = random_blocks(4, (5, 6))
    both = ExactSearch.of(["a", "b"], blocks, [1.0, 1.0])
    with pytest.raises(ValueError, match="b gave 2 embeddings, a 3"):
        both.nearest({"a": blocks[0][:3], "b": blocks[1][:2]}, 2)
    for names, parts, scales in (
        (["a"], blocks, [1.0]),
        (["a", "b"], [blocks[0], blocks[1][:2]], [1.0, 1.0]),
        ([], [], []),
    ):
        with pytest.raises(ValueError, match="same number of cells"):
            ExactSearch.of(names, parts, scales)


def test_no_reference_cells_are_refused():
    with pytest.raises(ValueError, match="no reference cells"):
        search(np.zeros((0, 5), np.float32))


def test_reference_cells_that_are_not_finite_are_refused():
    block = random_blocks(4, (5,))[0]
    block[2, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        search(block)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_distance_table(metric, dtype):
    block, query = random_blocks(300, (70,))[0].astype(dtype), random_blocks(40, (70,), seed=1)[0]
    table = distance_table(query, block, metric)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table, far(query, block, metric), rtol=1e-5)
    assert (distance_table(query, query, metric) >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mean_squared_distance_is_that_of_all_pairs(dtype):
    block = random_blocks(30, (7,))[0].astype(dtype)
    assert mean_distance(block) == pytest.approx(far(block, block, "l2").mean(), rel=1e-5)
    assert mean_distance(block[:0]) == 0
    assert mean_distance(np.ones((5, 3), np.float32)) == 0
