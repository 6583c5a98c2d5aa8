"""Matches of a target's clusters put right by those of further unlabelled data sets: section 3.2 of the transfer paper.

Clusters of one cell type have like score vectors (equation 22) whatever data set they come from. t-SNE of all of them,
with the reference's own classes among them, brings them together; a cluster that lies in a community of another label
was most likely misjudged (figure 4). The paper names the two criteria, score and place, and no rule: here a class's
standing is half its matching probability (equation 23) and half its share of the nearest other points, so that a sure
score outweighs a divided neighbourhood, and a united one an unsure score.

scikit-learn, seeded. Nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import I32
from cellvigil_indexes.aligning.libraries import library
from cellvigil_indexes.aligning.values import F64, Matches

_PERPLEXITY = 30.0  # at most; a third of the points, where there are few
_FEWEST = 4  # points that t-SNE can place


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """The matches after refinement, and the picture that they were read from."""

    best: I32  # (clusters,) class ids of the target's clusters, -1: none
    places: F64  # (points, 2) t-SNE; the target's clusters first, then each further set's, then the reference's classes
    origins: I32  # (points,) 0: the target; 1 and up: further sets; -1: the reference
    labels: I32  # (points,) class ids before refinement, -1: none
    changed: tuple[int, ...]  # clusters whose label is another one now


def refine(
    matches: Matches,
    further: Sequence[Matches],
    own: Matches,
    *,
    least: float,
    neighbours: int = 5,
    seed: int = 0,
) -> Refined:
    """Relabel clusters by score and place.

    Args:
        matches: the target's clusters.
        further: those of other unlabelled sets, against the same classes; empty: nothing is changed.
        own: the reference's classes against themselves (class i is cluster i).
        least: the probability below which there is no match; half of score and place together has to reach it too.
        neighbours: points of other sets that a cluster is judged by.
        seed: of t-SNE.
    """
    sets = [matches, *further, own]
    origins = np.repeat([*range(len(sets) - 1), -1], [len(one.best) for one in sets]).astype(np.int32)
    classes = matches.probability.shape[1]
    labels = np.concatenate([*(one.best for one in sets[:-1]), np.arange(len(own.best))]).astype(np.int32)
    if not further or len(origins) < _FEWEST:
        return Refined(matches.best, np.zeros((len(origins), 2)), origins, labels, ())
    places = placed([vectors_of(one) for one in sets], seed)
    near = shares_nearby(places, labels, origins, classes, neighbours)
    best = _relabelled(matches, near, least)
    return Refined(best, places, origins, labels, tuple(np.flatnonzero(best != matches.best).tolist()))


def vectors_of(matches: Matches) -> F64:
    """The score vectors of equation 22, (clusters, 2 classes): all M^row, then all M^col."""
    finite = [np.nan_to_num(one, neginf=-1.0) for one in (matches.row, matches.column)]
    return np.concatenate(finite, axis=1)


def placed(vectors: Sequence[F64], seed: int) -> F64:
    """All score vectors in two dimensions, (points, 2)."""
    manifold = library("sklearn.manifold", "scikit-learn", "the proximity of clusters")
    points = np.concatenate(list(vectors))
    perplexity = min(_PERPLEXITY, max(1.0, (len(points) - 1) / 3.0))
    alike = not np.ptp(points, axis=0).any()  # PCA has no axis to start from
    how = manifold.TSNE(perplexity=perplexity, init="random" if alike else "pca", method="exact", random_state=seed)
    return np.asarray(how.fit_transform(points), dtype=np.float64)


def shares_nearby(places: F64, labels: I32, origins: I32, classes: int, neighbours: int) -> F64:
    """Shares of the labels among each target cluster's nearest labelled points of other sets, (clusters, classes)."""
    others = np.flatnonzero((origins != 0) & (labels >= 0))
    mine = np.flatnonzero(origins == 0)
    distances = np.linalg.norm(places[mine, None] - places[others], axis=2)
    nearest = others[np.argsort(distances, axis=1, kind="stable")[:, :neighbours]]
    return np.asarray(np.eye(classes)[labels[nearest]].mean(axis=1))


def _relabelled(matches: Matches, near: F64, least: float) -> I32:
    standing = (matches.probability + near) / 2.0
    winner = standing.argmax(axis=1)
    sure = standing[np.arange(len(winner)), winner] >= least
    return np.where(sure, winner, matches.best).astype(np.int32)
