"""Cells as a graph: nearest neighbours, geodesic distances along them, and the weighted graph made of these.

"Optimal transport for feature alignment", sections 3.2 and 3.3 and appendix A.1, equations 6 and 7. What the paper
leaves open is as `methods.md` has it: k is 15, an edge stands where either cell is among the other's k nearest, parts
without a way between them are joined by their shortest bridge before equation 6, and min W is taken off the diagonal.
Pure: arrays in, arrays out. Holds several (n, n) tables: for thousands of cells, not for tens of thousands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I32, I64, Bools
from cellvigil.errors import UsageError
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.aligning.values import F64

NEIGHBOURS = 15  # k of the graph, which the paper does not give
FEW_CELLS = 800  # below, sigma is the larger of the two
SIGMA_FEW, SIGMA_MANY = 0.3, 0.15
_PAIRS = 128  # at a time: their vectors stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class WeightedGraph:
    """The weighted graph of n cells (appendix A.1)."""

    similarity: F64  # (n, n) W of equation 6: geodesic distance, the largest being 1; the paper's "similarity"
    weights: F64  # (n, n) e of equation 7, 0..1, 0 on the diagonal; 0: no edge

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def adjacency(self) -> Bools:
        """Which cells are joined by an edge, (n, n), symmetric."""
        return np.asarray(self.weights > 0)


def sigma_for(cells: int) -> float:
    """The paper's threshold on W: 0.3 below 800 cells, else 0.15 (below equation 7)."""
    return SIGMA_FEW if cells < FEW_CELLS else SIGMA_MANY


def weighted_graph(vectors: F32, k: int = NEIGHBOURS, sigma: float | None = None) -> WeightedGraph:
    """The weighted graph of cells (n, d), equations 6 and 7; sigma None: `sigma_for` their number.

    Raises UsageError as `geodesic` does, and for a sigma outside 0..1.
    """
    limit = sigma_for(len(vectors)) if sigma is None else sigma
    if not 0 < limit <= 1:
        raise UsageError(f"sigma {limit} must be above 0 and at most 1")
    similarity = similarities(geodesic(vectors, k))
    return WeightedGraph(similarity, edge_weights(similarity, limit))


def similarities(distances: F64) -> F64:
    """Equation 6: geodesic distances (n, n) over their largest. All zero, where all cells are alike."""
    largest = distances.max(initial=0.0)
    return np.asarray(distances / largest) if largest > 0 else np.zeros_like(distances)


def edge_weights(similarity: F64, sigma: float) -> F64:
    """Equation 7 with min W off the diagonal, (n, n).

    No edge at all where no two cells are nearer than sigma: the quotient would turn round.
    """
    cells = len(similarity)
    others = ~np.eye(cells, dtype=bool)
    least = float(similarity[others].min()) if cells > 1 else sigma
    if least >= sigma:
        return np.zeros_like(similarity)
    weights = np.maximum(0.0, 1.0 - (similarity - least) / (sigma - least))
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights)


def geodesic(vectors: F32, k: int = NEIGHBOURS) -> F64:
    """Length of the shortest way between any two cells along the graph of nearest neighbours.

    Args:
        vectors: (n, d) f32, one or more cells; Euclidean distances.
        k: neighbours of a cell; all others, where there are fewer.

    Returns:
        (n, n) f64, symmetric, finite, 0 on the diagonal, in the unit of the vectors. Identical cells are 0 apart.

    Raises UsageError for no cells, k below 1, or vectors that are not finite.
    """
    from scipy.sparse.csgraph import dijkstra  # noqa: PLC0415 - only an alignment needs it

    pairs, lengths = neighbour_edges(vectors, k)
    pairs, lengths = joined(vectors, pairs, lengths)
    ways = dijkstra(_sparse(len(vectors), pairs, lengths))  # both directions are in the table
    return np.asarray(np.minimum(ways, ways.T))  # sums from either end round differently


def neighbour_edges(vectors: F32, k: int = NEIGHBOURS) -> tuple[I64, F64]:
    """The edges of the k-nearest-neighbour graph: (m, 2) cells with the lower row first, and their (m,) lengths.

    Raises as `geodesic` does.
    """
    if vectors.ndim != 2 or not len(vectors):
        raise UsageError("a graph needs cells, and there are none", hint="give a target with cells in it")
    if k < 1:
        raise UsageError(f"a graph with {k} neighbours a cell has no edges", hint="1 or more; 15 is usual")
    if not np.isfinite(vectors).all():
        raise UsageError("some embeddings are not finite", hint="embed the target again, with precision fp32")
    search = ExactSearch.of(["cells"], [np.ascontiguousarray(vectors, dtype=np.float32)], [1.0])
    near = search.nearest({"cells": search.blocks[0]}, min(k + 1, len(vectors))).ids
    pairs = _without_self(near, min(k, len(vectors) - 1))
    return pairs, _lengths(vectors, pairs)


def joined(vectors: F32, pairs: I64, lengths: F64) -> tuple[I64, F64]:
    """The edges, and bridges between the parts they leave apart: the shortest that join all (a spanning tree)."""
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - only an alignment needs it

    count, parts = connected_components(_sparse(len(vectors), pairs, lengths), directed=False)
    if count == 1:
        return pairs, lengths
    bridges = _bridges(vectors, parts.astype(np.int64), count)
    return np.concatenate([pairs, bridges]), np.concatenate([lengths, _lengths(vectors, bridges)])


def _bridges(vectors: F32, parts: I64, count: int) -> I64:
    """Prim's tree over the parts, each as near to another as their two nearest cells: (count - 1, 2) cells."""
    centred = np.asarray(vectors, dtype=np.float64) - vectors.mean(axis=0, dtype=np.float64)
    norms = np.einsum("ij,ij->i", centred, centred)
    reach = np.full(len(vectors), np.inf)  # squared distance of each cell to the tree
    ends = np.zeros(len(vectors), dtype=np.int64)  # the tree's cell that is nearest to it
    outside = np.ones(len(vectors), dtype=bool)
    bridges, newest = [], 0
    for _ in range(count - 1):
        mine = np.flatnonzero(parts == newest)
        outside[mine] = False
        there = np.flatnonzero(outside)
        table = norms[mine, None] + norms[there] - 2.0 * (centred[mine] @ centred[there].T)
        nearest = table.argmin(axis=0)
        found = table[nearest, np.arange(len(there))]
        nearer = found < reach[there]
        reach[there[nearer]], ends[there[nearer]] = found[nearer], mine[nearest[nearer]]
        cell = int(there[reach[there].argmin()])
        bridges.append((int(ends[cell]), cell))
        newest = int(parts[cell])
    return np.asarray(bridges, dtype=np.int64)


def _without_self(near: I32, k: int) -> I64:
    """(n, k + 1) nearest cells -> the pairs of each cell and its k others, once each, the lower row first.

    A cell with many copies may not be among its own nearest; then the last of them goes.
    """
    own = np.arange(len(near))[:, None]
    order = np.argsort(near == own, axis=1, kind="stable")  # the cell itself last
    others = np.take_along_axis(near, order, axis=1)[:, :k].astype(np.int64)
    pairs = np.stack([np.repeat(own[:, 0], k), others.ravel()], axis=1)
    return np.asarray(np.unique(np.sort(pairs, axis=1), axis=0), dtype=np.int64)


def _lengths(vectors: F32, pairs: I64) -> F64:
    """Euclidean distances pair by pair, so that identical cells are 0 apart to the last digit."""
    out = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        part = pairs[start : start + _PAIRS]
        out[start : start + _PAIRS] = np.linalg.norm(vectors[part[:, 0]] - vectors[part[:, 1]], axis=1)
    return out


def _sparse(cells: int, pairs: I64, lengths: F64):  # type: ignore[no-untyped-def]  # SciPy is untyped
    """A table of both directions. Made from coordinates, which keeps edges of length 0."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - only an alignment needs it

    both = np.concatenate([pairs, pairs[:, ::-1]])
    return csr_array((np.concatenate([lengths, lengths]), (both[:, 0], both[:, 1])), shape=(cells, cells))
