"""Canberra distance against plain double precision: zeros, same cells, engines, batches, FAISS where right."""

from __future__ import annotations

import subprocess
import sys

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.neighbours import ExactSearch, distance_table, engine, mean_distance
from cellvigil.neighbours.canberra import canberra_table

BOTH = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(engine() != "numba", reason="Numba is not installed"))]


def twin(queries, references):
    """Dimension by dimension in double precision; 0/0 is 0."""
    table = np.zeros((len(queries), len(references)))
    for i, x in enumerate(queries.astype(float)):
        for j, y in enumerate(references.astype(float)):
            over, under = np.abs(x - y), np.abs(x) + np.abs(y)
            table[i, j] = (over[under > 0] / under[under > 0]).sum()
    return table


def activations(cells, dimension, seed=0):
    """What a network's ReLU leaves: half the entries are exactly zero."""
    values = np.random.default_rng(seed).normal(size=(cells, dimension)).astype(np.float32)
    return np.maximum(values, 0)


@pytest.mark.parametrize("by", BOTH)
@pytest.mark.parametrize(
    ("cells", "queries", "dimension"), [(1, 1, 1), (3, 5, 7), (63, 4, 33), (65, 9, 1023), (130, 3, 1025), (70, 2, 5376)]
)
def test_against_double_precision(by, cells, queries, dimension):
    references, asked = activations(cells, dimension), activations(queries, dimension, seed=1)
    table = canberra_table(asked, references, by=by)
    assert table.shape == (queries, cells)
    np.testing.assert_allclose(table, twin(asked, references), rtol=1e-5, atol=1e-6)


values = st.one_of(st.just(0.0), st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False))
vectors = hnp.arrays(np.float32, st.tuples(st.integers(1, 70), st.just(5)), elements=values)


@pytest.mark.parametrize("by", BOTH)
@settings(max_examples=50, deadline=None)
@given(references=vectors, queries=vectors)
def test_any_numbers_with_zeros_of_either_sign(by, references, queries):
    queries = np.where(queries == 0, np.float32(-0.0), queries)
    tiny = 1e-25  # smaller numbers than this are as good as zero
    references, queries = (np.where(np.abs(a) < tiny, np.float32(0), a) for a in (references, queries))
    found = canberra_table(queries, references, by=by)
    np.testing.assert_allclose(found, twin(queries, references), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", BOTH)
def test_zeros_and_identical_cells_are_at_distance_zero(by):
    block = activations(100, 40)
    block[7] = 0
    table = canberra_table(block, block, by=by)
    assert not table.diagonal().any()
    assert table[7, 8] == np.count_nonzero(block[8])  # everything against nothing: 1 a dimension
    assert table[7, 7] == 0


@pytest.mark.parametrize("by", BOTH)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_distance_is_the_same_bits_in_any_company(by, data):
    block = activations(150, 1100)
    rows = data.draw(st.lists(st.integers(0, 149), min_size=1, max_size=90))
    asked = data.draw(st.lists(st.integers(0, 149), min_size=1, max_size=12))
    whole = canberra_table(block, block, by=by)
    assert (canberra_table(block[asked], block[rows], by=by) == whole[np.ix_(asked, rows)]).all()


def test_where_faiss_is_right_it_agrees():
    rng = np.random.default_rng(0)
    references, queries = (rng.uniform(0.1, 3, (cells, 300)).astype(np.float32) for cells in (200, 20))
    index = faiss.IndexFlat(300, faiss.METRIC_Canberra)
    index.add(references)
    distances, ids = index.search(queries, 5)
    found = ExactSearch.of(["e"], [references], [1.0], metric="canberra").nearest({"e": queries}, 5)
    assert found.ids.tolist() == ids.tolist()
    assert found.distances == pytest.approx(distances, rel=1e-5)


def test_search_where_faiss_drops_every_neighbour():
    references, queries = activations(200, 300), activations(20, 300, seed=1)
    index = faiss.IndexFlat(300, faiss.METRIC_Canberra)
    index.add(references)
    assert (index.search(queries, 5)[1] == -1).all()
    found = ExactSearch.of(["e"], [references], [1.0], metric="canberra").nearest({"e": queries}, 5)
    assert found.ids.tolist() == np.argsort(twin(queries, references), axis=1)[:, :5].tolist()


def test_several_encoders_add_up_with_their_scales_and_copies_tie():
    blocks = [activations(90, 20), activations(90, 30, seed=1)]
    for block in blocks:
        block[[40, 80]] = block[5]
    queries = [activations(6, 20, seed=2), activations(6, 30, seed=3)]
    queries = [np.vstack([query, block[5:6]]) for query, block in zip(queries, blocks, strict=True)]
    whole = 0.5 * twin(queries[0], blocks[0]) + 2 * twin(queries[1], blocks[1])
    search = ExactSearch.of(["a", "b"], blocks, [0.5, 2.0], metric="canberra")
    found = search.nearest({"a": queries[0], "b": queries[1]}, 90)
    np.testing.assert_allclose(found.distances, np.sort(whole, axis=1), rtol=1e-5, atol=1e-6)
    assert found.ids[6, :3].tolist() == [5, 40, 80]
    candidates = np.array([[0, 5, -1]] * 7)
    pairs = search.pairs(queries, candidates)
    np.testing.assert_allclose(pairs[:, :2], whole[:, [0, 5]], rtol=1e-5, atol=1e-6)
    assert np.isinf(pairs[:, 2]).all()


def test_half_precision_references_are_taken_at_their_rounded_values():
    references, queries = activations(150, 64), activations(9, 64, seed=1)
    halves = references.astype(np.float16)
    found = distance_table(queries, halves, "canberra")
    assert (found == distance_table(queries, halves.astype(np.float32), "canberra")).all()


def test_mean_distance_of_all_pairs_of_few_cells_and_of_drawn_pairs_of_many():
    few, many = activations(30, 50), activations(400, 50)
    assert mean_distance(few, "canberra") == pytest.approx(twin(few, few).mean(), rel=1e-5)
    assert mean_distance(many, "canberra") == pytest.approx(canberra_table(many, many).mean(), rel=0.01)
    assert mean_distance(many, "canberra") == mean_distance(many, "canberra")
    assert mean_distance(many.astype(np.float16), "canberra") == pytest.approx(
        mean_distance(many, "canberra"), rel=1e-3
    )


def test_without_numba_numpy_gives_the_same_answers():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from cellvigil.neighbours import distance_table, engine\n"
        "x = np.maximum(np.random.default_rng(0).normal(size=(40, 70)), 0).astype(np.float32)\n"
        "print(engine(), *distance_table(x[:3], x, 'canberra').ravel().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    name, *numbers = done.stdout.split()
    block = np.maximum(np.random.default_rng(0).normal(size=(40, 70)), 0).astype(np.float32)
    assert name == "numpy"
    np.testing.assert_allclose(np.array(numbers, float).reshape(3, 40), twin(block[:3], block), rtol=1e-5, atol=1e-6)


def test_threads_make_no_difference():
    block = activations(300, 100)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        one = canberra_table(block, block)
        faiss.omp_set_num_threads(3)
        assert (canberra_table(block, block) == one).all()
    finally:
        faiss.omp_set_num_threads(before)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="none of l2, canberra"):
        distance_table(activations(2, 3), activations(2, 3), "cosine")
    with pytest.raises(ValueError, match="none of l2, canberra"):
        ExactSearch.of(["e"], [activations(2, 3)], [1.0], metric="cosine")
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        distance_table(activations(2, 3), activations(2, 4), "canberra")
