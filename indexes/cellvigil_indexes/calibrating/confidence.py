"""The probability that a call is right, fitted on reference cells that cells of other groups called.

Every cell counts the same: the promise is for cells exchangeable with the references, in their proportions too. (Every
class counting the same was tried: on cells drawn like the references it is off by 7 to 10 points where one class is
three times another.) Our own; DESIGN.md, "EWC-FAISS".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil import decide
from cellvigil.bundle.calibration import Confidence
from cellvigil.data import F32, I16, I32, I64, Bools
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calibrating.logistic import fit
from cellvigil_indexes.crossfit import sizes_outside
from cellvigil_indexes.measures.reliability import reliability

F64 = npt.NDArray[np.float64]

CELLS, GROUPS = 100, 10
"""The fewest reference cells, and groups of them, that a probability is fitted on."""

_FOLDS = 5
_MONOTONE = ("share", "share_log_odds", "novelty_p")  # more of these never lowers the probability


NoveltyP = Callable[[I16, Bools], F32]
"""(classes called (n,), whether they are right (n,)) -> novelty p-values (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Witnessed:
    """Reference cells called by the cells of other groups, as live cells will be."""

    features: F64  # (n, f) in the order of decide.FEATURES
    truth: I16  # (n,) class ids
    best: I16  # (n,) class ids
    novelty_p: F32  # (n,) of belonging to the class called; NaN where there is none
    judged: Bools  # (n,) whether the cells that called it had any of its own class among them
    groups: I32  # (n,) group ids

    @property
    def right(self) -> Bools:
        """(n,) whether it was called what it is."""
        return np.asarray(self.best == self.truth)


def witnessed(
    others: Neighbours, bank: Bank, settings: decide.Settings, *, asked: I64, p_of: NoveltyP
) -> Witnessed | None:
    """Call the asked rows of a bank by the other parts of it; None where these are fewer than k_min.

    `others` are the (asked, k) neighbours in other parts; `p_of` gives the novelty p-value of belonging to a class.
    """
    there = int((others.ids >= 0).sum(axis=1).min())
    if there < settings.k_min:
        return None
    found, distances = decide.labels_of(others.ids[:, :there], bank.labels), others.distances[:, :there]
    outside, truth = sizes_outside(bank, asked), np.asarray(bank.labels[asked])
    sizes = outside if settings.reweight else np.ones_like(outside)
    depth = decide.stop(found, len(bank.classes), settings)
    best = decide.vote(depth, found, distances, sizes)
    share = decide.vote_share(depth.counts, sizes)[np.arange(len(asked)), best]
    novelty = p_of(best, np.asarray(best == truth))
    features = decide.features(share, depth.k, novelty, settings.k_min)
    table = np.column_stack([features[name] for name in decide.FEATURES])
    judged = np.asarray(outside[np.arange(len(asked)), truth] > 0)
    return Witnessed(table, truth, best, novelty, judged, np.asarray(bank.groups[asked]))


def novelty_p_of(bank: Bank, asked: I64, novelty: F32) -> NoveltyP:
    """The p-values of the asked references, as a live cell's, but that a cell's own novelty is not among the others.

    `novelty` is (N,), as in `ReferenceIndex`; an asked cell without one has no p-value.
    """

    def p_of(best: I16, right: Bools) -> F32:
        p = decide.novelty_p(novelty[asked], best, novelty, bank.labels)
        known = np.bincount(bank.labels[np.isfinite(novelty)], minlength=len(bank.classes))[best]
        return np.where(right, (p * (1 + known) - 1) / np.maximum(known, 1), p).astype(np.float32)

    return p_of


def confidence(seen: Witnessed | None) -> tuple[Confidence | None, dict[str, Any]]:
    """The fitted probability, and what it was fitted on and how well it holds; None, and why."""
    if why := _why_not(seen):
        return None, {"why_not": why}
    if seen is None:  # said above; for the type checker
        raise ValueError(why)
    whole = _fitted(seen, np.ones(len(seen.right), dtype=bool))
    return whole, {
        "how": "logistic, on reference cells called by the cells of other groups",
        "cells": len(seen.right),
        "groups": len(np.unique(seen.groups)),
        "right": int(np.count_nonzero(seen.right)),
        "out_of_fold": _out_of_fold(seen),
    }


def _why_not(seen: Witnessed | None) -> str:
    if seen is None:
        return "other groups have too few cells to call a cell by them"
    cells, groups = len(seen.right), len(np.unique(seen.groups))
    if cells < CELLS or groups < GROUPS:
        return f"{cells} reference cells in {groups} groups; it takes {CELLS} in {GROUPS}"
    if seen.right.all() or not seen.right.any():
        return f"{'all' if seen.right.all() else 'none'} of the {cells} reference cells are called right by the others"
    return ""


def _fitted(seen: Witnessed, rows: Bools) -> Confidence:
    monotone = [decide.FEATURES.index(name) for name in _MONOTONE]
    intercept, weights = fit(seen.features[rows], seen.right[rows], monotone)
    return Confidence(intercept, dict(zip(decide.FEATURES, weights.tolist(), strict=True)))


def _out_of_fold(seen: Witnessed) -> dict[str, Any] | None:
    """How well the probability holds for groups it was not fitted on, each cell counting once; None where it is not."""
    groups, place = np.unique(seen.groups, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(groups))[place] % _FOLDS
    probability = np.full(len(seen.right), np.nan)
    for each in range(_FOLDS):
        training = fold != each
        if not seen.right[training].all() and seen.right[training].any():
            known = dict(zip(decide.FEATURES, seen.features[~training].T, strict=True))
            probability[~training] = decide.probability_right(_fitted(seen, training), known)
    there = np.isfinite(probability)
    found = reliability(probability[there], seen.right[there])
    return None if found is None else {"folds": _FOLDS, **found.as_dict()}
