"""How sure a call is: the probability that it is right, and the p-value of belonging to its class. Pure.

Neither is the papers'. Their certainty 1 - H is a stopping rule and no confidence (on real cells its AUROC for being
right was 0.39), so ours is fitted on reference cells that were called by other groups; `cellvigil_indexes` fits it,
this file applies it. The p-value is that of conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in
a Random World", section 2.2), a class at a time, with the mean distance to the k_min nearest as the score.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.calibration import Confidence
from cellvigil.data import F32, I16, I32

F64 = npt.NDArray[np.float64]

SHARE, ODDS, DEPTH, NOVELTY_P = "share", "share_log_odds", "depth", "novelty_p"
FEATURES = (SHARE, ODDS, DEPTH, NOVELTY_P)
"""What the probability of being right is fitted from; see `features`."""

_SOFT = 0.02  # keeps the log-odds of a unanimous vote finite (3.9)


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


def features(share: F32, k: I32, novelty: F32, k_min: int) -> Mapping[str, F64]:
    """What is known of each of n calls, every entry (n,) f64.

    Args:
        share: (n,) weighted vote share of the class that was called.
        k: (n,) neighbours used.
        novelty: (n,) `novelty_p`; where it is NaN nothing speaks for belonging, so it counts as 0.
        k_min: the index's.

    Returns:
        share: as given; share_log_odds: its log-odds, softened so that a unanimous vote is finite; depth: doublings of
        k beyond k_min; novelty_p: as given.
    """
    share = np.asarray(share, dtype=np.float64)
    return {
        SHARE: share,
        ODDS: np.log((share + _SOFT) / (1 + _SOFT - share)),
        DEPTH: np.log2(np.asarray(k, dtype=np.float64) / k_min),
        NOVELTY_P: np.nan_to_num(np.asarray(novelty, dtype=np.float64), nan=0.0),
    }


def probability_right(confidence: Confidence, known: Mapping[str, F64]) -> F64:
    """Probability that each call is right, (n,) f64 in 0..1: logistic in `features`."""
    logit = np.full(len(known[SHARE]), confidence.intercept)
    for name, weight in confidence.weights.items():
        logit = logit + weight * known[name]  # one by one: the order of a sum must not depend on the batch
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -500, 500))))


def probabilities(right: F64, best: I16, share: F32) -> F32:
    """Probability of every class, (n, classes) f32, rows sum to 1.

    The class that was called has the probability of being right; the rest is the others' in proportion to their vote
    shares, in equal parts where nothing voted for them. An unsure call may so leave another class more than its own.
    """
    classes = share.shape[1]
    if classes == 1:
        return np.ones(share.shape, dtype=np.float32)
    rows = np.arange(len(best))
    others = np.asarray(share, dtype=np.float64)
    others[rows, best] = 0
    whole = others.sum(axis=1, keepdims=True)
    even = np.full_like(others, 1 / (classes - 1))
    out = (1 - right)[:, None] * np.where(whole > 0, others / np.where(whole > 0, whole, 1), even)
    out[rows, best] = right
    return out.astype(np.float32)
