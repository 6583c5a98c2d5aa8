"""Plain nearest neighbours: k fixed, or chosen inside the training cells; and the commonest class. Squared L2.

DinoBloom (MICCAI 2024, section "Evaluation") reports k-NN at 1 and 20, unweighted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cellvigil.data import F32, I16, I32, I64, Array, frozen_array
from cellvigil.neighbours import ExactSearch

CHOICES = (1, 3, 5, 7, 10, 15, 20, 30, 50)
"""The k that `knn_chosen` tries."""


def knn(k: int) -> Callable[[F32, I16, F32, int, int], F32]:
    """The plain vote of the k nearest (all, where there are fewer): a baseline, see the package.

    Shares are c_i / k; the winner of a tie, the class with the nearest cell, has a share larger by a rounding.
    """

    def vote(vectors: F32, labels: I16, queries: F32, classes: int, seed: int) -> F32:
        del seed  # nothing is left to chance
        near = ExactSearch.of(("all",), [vectors], [1.0]).nearest({"all": queries}, k)
        return shares(labels[near.ids], classes)

    return vote


def knn_chosen(vectors: F32, labels: I16, queries: F32, classes: int, seed: int, *, groups: I32 | None = None) -> F32:
    """The plain vote of the k nearest, k of CHOICES by macro accuracy when each training cell is left out.

    What an adaptive depth has to be held against: neither has looked at the queries. Ties go to the smaller k. With
    `groups` (N,) each cell's whole group is left out (of a single one each cell): for queries of other groups, which
    are less like the nearest.
    """
    cells = len(vectors)
    own = frozen_array(np.arange(cells), dtype=np.int32)
    if groups is not None and len(np.unique(groups)) > 1:
        own = frozen_array(np.unique(groups, return_inverse=True)[1], dtype=np.int32)
    depth = min(max(CHOICES), cells - int(np.bincount(own).max(initial=0)))
    if depth < 1:
        return majority(vectors, labels, queries, classes, seed)
    search = ExactSearch.of(("all",), [vectors], [1.0])
    found = labels[search.leaving_out(own, depth).ids]
    best = max((k for k in CHOICES if k <= depth), key=lambda k: (_macro(found[:, :k], labels, classes), -k))
    return knn(best)(vectors, labels, queries, classes, seed)


def majority(vectors: F32, labels: I16, queries: F32, classes: int, seed: int) -> F32:
    """Class frequencies, the same for every query. The commonest class wins; ties go to the lower id."""
    del vectors, seed
    counts = np.bincount(labels, minlength=classes)
    return np.tile((counts / counts.sum()).astype(np.float32), (len(queries), 1))


def shares(found: Array, classes: int) -> F32:
    """Labels of the nearest cells (n, k), nearest first -> share of each class (n, classes) f32, ties broken.

    A tied class gains at most 1/1000 of a vote by how near its first cell is: never enough to overtake a vote.
    """
    n, k = found.shape
    rows = np.arange(n)[:, None] * classes
    counts = np.bincount((rows + found).ravel(), minlength=n * classes).reshape(n, classes).astype(np.float64)
    first = np.full((n, classes), k, dtype=np.int64)
    for place in range(k - 1, -1, -1):
        first[np.arange(n), found[:, place]] = place
    counts += np.where(counts > 0, (k - first) / (1000.0 * k), 0.0)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)


def _macro(found: Array, labels: I16, classes: int) -> float:
    """Mean recall of the classes that are there, for the vote of these neighbours."""
    right: I64 = (shares(found, classes).argmax(axis=1) == labels).astype(np.int64)
    sizes = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, weights=right, minlength=classes)
    return float(np.mean(hits[sizes > 0] / sizes[sizes > 0]))
