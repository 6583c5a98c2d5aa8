"""Cells of a class that the reference lacks, told without labels once a fit stands: issue 5, "Bad input".

The paper asks the cosines of clusters and classes (section 3.2), before anything is carried; over devices these do not
tell a foreign class from a known one that fell apart. So here the fitted voters are asked. Their drawn references have
the shape that their class has at home: cells of a class that lies between them are far from all references for how near
they are to each other, and are called one thing by one voter and another by the next. Either alone is common among
known cells; a cluster is foreign where both hold, measured against the target's other clusters. No transported
reference is asked how far it is: a transport lays references wherever there are cells.

It finds little. `pbc` halves and altered pictures, six classes, drawn afresh after the limits were chosen: of a
withheld class 9 % of the cells (48 fits) with 1.7 % of the known ones; where none lacks, 2.8 % of all, in 5 targets of
24. So it warns, and acts only where it is asked to. Better clusters would not do much: of the true classes themselves,
no figure tried finds more than 38 % of the foreign while it spares 98 % of the known. Seeded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I32, I64, Embeddings
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.aligning.values import F64, VoterPlan

CLUSTERS = 12
"""Of the target: more than it has classes, so that few hold cells of two."""

AXES = 20
"""Principal axes of the target in which its clusters are found."""

FEWEST = 100
"""Target cells below which nothing is sought: clusters would be of a handful."""

FEW_UNMATCHED = 8
"""Cells of a cluster below which it is no class."""

NEAREST = 5
"""Cells to which a distance is averaged."""

DOUBT = 0.1
"""The mean weight of the voters that say other than the call, within a cluster, is above this."""

AWAY = 1.25
"""How far a cluster lies from the references, beyond the median of the others, in their median deviations."""

FAR = 1.35
"""Times as far as the median of the others, for how near its cells are to each other: such a cluster needs no doubt."""

_SLACK = 0.02  # of a logarithm: clusters that happen to lie alike do not make every other one far

MOST = 0.25
"""Of the target: more than this is not a class that lacks but a fit that failed, and nothing is called foreign."""


@dataclass(frozen=True, slots=True, eq=False)
class Foreign:
    """Cells of clusters that are of no class of the reference."""

    rows: I64  # of the target, in order
    names: tuple[str, ...]  # theirs: "unmatched 1", ...
    clusters: int  # that were looked at; 0: none, the target is too small or no voter can tell


NONE = Foreign(np.empty(0, dtype=np.int64), (), 0)


def foreign(cells: Embeddings, agreement: F64, voters: Sequence[VoterPlan], *, seed: int = 0) -> Foreign:
    """The target's cells, encoder -> (M, d_e), that are of a class which the reference lacks.

    Args:
        cells: of the target.
        agreement: (M,) 0..1 weight of the voters that agree with each cell's call.
        voters: the fit's voters that kept the shape of their references, see `drawn`; none: nothing is found.
        seed: of the clusters.
    """
    if not voters or len(agreement) < FEWEST:
        return NONE
    clusters = clusters_of(cells, seed)
    large = [one for one in range(CLUSTERS) if np.count_nonzero(clusters == one) >= FEW_UNMATCHED]
    if len(large) < 3:  # nothing to hold a cluster against
        return NONE
    weights = np.array([voter.weight for voter in voters])
    gaps = np.average([_gap(cells, voter) for voter in voters], axis=0, weights=weights)
    middles = np.array([np.median(gaps[clusters == one]) for one in large])
    beyond, spread = _against_others(middles)
    doubt = np.array([1.0 - agreement[clusters == one].mean() for one in large])
    found = np.array(large)[((beyond > AWAY * spread) & (doubt > DOUBT)) | (beyond > np.log(FAR))]
    rows = np.flatnonzero(np.isin(clusters, found)).astype(np.int64)
    if len(rows) > MOST * len(clusters):
        return Foreign(NONE.rows, (), len(large))
    numbers = {int(cluster): place for place, cluster in enumerate(found, 1)}
    return Foreign(rows, tuple(f"unmatched {numbers[cluster]}" for cluster in clusters[rows].tolist()), len(large))


def clusters_of(cells: Embeddings, seed: int) -> I32:
    """(M,) which of `CLUSTERS` each cell is in: k-means along the principal axes of z-scored vectors."""
    from sklearn.cluster import KMeans  # noqa: PLC0415 - in the extra `index`
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    blocks = [np.asarray(block, dtype=np.float64) for block in cells.values()]
    scored = [(each - each.mean(axis=0)) / (each.std(axis=0) + 1e-3 * each.std() + 1e-12) for each in blocks]
    sides, lengths, _ = np.linalg.svd(np.concatenate(scored, axis=1), full_matrices=False)
    placed = sides[:, :AXES] * lengths[:AXES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different cells than clusters: some stay empty
        return np.asarray(KMeans(CLUSTERS, n_init=3, random_state=seed).fit_predict(placed), dtype=np.int32)


def _gap(cells: Embeddings, voter: VoterPlan) -> F64:
    """(M,) log of how far a cell's nearest references are over how far its nearest fellows are."""
    spread = {name: max(float(voter.vectors[name].std()), 1e-12) for name in voter.encoders}
    own = _joined(cells, voter, spread)
    references = _joined(voter.vectors, voter, spread)
    there = _mean_nearest(references, own, min(NEAREST, len(references)))
    fellows = ExactSearch.of(("all",), [own], [1.0]).leaving_out(np.arange(len(own), dtype=np.int32), NEAREST)
    return np.asarray(np.log(there + 1e-6) - np.log(fellows.distances.mean(axis=1, dtype=np.float64) + 1e-6))


def _joined(vectors: Embeddings, voter: VoterPlan, spread: dict[str, float]) -> F32:
    blocks = [np.asarray(vectors[name], dtype=np.float32) / np.float32(spread[name]) for name in voter.encoders]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1))


def _mean_nearest(references: F32, cells: F32, k: int) -> F64:
    found = ExactSearch.of(("all",), [references], [1.0]).nearest({"all": cells}, k)
    return np.asarray(found.distances.mean(axis=1, dtype=np.float64))


def _against_others(values: F64) -> tuple[F64, F64]:
    """How far each value lies above the median of all others, and their median deviation from it."""
    beyond, spread = np.empty(len(values)), np.empty(len(values))
    for place in range(len(values)):
        others = np.delete(values, place)
        middle = np.median(others)
        beyond[place] = values[place] - middle
        spread[place] = np.median(np.abs(others - middle)) + _SLACK
    return beyond, spread
