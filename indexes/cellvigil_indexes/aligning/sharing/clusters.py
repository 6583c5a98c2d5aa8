"""Groups of target cells, found without labels.

"Optimal transport for feature alignment", section 3.2 and appendix A.1: central nodes of the weighted graph
(`graph`, `correlation`, `growing`), EWC propagation to the remaining nodes (`propagating`), and the filter of sparse
clusters by closeness centrality. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cellvigil import decide
from cellvigil.data import F32, I32, I64, Bools
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.sharing.correlation import (
    U64,
    hops_from,
    node_correlation,
    packed,
    weighted_degrees,
)
from cellvigil_indexes.aligning.sharing.graph import NEIGHBOURS, WeightedGraph, weighted_graph
from cellvigil_indexes.aligning.sharing.growing import Structure, grow
from cellvigil_indexes.aligning.sharing.propagating import UNLABELLED, propagated
from cellvigil_indexes.aligning.values import Clusters


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How clusters are found; the paper's values where it gives one."""

    k: int = NEIGHBOURS  # of the graph that geodesic distances run along
    sigma: float | None = None  # of equation 7, 0..1; None: 0.3 below 800 cells, else 0.15
    least_central: int = 10  # central nodes of a cluster; fewer, and it is none (step 7)
    hops: int = 2  # of the density (equation 9); the paper gives no h but in steps 3 and 4
    jump: float = 2.5  # standard deviations of condition 16
    reached: float = 0.6  # share of a cluster within two hops of its most central node; less, and it is sparse
    depth: decide.Settings = field(default_factory=decide.Settings)  # of the propagation
    most_cells: int = 5000  # tables are (n, n)

    def __post_init__(self) -> None:
        if self.least_central < 2 or self.hops < 1 or self.jump < 0 or not 0 <= self.reached <= 1:
            raise UsageError(
                f"least_central {self.least_central}, hops {self.hops}, jump {self.jump} and reached {self.reached} "
                "must be at least 2, 1, 0, and 0 to 1"
            )


def find_clusters(vectors: F32, settings: ClusterSettings | None = None) -> Clusters:
    """Group cells (n, d) by the paper's own algorithm. The same cells in the same order give the same clusters.

    There is always at least one cluster: cells without structure (identical, or all equally far from each other) are
    one. Raises UsageError for fewer cells than one cluster needs, for more than `most_cells`, and as `geodesic` does.
    """
    chosen = settings or ClusterSettings()
    check_size(len(vectors), chosen)
    return clusters_of(vectors, weighted_graph(vectors, chosen.k, chosen.sigma), chosen)


def clusters_of(vectors: F32, graph: WeightedGraph, settings: ClusterSettings) -> Clusters:
    """The same on a graph that is there already."""
    adjacency = graph.adjacency
    bits = packed(adjacency)
    correlation = node_correlation(adjacency, settings.hops)
    structure = Structure(graph.similarity, weighted_degrees(graph.weights), correlation, bits)
    grown = grow(structure, least_central=settings.least_central, jump=settings.jump)
    central = kept_centres([one.central for one in grown], graph, settings.least_central)
    labels = propagated(vectors, labels_from(central, len(vectors)), settings.depth)
    return without_sparse(vectors, labels, central, adjacency, settings)


def check_size(cells: int, settings: ClusterSettings) -> None:
    """Raises UsageError for fewer cells than a cluster needs, or for more than tables of all pairs are made for."""
    if cells < settings.least_central:
        raise UsageError(
            f"{cells} cells are fewer than the {settings.least_central} that one cluster needs",
            hint="give more target cells, or align without looking for shared classes",
        )
    if cells > settings.most_cells:
        raise UsageError(
            f"{cells:,} cells at once are more than {settings.most_cells:,}", hint="find clusters in subsets of 2,000"
        )


def kept_centres(centres: Sequence[I64], graph: WeightedGraph, least: int) -> tuple[I64, ...]:
    """Clusters with `least` central nodes or more; where none has, the largest; where there are none, one of one cell.

    The one cell is the one that lies nearest to all others.
    """
    large = tuple(each for each in centres if len(each) >= least)
    if large:
        return large
    if centres:
        return (max(centres, key=len),)  # the first of the longest
    return (np.array([graph.similarity.sum(axis=1).argmin()], dtype=np.int64),)


def labels_from(central: Sequence[I64], cells: int) -> I32:
    """Cluster ids of central nodes, -1 elsewhere, (cells,)."""
    labels = np.full(cells, UNLABELLED, dtype=np.int32)
    for cluster, rows in enumerate(central):
        labels[rows] = cluster
    return labels


def without_sparse(
    vectors: F32, labels: I32, central: Sequence[I64], adjacency: Bools, settings: ClusterSettings
) -> Clusters:
    """Sparse clusters taken apart, and their cells called by all cells of the others (the last step of A.1).

    Where all are sparse, the one that reaches most of its cells stays.
    """
    shares = [reach(adjacency, np.flatnonzero(labels == cluster)) for cluster in range(len(central))]
    limit = min(settings.reached, max(shares))
    stays = np.array([share >= limit for share in shares])
    sizes = np.bincount(labels, minlength=len(central))
    numbers = np.where(stays, np.cumsum(stays) - 1, UNLABELLED).astype(np.int32)
    again = propagated(vectors, numbers[labels], settings.depth)
    kept = tuple(rows for rows, stay in zip(central, stays, strict=True) if stay)
    return Clusters(again, kept, tuple(int(size) for size in sizes[~stays]))


def reach(adjacency: Bools, members: I64) -> float:
    """Share of a cluster's cells, 0..1, at most two hops from its most central one, along edges within the cluster.

    The cell itself counts. Two cells equally central: the lower row.
    """
    bits = packed(adjacency[np.ix_(members, members)])
    closest, share = -1.0, 0.0
    for node in range(len(members)):
        closeness, within = _closeness(bits, node)
        if closeness > closest:
            closest, share = closeness, within
    return share


def _closeness(bits: U64, node: int) -> tuple[float, float]:
    """Closeness centrality in hops, for graphs in parts too (Wasserman and Faust), and the share within two hops."""
    cells = len(bits)
    hops = hops_from(bits, node, cells)
    there = hops >= 0
    total, reached = int(hops[there].sum()), int(there.sum())
    closeness = (reached - 1) / total * (reached - 1) / (cells - 1) if total else 0.0
    return closeness, float((there & (hops <= 2)).mean())
