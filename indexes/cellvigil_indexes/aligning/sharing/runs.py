"""Clusters of the target's cells and their matches, run by run: what `sharing` judges by.

Sections 3.2 and 5.1 of the transfer paper: random subsets of 2,000 cells, where the target has more. Pure but for its
own seeded draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.data import F32, I64, Embeddings
from cellvigil_indexes.aligning.sharing.clusters import clusters_of
from cellvigil_indexes.aligning.sharing.common_axes import Common, common_axes, means_of, registered
from cellvigil_indexes.aligning.sharing.graph import weighted_graph
from cellvigil_indexes.aligning.sharing.louvain import louvain_of
from cellvigil_indexes.aligning.sharing.matching import loud, match, shared_encoders, similarity
from cellvigil_indexes.aligning.sharing.settings import AXES, PAPER, SharingSettings
from cellvigil_indexes.aligning.values import F64, Clusters, Matches
from cellvigil_indexes.bank import Bank


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """The two sides, in the space that is looked at."""

    vectors: F32  # (M, d) for the graph
    target: Embeddings
    reference: Bank
    axes: bool  # whether `target` and `reference` lie along common axes


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One look at the target."""

    method: str
    rows: I64  # (m,) of the target
    clusters: Clusters  # of these rows
    matches: Matches
    off: F64  # (clusters,) how far each lies off its likeliest class, of the way to the nearest other; 0: not asked


def sides_of(bank: Bank, target: Embeddings, names: Sequence[str], settings: SharingSettings) -> Sides:
    """Both sides in the space of the settings; as they come, where the reference has one class only."""
    if settings.space == AXES and np.count_nonzero(bank.class_counts) > 1:
        common = common_axes(target, bank, names)
        return Sides(common.together, common.target, common.reference, axes=True)
    blocks = [np.asarray(target[name], dtype=np.float32) for name in names]
    widths = [float(np.sqrt(block.var(axis=0, dtype=np.float64).sum())) or 1.0 for block in blocks]
    joined = np.concatenate([block / width for block, width in zip(blocks, widths, strict=True)], axis=1)
    few = _some(bank, settings)
    return Sides(joined.astype(np.float32), {name: target[name] for name in names}, few, axes=False)


def _some(bank: Bank, settings: SharingSettings) -> Bank:
    """At most `subset` reference cells, the same number of each class where it has them: means need no more."""
    rng = np.random.default_rng(settings.seed)
    each = max(1, settings.subset // max(1, int(np.count_nonzero(bank.class_counts))))
    parts = [rng.permutation(np.flatnonzero(bank.labels == label))[:each] for label in range(len(bank.classes))]
    return bank.rows(np.sort(np.concatenate(parts)).astype(np.int64))


def runs_of(bank: Bank, target: Embeddings, sides: Sides, settings: SharingSettings) -> Iterator[Run]:
    """One run a subset and method; equation 19 is asked once, of the vectors as they come."""
    rng = np.random.default_rng(settings.seed)
    cells = len(sides.vectors)
    kept: tuple[str, ...] | None = None
    for run in range(settings.runs if cells > settings.subset else 1):
        rows = np.arange(cells)
        if cells > settings.subset:
            rows = np.sort(rng.choice(cells, settings.subset, replace=False))
        for method, clusters in _clustered(sides.vectors[rows], settings, settings.seed + run):
            if kept is None:
                kept = _loud(bank, target, rows, clusters, settings)
            part = {name: sides.target[name][rows] for name in kept}
            yield Run(method, rows.astype(np.int64), clusters, *_matched(part, clusters, sides, settings))


def _clustered(vectors: F32, settings: SharingSettings, seed: int) -> Iterator[tuple[str, Clusters]]:
    graph = weighted_graph(vectors, settings.clusters.k, settings.clusters.sigma)
    for method in settings.methods:
        if method == PAPER:
            yield method, clusters_of(vectors, graph, settings.clusters)
        else:
            yield method, louvain_of(vectors, graph, settings.clusters, seed=seed)


def _loud(bank: Bank, target: Embeddings, rows: I64, clusters: Clusters, settings: SharingSettings) -> tuple[str, ...]:
    few = _some(bank, settings)
    names = shared_encoders(target, bank)
    return loud({name: similarity(target[name][rows], clusters, few, name) for name in names}, settings.matching)


def _matched(part: Embeddings, clusters: Clusters, sides: Sides, settings: SharingSettings) -> tuple[Matches, F64]:
    """Appendix A.2, and `Run.off`; along common axes, with the shift between the sides taken out first."""
    if not sides.axes:
        return match(part, clusters, sides.reference, settings.matching), np.zeros(clusters.count)
    blocks = {name: sides.reference.embeddings[name] for name in part}
    common = Common(part, replace(sides.reference, embeddings=blocks))
    near = registered(common, clusters.labels, clusters.count)
    matches = match(near.target, clusters, near.reference, settings.matching)
    return matches, _off(near, clusters, matches)


def _off(near: Common, clusters: Clusters, matches: Matches) -> F64:
    """A cosine does not know how far away a cluster lies: its distance to its likeliest class, by that class's gap."""
    there, means = near.class_means()
    likeliest = matches.probability[:, there].argmax(axis=1)
    gaps = np.linalg.norm(means[:, None] - means, axis=2)
    np.fill_diagonal(gaps, np.inf)
    places = means_of(near.together, clusters.labels, clusters.count)
    return np.asarray(np.linalg.norm(places - means[likeliest], axis=1) / gaps.min(axis=1)[likeliest])
