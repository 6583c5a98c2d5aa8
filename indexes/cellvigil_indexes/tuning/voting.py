"""From counts to the macro accuracy of every depth, threshold and weighting at once. Pure.

The rules are `cellvigil.decide`'s (equations 1 and 2 of EWC-FAISS, Frontiers in Oncology 2025), taken for all depths
together; tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellvigil import decide
from cellvigil.data import I16, I64, Array
from cellvigil_indexes.tuning.counting import Counts

F64 = npt.NDArray[np.float64]
DIGITS = 12
"""Decimals to which scores are compared: sums in another order are no better."""


def cuts_of(votes: Sequence[decide.Settings], references: int) -> tuple[int, ...]:
    """Every depth at which some trial may stop, ascending."""
    return tuple(sorted({k for vote in votes for k in decide.depths(vote, references)}))


def macro_accuracies(counts: Counts, truth: I16, sizes: I64, votes: Sequence[decide.Settings]) -> F64:
    """Mean recall over the classes that `truth` has, one a vote, (votes,) f64, to `DIGITS` decimals.

    `truth` is (n,) class ids of the cells that were counted for, `sizes` (classes,) the reference cells of each class.
    """
    references = int(sizes.sum())
    entropy = np.stack([decide.normalised_entropy(c, k) for c, k in zip(counts.counts, counts.cuts, strict=True)])
    right = {weighted: winners(counts, sizes, reweight=weighted) == truth for weighted in {v.reweight for v in votes}}
    asked = np.bincount(truth, minlength=len(sizes))
    there = asked > 0
    place = {k: i for i, k in enumerate(counts.cuts)}
    scores = np.empty(len(votes))
    for i, vote in enumerate(votes):
        steps = np.array([place[k] for k in decide.depths(vote, references)])
        stopped = entropy[steps] < vote.threshold
        stopped[-1] = True
        hit = right[vote.reweight][steps[stopped.argmax(axis=0)], np.arange(len(truth))]
        recalls = np.bincount(truth[hit], minlength=len(sizes))[there] / asked[there]
        scores[i] = round(float(np.mean(recalls)), DIGITS)
    return scores


def winners(counts: Counts, sizes: I64, *, reweight: bool) -> Array:
    """The class that wins at every depth, (D, n): see `decide.vote`, whose ties these are."""
    weights = np.maximum(sizes, 1) if reweight else np.ones(len(sizes), dtype=np.int64)
    best = np.zeros(counts.counts.shape[:2], dtype=np.int64)
    best_count = counts.counts[:, :, 0].copy()
    best_nearest = np.broadcast_to(counts.nearest[:, 0], best.shape).copy()
    for rival in range(1, len(sizes)):
        challenge = counts.counts[:, :, rival] * weights[best]
        defence = best_count * weights[rival]
        nearer = counts.nearest[:, rival] < best_nearest
        wins = (challenge > defence) | ((challenge == defence) & nearer)
        best[wins] = rival
        best_count = np.where(wins, counts.counts[:, :, rival], best_count)
        best_nearest = np.where(wins, counts.nearest[:, rival], best_nearest)
    return best
