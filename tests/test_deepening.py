"""Looking deeper only where entropy is open: the same calls as from one deep search, with less looked up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as rounds
from hypothesis import strategies as st

from cellvigil import decide, pipeline
from cellvigil.neighbours import worthwhile
from graph_fixtures import CELLS, DIMENSIONS, LabelledCells, exact_over, graph_over, states


@pytest.mark.parametrize(
    ("depths", "least", "widths"),
    [
        ((3, 6, 12, 24, 48, 96, 100), 5, (48, 100)),
        ((3, 6, 12, 24, 48, 96, 192, 384, 768, 1000), 5, (48, 96, 192, 384, 1000)),
        ((3, 6, 12, 24, 48), 5, (48,)),
        ((100, 200, 400), 5, (100, 200, 400)),
        ((3, 6, 12, 24, 48, 96, 192), 70, (96, 192)),
        ((3, 6, 12, 24, 48, 96, 100), 99, (100,)),
        ((2,), 5, (2,)),
    ],
)
def test_which_depths_are_fetched(depths, least, widths):
    assert worthwhile(depths, least) == widths


class Stepwise:
    """An exact search that is asked as a graph is: few neighbours first."""

    deepens = True

    def __init__(self, exact):
        self.exact, self.asked = exact, []

    def __len__(self):
        return len(self.exact)

    def nearest(self, embeddings, k, cuts=()):
        self.asked.append((len(next(iter(embeddings.values()))), k))
        return self.exact.nearest(embeddings, k, cuts)


def same_calls(one, other):
    for name in one.__slots__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b, name


@rounds(max_examples=40, deadline=None)
@given(
    cells=st.integers(1, 600),
    classes=st.integers(1, 6),
    k_min=st.integers(2, 12),
    deeper=st.integers(0, 500),
    threshold=st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]),
    index_k_min=st.integers(2, 90),
    reweight=st.booleans(),
    seed=st.integers(0, 9),
)
def test_deepening_calls_as_one_fetch_of_k_max_does(
    cells, classes, k_min, deeper, threshold, index_k_min, reweight, seed
):
    rng = np.random.default_rng(seed)
    block, labels = states(rng, cells, 4, classes, width=3.0)
    index = LabelledCells(labels, index_k_min, rng.random(cells).astype(np.float32))
    settings = decide.Settings(k_min, k_min + deeper, threshold, reweight)
    exact = exact_over(block)
    queries = {"encoder0": states(rng, 40, 4, classes, width=3.0)[0]}
    once = pipeline.called(queries, index, exact, settings)
    same_calls(once, pipeline.called(queries, index, Stepwise(exact), settings))


def test_only_open_cells_are_looked_up_deeper():
    rng = np.random.default_rng(12)
    block, labels = states(rng, 3_000, 8, 2, width=3.0)
    index = LabelledCells(labels)
    search = Stepwise(exact_over(block))
    queries = {"encoder0": np.concatenate([block[:50], np.repeat(block.mean(axis=0)[None], 5, axis=0)])}
    calls = pipeline.called(queries, index, search, decide.Settings(3, 1000, 0.09))
    assert [k for _, k in search.asked] == [48, 96, 192, 384, 1000]
    counts = [cells for cells, _ in search.asked]
    assert counts[0] == 55
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == np.count_nonzero(calls.k > 384)


def test_a_graph_calls_as_exact_search_does(tmp_path):
    block, labels = states(np.random.default_rng(0), CELLS, DIMENSIONS)
    index, exact = LabelledCells(labels), exact_over(block)
    queries = {"encoder0": states(np.random.default_rng(13), 300, DIMENSIONS)[0]}
    settings = decide.Settings(3, 300, 0.3)
    by_graph = pipeline.called(queries, index, graph_over(tmp_path, exact), settings)
    by_all = pipeline.called(queries, index, exact, settings)
    assert np.mean(by_graph.best_ids == by_all.best_ids) >= 0.99
    assert (by_graph.neighbours == by_all.neighbours).mean() >= 0.99
