"""HNSW search: against exact search, with copies, too few cells, other batches and threads; broken graphs."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from cellvigil.errors import BundleError
from cellvigil.neighbours import GraphSearch
from cellvigil_indexes.searching import graphs
from graph_fixtures import CELLS, DIMENSIONS, asked, exact_over, graph_over, recall, states


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    exact = exact_over(states(np.random.default_rng(0), CELLS, DIMENSIONS)[0])
    return graph_over(tmp_path_factory.mktemp("graph"), exact)


@pytest.mark.parametrize("k", [3, 20, 64, 200])
def test_finds_what_exact_search_finds(small, k):
    queries = asked(small.exact)
    found, true = small.nearest(queries, k), small.exact.nearest(queries, k)
    assert found.ids.shape == (100, k)
    assert recall(found, true) >= 0.99
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert found.distances == pytest.approx(small.exact.pairs(small.exact.queries(queries), found.ids.astype(np.int64)))


def test_distances_are_those_of_the_whole_vectors_though_the_graph_sees_a_part(tmp_path):
    rng = np.random.default_rng(1)
    few, _ = states(rng, 600, 300)  # white noise: 256 components hold less than all of it
    exact = exact_over(few)
    graph = graph_over(tmp_path, exact)
    assert len(graph.matrix) < 300
    queries = asked(exact, rows=np.arange(50), noise=0.1)
    found = graph.nearest(queries, 5)
    wanted = np.linalg.norm(queries["encoder0"][:, None] - few[found.ids], axis=2)
    assert found.distances == pytest.approx(wanted, rel=1e-5)
    assert found.ids[:, 0].tolist() == list(range(50))


def test_several_encoders_are_searched_as_their_scaled_concatenation(tmp_path):
    rng = np.random.default_rng(2)
    strong, weak = states(rng, CELLS, 16)[0] * 1000, states(rng, CELLS, 24)[0]
    exact = exact_over(strong, weak, scales=[1e-6, 1.0])
    queries = asked(exact, noise=0.01)
    assert recall(graph_over(tmp_path, exact).nearest(queries, 10), exact.nearest(queries, 10)) >= 0.99


def test_half_precision_references(tmp_path):
    exact = exact_over(states(np.random.default_rng(3), CELLS, DIMENSIONS)[0].astype(np.float16))
    queries = asked(exact)
    assert recall(graph_over(tmp_path, exact).nearest(queries, 10), exact.nearest(queries, 10)) >= 0.99


@pytest.mark.parametrize("copies", [500, 1_900, 2_000])
def test_identical_cells_neither_hide_nor_hide_others(tmp_path, copies):
    block, _ = states(np.random.default_rng(4), CELLS, DIMENSIONS)
    block[:copies] = block[0]
    block = block[np.random.default_rng(0).permutation(CELLS)]
    exact = exact_over(block)
    graph = graph_over(tmp_path, exact)
    near = asked(exact)
    far = {name: query + np.float32(3) for name, query in near.items()}
    for queries in (near, far):
        found, true = graph.nearest(queries, 50), exact.nearest(queries, 50)
        assert recall(found, true) >= 0.99
        assert all(len(set(row)) == 50 for row in found.ids.tolist())
    itself = graph.nearest({"encoder0": block[:20]}, 50)
    assert itself.ids.tolist() == exact.nearest({"encoder0": block[:20]}, 50).ids.tolist()


@pytest.mark.parametrize("cells", [1, 2, 7])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_no_more_neighbours_than_cells(tmp_path, cells, k):
    exact = exact_over(states(np.random.default_rng(5), cells, DIMENSIONS)[0])
    queries = asked(exact)
    found = graph_over(tmp_path, exact).nearest(queries, k)
    assert found.ids.shape == (100, min(k, cells))
    assert found.ids.tolist() == exact.nearest(queries, k).ids.tolist()


def test_rows_for_which_the_graph_finds_too_few_are_searched_exactly(tmp_path):
    exact = exact_over(states(np.random.default_rng(6), CELLS, DIMENSIONS)[0])
    graph = graph_over(tmp_path, exact)
    links = faiss.vector_to_array(graph.graph.hnsw.neighbors)
    cut = faiss.read_index(str(tmp_path / "graph.faiss"))  # a graph of which every link is lost
    faiss.copy_array_to_vector(np.full_like(links, -1), faiss.downcast_index(cut.index).hnsw.neighbors)
    faiss.write_index(cut, str(tmp_path / "graph.faiss"))
    queries = asked(exact)
    found = GraphSearch.opened(tmp_path / "graph.faiss", exact).nearest(queries, 10, (10,))
    assert found.ids.tolist() == exact.nearest(queries, 10, (10,)).ids.tolist()


def test_a_cells_answer_depends_neither_on_its_batch_nor_on_the_threads(small):
    queries = asked(small.exact, rows=np.arange(150))
    together = small.nearest(queries, 30)
    threads = faiss.omp_get_max_threads()
    try:
        for count in (1, 2, 3):
            faiss.omp_set_num_threads(count)
            for rows in ([0], [149], [63, 64], list(range(70, 149))):
                part = small.nearest({name: block[rows] for name, block in queries.items()}, 30)
                assert part.ids.tolist() == together.ids[rows].tolist()
                assert part.distances.tolist() == together.distances[rows].tolist()
    finally:
        faiss.omp_set_num_threads(threads)
    nobody = small.nearest({"encoder0": np.zeros((0, DIMENSIONS), dtype=np.float32)}, 3)
    assert nobody.ids.shape == (0, 3)


def test_the_same_cells_make_the_same_graph_on_any_number_of_threads(tmp_path):
    exact = exact_over(states(np.random.default_rng(7), CELLS, DIMENSIONS)[0])
    threads = faiss.omp_get_max_threads()
    try:
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            (tmp_path / str(count)).mkdir()
            graphs.write_graph(tmp_path / str(count), exact, k=10)
            assert faiss.omp_get_max_threads() == count
    finally:
        faiss.omp_set_num_threads(threads)
    for name in ("graph.faiss", "graph_nodes.npy"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_the_figures_say_what_the_graph_is(tmp_path):
    block, _ = states(np.random.default_rng(8), CELLS, 400)
    block[:, 40:] *= 0.05  # nearly all of the variance in 40 dimensions
    block[500:510] = block[3]
    told = []
    figures = graphs.write_graph(tmp_path, exact_over(block), k=15, progress=lambda *step: told.append(step))
    assert (figures.nodes, figures.recall_k, figures.components) == (CELLS - 10, 15, 64)
    assert 0.9 <= figures.variance <= 1
    assert 0.99 <= figures.recall <= 1
    assert told[-1] == (CELLS - 10, CELLS - 10)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "graph.faiss").write_bytes(b"nothing of the kind"),
        lambda folder: (folder / "graph.faiss").write_bytes((folder / "graph.faiss").read_bytes()[:2000]),
        lambda folder: (folder / "graph.faiss").unlink(),
        lambda folder: (folder / "graph_nodes.npy").unlink(),
        lambda folder: np.save(folder / "graph_nodes.npy", np.zeros(7, dtype=np.int32)),
        lambda folder: np.save(folder / "graph_nodes.npy", np.full(300, 300, dtype=np.int32)),
        lambda folder: faiss.write_index(faiss.IndexFlatL2(DIMENSIONS), str(folder / "graph.faiss")),
    ],
)
def test_a_graph_that_is_not_of_these_cells_is_refused(tmp_path, spoil):
    exact = exact_over(states(np.random.default_rng(9), 300, DIMENSIONS)[0])
    graphs.write_graph(tmp_path, exact, k=5)
    spoil(tmp_path)
    with pytest.raises(BundleError, match="graph"):
        GraphSearch.opened(tmp_path / "graph.faiss", exact)
