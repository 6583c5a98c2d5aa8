"""From neighbours to calls: entropy-guided depth, the class-weighted vote, and the novelty p-value (EWC-FAISS).

Pure: arrays in, arrays out; no files, no models, no clock. The vote is that of "Leveraging a foundation model zoo for
cell similarity search", Frontiers in Oncology 2025, sections 2.3.3 and 2.3.4, equations 1 and 2 (the same numbers in
the ICML 2024 workshop version, section 4). The novelty p-value is ours (ARCHITECTURE.md), not the papers'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I16, I32, I64, NEIGHBOURS_KEPT, Calls
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


def neighbours_needed(index: ReferenceIndex, settings: Settings) -> int:
    """How many neighbours `call` wants for each cell (fewer if the index has fewer)."""
    return max(settings.k_max, index.k_min, NEIGHBOURS_KEPT)


def call(ids: I32, distances: F32, index: ReferenceIndex, settings: Settings) -> Calls:
    """Call n cells from their nearest reference cells.

    Args:
        ids: (n, k) i32 reference cells, nearest first, -1 only behind the last one; k >= `neighbours_needed` or the
            whole index.
        distances: (n, k) f32 to them, ascending.
        index: the reference cells, for labels, class counts and novelty.
        settings: depth, threshold, reweighting.

    Returns:
        Calls with every field; `probabilities` is NaN and `unknown` False until an index is calibrated.
    """
    labels = np.asarray(index.labels[ids], dtype=np.int64)
    sizes = index.class_counts if settings.reweight else np.ones(len(index.classes), dtype=np.int64)
    depth = stop(labels, len(index.classes), settings)
    best = vote(depth, labels, distances, sizes)
    cells = len(ids)
    return Calls(
        best_ids=best,
        unknown=np.zeros(cells, dtype=bool),
        unknown_reason=("",) * cells,
        probabilities=np.full((cells, len(index.classes)), np.nan, dtype=np.float32),
        vote_share=vote_share(depth.counts, sizes),
        entropy=depth.entropy,
        k=depth.k,
        novelty_p=novelty_p(distances[:, : index.k_min].mean(axis=1), best, index.novelty, index.labels),
        agreement=np.ones(cells, dtype=np.float32),
        neighbours=_first(ids, NEIGHBOURS_KEPT),
        bundle_sha256=index.sha256,
    )


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


def stop(labels: I64, classes: int, settings: Settings) -> Depth:
    """The first depth at which each cell's entropy is below the threshold, else the last. `labels` is (n, k)."""
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
    return Depth(used, entropy, kept)


def vote(depth: Depth, labels: I64, distances: F32, sizes: I64) -> I16:
    """Equation 2: the class with the largest sum of its neighbours' weights w_i = N / (C N_i). Returns (n,) i16.

    N / C is the same for all, so classes compare as c_i / N_i, and c_i N_j > c_j N_i says so in whole numbers: a tie
    is a tie, not a matter of rounding. Ties go to the class with the nearer nearest neighbour, then to the lower id.
    `sizes` are the N_i (all 1: no reweighting); `distances` (n, k) ascending beside `labels` (n, k).
    """
    nearest = _nearest_of_each(labels, distances, depth.k, len(sizes))
    sizes = np.maximum(sizes, 1)  # a class without cells has no neighbours either
    rows = np.arange(len(labels))
    best = np.zeros(len(labels), dtype=np.int64)
    for rival in range(1, len(sizes)):
        challenge = depth.counts[:, rival] * sizes[best]
        defence = depth.counts[rows, best] * sizes[rival]
        nearer = nearest[:, rival] < nearest[rows, best]
        best[(challenge > defence) | ((challenge == defence) & nearer)] = rival
    return best.astype(np.int16)


def vote_share(counts: I64, sizes: I64) -> F32:
    """Each class's share of the weights that voted, (n, classes) f32; rows sum to 1. Weights as in `vote`."""
    weighted = counts / np.maximum(sizes, 1)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True), dtype=np.float32)


def novelty_p(scores: F32, best: I16, novelty: F32, labels: I16) -> F32:
    """Conformal p-value of belonging to the class that was called; (n,) f32 in (0, 1], NaN without a reference.

    (1 + reference cells of that class that are at least as far out) / (1 + reference cells of that class). A cell's
    score is its mean distance to its k_min nearest references; a reference's (`novelty`, (N,)) leaves its whole group
    out, and is NaN where that leaves too few.
    """
    p = np.full(len(scores), np.nan, dtype=np.float32)
    for class_id in np.unique(best):
        known = novelty[labels == class_id]
        known = np.sort(known[np.isfinite(known)])
        if known.size:
            here = best == class_id
            at_least = known.size - np.searchsorted(known, scores[here], side="left")
            p[here] = (1 + at_least) / (1 + known.size)
    return p


def _histogram(labels: I64, classes: int) -> I64:
    """(n, k) labels -> (n, classes) counts."""
    rows = np.arange(len(labels))[:, None] * classes
    flat = np.bincount((rows + labels).ravel(), minlength=len(labels) * classes)
    return np.asarray(flat.reshape(len(labels), classes), dtype=np.int64)


def _nearest_of_each(labels: I64, distances: F32, k: I32, classes: int) -> F32:
    """Distance to the nearest of the k used neighbours of each class, (n, classes) f32; infinite where none is."""
    used = np.arange(labels.shape[1]) < k[:, None]
    nearest = np.full((len(labels), classes), np.inf, dtype=np.float32)
    for class_id in range(classes):
        mine = used & (labels == class_id)
        first = mine.argmax(axis=1)[:, None]
        there = mine.any(axis=1)
        nearest[there, class_id] = np.take_along_axis(distances, first, axis=1)[there, 0]
    return nearest


def _first(ids: I32, kept: int) -> I32:
    """The first `kept` columns, (n, kept) i32, filled up with -1."""
    out = np.full((len(ids), kept), -1, dtype=np.int32)
    width = min(kept, ids.shape[1])
    out[:, :width] = ids[:, :width]
    return out
