"""Louvain communities of the same weighted graph, beside the paper's own algorithm.

Blondel et al., "Fast unfolding of communities in large networks" (2008): the benchmark of "Optimal transport for
feature alignment", section 3.2. Its communities have no central nodes: here those with the largest weighted degree
within stand for them. Seeded.
"""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I64
from cellvigil_indexes.aligning.libraries import library
from cellvigil_indexes.aligning.sharing.clusters import ClusterSettings, check_size, kept_centres, labels_from
from cellvigil_indexes.aligning.sharing.graph import WeightedGraph, weighted_graph
from cellvigil_indexes.aligning.sharing.propagating import propagated
from cellvigil_indexes.aligning.values import Clusters


def louvain_clusters(vectors: F32, settings: ClusterSettings | None = None, *, seed: int = 0) -> Clusters:
    """Group cells (n, d) by Louvain, largest community first.

    Communities of fewer than `least_central` cells are none: their cells are called by the others (EWC), as are those
    of clusters that the paper's own algorithm leaves. Raises as `find_clusters` does.
    """
    chosen = settings or ClusterSettings()
    check_size(len(vectors), chosen)
    return louvain_of(vectors, weighted_graph(vectors, chosen.k, chosen.sigma), chosen, seed=seed)


def louvain_of(vectors: F32, graph: WeightedGraph, settings: ClusterSettings, *, seed: int = 0) -> Clusters:
    """The same on a graph that is there already."""
    communities = kept_centres(_communities(graph, seed), graph, settings.least_central)
    labels = propagated(vectors, labels_from(communities, len(vectors)), settings.depth)
    central = tuple(_foremost(graph, rows, settings.least_central) for rows in communities)
    return Clusters(labels, central)


def _communities(graph: WeightedGraph, seed: int) -> list[I64]:
    """Rows of each community, the largest first, then the one with the lowest row."""
    networkx = library("networkx", "networkx", "Louvain's communities")
    drawn = networkx.Graph()
    drawn.add_nodes_from(range(len(graph)))
    rows, columns = np.nonzero(np.triu(graph.weights, 1))
    drawn.add_weighted_edges_from(
        zip(rows.tolist(), columns.tolist(), graph.weights[rows, columns].tolist(), strict=True)
    )
    found = networkx.community.louvain_communities(drawn, weight="weight", seed=seed)
    ordered = sorted((sorted(each) for each in found), key=lambda rows: (-len(rows), rows[0]))
    return [np.asarray(each, dtype=np.int64) for each in ordered]


def _foremost(graph: WeightedGraph, rows: I64, most: int) -> I64:
    """The community's cells with the largest weighted degree within it, the largest first."""
    within = graph.weights[np.ix_(rows, rows)].sum(axis=1)
    return np.asarray(rows[np.argsort(-within, kind="stable")[:most]], dtype=np.int64)
