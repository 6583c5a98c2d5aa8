"""Entropy-guided depth and the class-weighted vote (EWC-FAISS). Pure: arrays in, arrays out.

"Leveraging a foundation model zoo for cell similarity search", Frontiers in Oncology 2025, sections 2.3.3 and 2.3.4,
equations 1 and 2 (the same numbers in the ICML 2024 workshop version, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I16, I32, I64, Bools
from cellvigil.errors import UsageError

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How deep to look and when to stop."""

    k_min: int = 3  # neighbours at first, 2 or more (one neighbour has no entropy)
    k_max: int = 100  # neighbours at most
    threshold: float = 0.3  # normalised entropy, 0..1, below which the search stops
    reweight: bool = True  # weight votes by class frequency; the paper's PBMC mixtures do without

    def __post_init__(self) -> None:
        if not 2 <= self.k_min <= self.k_max:
            raise UsageError(f"k_min {self.k_min} and k_max {self.k_max} must satisfy 2 <= k_min <= k_max")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold {self.threshold} must lie between 0 and 1")

    @classmethod
    def of(
        cls,
        index: ReferenceIndex,
        *,
        k_min: int | None = None,
        k_max: int | None = None,
        threshold: float | None = None,
    ) -> Settings:
        """What the index's manifest says, with the configuration's overrides. Raises UsageError if they contradict."""
        return cls(
            index.k_min if k_min is None else k_min,
            index.k_max if k_max is None else k_max,
            index.threshold if threshold is None else threshold,
            index.reweight,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Depth:
    """Where the search stopped for each cell."""

    k: I32  # (n,) neighbours used
    entropy: F32  # (n,) f32 in [0, 1] at that k
    counts: I64  # (n, classes) how many of the k neighbours are of each class


def depths(settings: Settings, size: int) -> tuple[int, ...]:
    """k_min, 2 k_min, 4 k_min, ... and at last min(k_max, size); size is the number of reference cells, 1 or more.

    Section 2.3.4: "starting from a minimum value k_min, k is increased exponentially until the entropy ... falls
    below a pre-defined threshold or k_max is reached".
    """
    last = min(settings.k_max, size)
    steps = []
    k = settings.k_min
    while k < last:
        steps.append(k)
        k *= 2
    return (*steps, last)


def normalised_entropy(counts: I64, k: int) -> F64:
    """Equation 1, H = -sum p_i log p_i / log k with p_i = c_i / k, unweighted. (n, classes) -> (n,) in [0, 1].

    Written as 1 - sum c_i log c_i / (k log k), which is exactly 0 for one class and exactly 1 for k classes.
    One neighbour (an index of one cell) is pure: 0.
    """
    if k < 2:
        return np.zeros(len(counts))
    return np.asarray(1.0 - np.sum(counts * np.log(np.maximum(counts, 1)), axis=1) / (k * np.log(k)))


def labels_of(ids: I32, labels: I16) -> I64:
    """Class ids of neighbours, (n, k) i64; -1 where there is no neighbour (an id of -1)."""
    return np.where(ids >= 0, labels[np.maximum(ids, 0)], -1).astype(np.int64)


def stop(labels: I64, classes: int, settings: Settings) -> Depth:
    """The first depth at which each cell's entropy is below the threshold, else the last.

    `labels` is (n, k), -1 only behind the depth at which a cell stops. Raises ValueError for a -1 before it.
    """
    cells = len(labels)
    counts = np.zeros((cells, classes), dtype=np.int64)
    kept = np.zeros_like(counts)
    used = np.zeros(cells, dtype=np.int32)
    entropy = np.zeros(cells, dtype=np.float32)
    steps = depths(settings, max(labels.shape[1], 1))
    seen = 0
    for k in steps:
        counts = counts + _histogram(labels[:, seen:k], classes)
        seen = k
        now = normalised_entropy(counts, k)
        here = (used == 0) & ((now < settings.threshold) | (k == steps[-1]))
        used[here], entropy[here], kept[here] = k, now[here], counts[here]
    if labels.shape[1] and (kept.sum(axis=1) < used).any():
        raise ValueError("a cell has fewer neighbours than the depth at which its entropy stops")
    return Depth(used, entropy, kept)


def unsettled(labels: I16, classes: int, settings: Settings) -> Bools:
    """Which cells need more neighbours than these, (n,) bool. `labels` is (n, k), k one of `depths`."""
    k = labels.shape[1]
    depth = stop(np.asarray(labels, dtype=np.int64), classes, settings)
    return np.asarray((depth.k == k) & (normalised_entropy(depth.counts, k) >= settings.threshold))


def vote(depth: Depth, labels: I64, distances: F32, sizes: I64) -> I16:
    """Equation 2: the class with the largest sum of its neighbours' weights w_i = N / (C N_i). Returns (n,) i16.

    N / C is the same for all, so classes compare as c_i / N_i, and c_i N_j > c_j N_i says so in whole numbers: a tie
    is a tie, not a matter of rounding. Ties go to the class with the nearer nearest neighbour, then to the lower id.
    `sizes` are the N_i (all 1: no reweighting), (classes,), or (n, classes) where they differ from cell to cell;
    `distances` (n, k) ascending beside `labels` (n, k).
    """
    nearest = nearest_of_each(labels, distances, depth.k, sizes.shape[-1])
    sizes = np.broadcast_to(np.maximum(sizes, 1), depth.counts.shape)  # a class without cells has no neighbours either
    rows = np.arange(len(labels))
    best = np.zeros(len(labels), dtype=np.int64)
    for rival in range(1, sizes.shape[1]):
        challenge = depth.counts[:, rival] * sizes[rows, best]
        defence = depth.counts[rows, best] * sizes[:, rival]
        nearer = nearest[:, rival] < nearest[rows, best]
        best[(challenge > defence) | ((challenge == defence) & nearer)] = rival
    return best.astype(np.int16)


def vote_share(counts: I64, sizes: I64) -> F32:
    """Each class's share of the weights that voted, (n, classes) f32; rows sum to 1. Weights as in `vote`."""
    weighted = counts / np.maximum(sizes, 1)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True), dtype=np.float32)


def nearest_of_each(labels: I64, distances: F32, k: I32, classes: int) -> F32:
    """Distance to the nearest of the k used neighbours of each class, (n, classes) f32; infinite where none is."""
    used = np.arange(labels.shape[1]) < k[:, None]
    nearest = np.full((len(labels), classes), np.inf, dtype=np.float32)
    for class_id in range(classes):
        mine = used & (labels == class_id)
        first = mine.argmax(axis=1)[:, None]
        there = mine.any(axis=1)
        nearest[there, class_id] = np.take_along_axis(distances, first, axis=1)[there, 0]
    return nearest


def _histogram(labels: I64, classes: int) -> I64:
    """(n, k) labels -> (n, classes) counts; labels of -1 are not counted."""
    wide = classes + 1
    rows = np.arange(len(labels))[:, None] * wide
    flat = np.bincount((rows + labels + 1).ravel(), minlength=len(labels) * wide)
    return np.asarray(flat.reshape(len(labels), wide)[:, 1:], dtype=np.int64)
