"""Graphs of cells against slow obvious twins: nearest neighbours, bridges, geodesics, weights (equations 6 and 7)."""

import itertools

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.sharing.graph import (
    edge_weights,
    geodesic,
    neighbour_edges,
    sigma_for,
    similarities,
    weighted_graph,
)

# Whole numbers make ties and copies common, and their distances exact.
CELLS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 25), st.integers(1, 3)),
    elements=st.integers(-6, 6).map(float),
)


def pairwise(vectors):
    return np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2)


def twin_graph(vectors, edges):
    """The edges, then the shortest bridge between two parts, again and again."""
    distances = pairwise(vectors)
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(vectors)))
    graph.add_weighted_edges_from((i, j, distances[i, j]) for i, j in edges)
    while not networkx.is_connected(graph):
        parts = list(networkx.connected_components(graph))
        bridges = [(distances[i, j], i, j) for a, b in itertools.combinations(parts, 2) for i in a for j in b]
        length, i, j = min(bridges)
        graph.add_edge(i, j, weight=length)
    return graph


@settings(max_examples=60, deadline=None)
@given(CELLS, st.integers(1, 6))
def test_every_cell_has_its_nearest_neighbours_as_edges(vectors, k):
    pairs, lengths = neighbour_edges(vectors, k)
    distances = pairwise(vectors)
    np.testing.assert_allclose(lengths, distances[pairs[:, 0], pairs[:, 1]], rtol=1e-6)
    assert len({tuple(pair) for pair in pairs}) == len(pairs)
    joined_to = [set() for _ in vectors]
    for i, j in pairs:
        assert i < j
        joined_to[i].add(j)
        joined_to[j].add(i)
    wanted = min(k, len(vectors) - 1)
    for cell, others in enumerate(joined_to):
        nearest = np.sort(np.delete(distances[cell], cell))[:wanted]
        mine = np.sort([distances[cell, other] for other in others])[:wanted]
        np.testing.assert_allclose(mine, nearest)


@settings(max_examples=60, deadline=None)
@given(CELLS, st.integers(1, 4))
def test_geodesics_are_the_shortest_ways_over_edges_and_bridges(vectors, k):
    pairs, _ = neighbour_edges(vectors, k)
    graph = twin_graph(vectors, pairs)
    found = geodesic(vectors, k)
    if networkx.number_connected_components(twin_without_bridges(len(vectors), pairs)) == 1:
        wanted = dict(networkx.all_pairs_dijkstra_path_length(graph))
        table = [[wanted[i][j] for j in range(len(vectors))] for i in range(len(vectors))]
        np.testing.assert_allclose(found, table, atol=1e-5)
    assert np.isfinite(found).all()
    assert np.array_equal(found, found.T)
    assert (np.diag(found) == 0).all()
    assert (found >= pairwise(vectors) - 1e-5).all()


def twin_without_bridges(cells, pairs):
    graph = networkx.Graph()
    graph.add_nodes_from(range(cells))
    graph.add_edges_from(pairs.tolist())
    return graph


def blobs(seed, *, count=4, each=20, dimensions=5, apart=30.0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count, dimensions)) * apart
    return np.concatenate([centre + random.normal(size=(each, dimensions)) for centre in centres]).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_parts_without_a_way_are_joined_by_their_shortest_bridges(seed):
    vectors = blobs(seed)
    pairs, _ = neighbour_edges(vectors, 3)
    assert networkx.number_connected_components(twin_without_bridges(len(vectors), pairs)) >= 4
    wanted = dict(networkx.all_pairs_dijkstra_path_length(twin_graph(vectors, pairs)))
    table = [[wanted[i][j] for j in range(len(vectors))] for i in range(len(vectors))]
    np.testing.assert_allclose(geodesic(vectors, 3), table, rtol=1e-5)


def test_identical_cells_are_no_way_apart_and_all_joined():
    graph = weighted_graph(np.full((40, 7), 3.0, dtype=np.float32))
    assert (graph.similarity == 0).all()
    assert (graph.weights == 1 - np.eye(40)).all()


def test_two_heaps_of_copies_are_joined_by_one_bridge():
    vectors = np.repeat(np.array([[0.0, 0.0], [3.0, 4.0]], dtype=np.float32), 30, axis=0)
    found = geodesic(vectors, 5)
    assert (found[:30, :30] == 0).all()
    assert (found[:30, 30:] == 5).all()


@pytest.mark.parametrize(("cells", "largest"), [(1, 0.0), (2, 5.0)])
def test_one_and_two_cells_have_a_graph_without_edges(cells, largest):
    vectors = np.array([[0.0, 0.0], [3.0, 4.0]], dtype=np.float32)[:cells]
    assert geodesic(vectors).max() == pytest.approx(largest)
    assert not weighted_graph(vectors).adjacency.any()


def test_weights_fall_from_one_at_the_nearest_pair_to_none_at_sigma():
    similarity = np.array([[0, 0.1, 0.2, 0.3], [0.1, 0, 0.4, 1], [0.2, 0.4, 0, 0.25], [0.3, 1, 0.25, 0]])
    wanted = np.array([[0, 1, 0.5, 0], [1, 0, 0, 0], [0.5, 0, 0, 0.25], [0, 0, 0.25, 0]])
    np.testing.assert_allclose(edge_weights(similarity, 0.3), wanted, atol=1e-12)


def test_cells_all_equally_far_apart_have_no_edge():
    similarity = 1.0 - np.eye(5)
    assert not edge_weights(similarity, 0.3).any()
    assert not edge_weights(similarity, 1.0).any()


def test_similarity_is_the_distance_over_the_largest():
    distances = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert similarities(distances).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("cells", "sigma"), [(2, 0.3), (799, 0.3), (800, 0.15), (2000, 0.15)])
def test_the_papers_sigma(cells, sigma):
    assert sigma_for(cells) == sigma


@pytest.mark.parametrize(
    ("vectors", "k", "sigma", "words"),
    [
        (np.zeros((0, 4), dtype=np.float32), 15, None, "there are none"),
        (np.zeros((4, 4), dtype=np.float32), 0, None, "0 neighbours"),
        (np.full((4, 4), np.nan, dtype=np.float32), 15, None, "not finite"),
        (np.eye(4, dtype=np.float32), 15, 0.0, "sigma"),
        (np.eye(4, dtype=np.float32), 15, 1.5, "sigma"),
    ],
)
def test_what_has_no_graph_is_said(vectors, k, sigma, words):
    with pytest.raises(UsageError, match=words):
        weighted_graph(vectors, k, sigma)
