"""How well the classes that a target shares with a reference were found, against the truth: equations 5 and 24.

Section 5.1 and appendix B of the transfer paper. For benchmarks and reports, where the target's labels are known.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from cellvigil.data import Array
from cellvigil_indexes.aligning.values import Clusters, Matches


@dataclass(frozen=True, slots=True)
class SharedScore:
    """Of one target."""

    globally: float  # equation 24, 0..1
    clusters: float  # share of the clusters whose class is the one most of their cells have

    @property
    def accuracy(self) -> float:
        """Equation 5: the mean of both."""
        return (self.globally + self.clusters) / 2.0


def score(
    kept: Collection[str], clusters: Clusters, matches: Matches, classes: tuple[str, ...], truth: Array
) -> SharedScore:
    """Both accuracies. `truth` (M,) are the target cells' class names, `classes` the reference's, by id."""
    globally = global_accuracy(kept, set(truth.tolist()), classes)
    return SharedScore(globally, cluster_accuracy(clusters, matches, classes, truth))


def global_accuracy(kept: Collection[str], there: Collection[str], classes: Collection[str]) -> float:
    """Equation 24: shared classes found, times absent classes filtered; a share of nothing is 1.

    Args:
        kept: classes said to be shared.
        there: classes that the target has; those that the reference lacks do not count.
        classes: those of the reference.
    """
    shared, absent = set(classes) & set(there), set(classes) - set(there)
    found = len(shared & set(kept)) / len(shared) if shared else 1.0
    filtered = len(absent - set(kept)) / len(absent) if absent else 1.0
    return found * filtered


def cluster_accuracy(clusters: Clusters, matches: Matches, classes: tuple[str, ...], truth: Array) -> float:
    """Share of the clusters whose match is the class that most of their cells have (a tie: the first by name).

    No match is right where most cells are of a class that the reference lacks. Clusters without a cell do not count.
    """
    right = []
    for cluster in range(clusters.count):
        names, counts = np.unique(truth[clusters.labels == cluster], return_counts=True)
        if len(names):
            most, best = str(names[counts.argmax()]), int(matches.best[cluster])
            right.append((classes[best] == most) if best >= 0 else most not in classes)
    return float(np.mean(right)) if right else 0.0
