"""The probability that a call is right, fitted on reference cells that cells of other groups called.

Every cell counts the same: the promise is for cells exchangeable with the references, in their proportions too. (Every
class counting the same was tried: on cells drawn like the references it is off by 7 to 10 points where one class is
three times another.) Our own; DESIGN.md, "EWC-FAISS".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil import decide
from cellvigil.bundle.calibration import Confidence
from cellvigil.data import F32, I16, I32, I64, Bools
from cellvigil.neighbours import ExactSearch, Neighbours
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calibrating.logistic import fit
from cellvigil_indexes.measures.reliability import reliability

F64 = npt.NDArray[np.float64]

CELLS, GROUPS = 100, 10
"""The fewest reference cells, and groups of them, that a probability is fitted on."""

_FOLDS = 5
_LEFT_OUT_IN = 20  # parts, one of which is left out for each call: the rest is nearly the whole index
_MONOTONE = ("share", "share_log_odds", "novelty_p")  # more of these never lowers the probability


@dataclass(frozen=True, slots=True, eq=False)
class Witnessed:
    """Reference cells called by the cells of other groups, as live cells will be."""

    features: F64  # (n, f) in the order of decide.FEATURES
    right: Bools  # (n,)
    groups: I32  # (n,) group ids


def witnessed(
    search: ExactSearch, bank: Bank, settings: decide.Settings, *, near: Neighbours, asked: I64, novelty: F32
) -> Witnessed | None:
    """Call the asked rows of a bank by the other folds of its groups; None where these are fewer than k_min.

    Folds, not the cell's own group alone: class weights are those of the other folds, and so the same for every cell of
    one fold. With its own group alone left out, the class sizes would tell which class a cell is of (its own is the
    smaller one, and would win every tie); with it left in, deep votes would lean against that class.

    `search` is over the bank; `near` (asked, k) leaves out the own group; `novelty` (N,) as in `ReferenceIndex`. A
    cell's own novelty is not among those it is compared to.
    """
    fold = _folds_of(bank.groups)
    depth_there = len(bank) - int(np.bincount(fold).max())
    if depth_there < settings.k_min or near.distances.shape[1] < settings.k_min:
        return None
    cuts = decide.depths(settings, depth_there)
    others = search.leaving_out(fold, cuts[-1], rows=asked, cuts=cuts)
    found = decide.labels_of(others.ids, bank.labels)
    sizes = _sizes(bank, fold)[fold[asked]] if settings.reweight else np.ones((len(asked), len(bank.classes)), np.int64)
    depth = decide.stop(found, len(bank.classes), settings)
    best = decide.vote(depth, found, others.distances, sizes)
    share = decide.vote_share(depth.counts, sizes)[np.arange(len(asked)), best]
    right = np.asarray(best == bank.labels[asked])
    p = _novelty_p(near.distances[:, : settings.k_min].mean(axis=1), best, right, novelty, bank)
    features = decide.features(share, depth.k, p, settings.k_min)
    table = np.column_stack([features[name] for name in decide.FEATURES])
    return Witnessed(table, right, np.asarray(bank.groups[asked]))


def _novelty_p(scores: F32, best: I16, right: Bools, novelty: F32, bank: Bank) -> F32:
    """As a live cell's, but for its own novelty, which is among those of its class."""
    p = decide.novelty_p(scores, best, novelty, bank.labels)
    known = np.bincount(bank.labels[np.isfinite(novelty)], minlength=len(bank.classes))[best]
    return np.where(right, (p * (1 + known) - 1) / np.maximum(known, 1), p).astype(np.float32)


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


def _folds_of(groups: I32) -> I32:
    """(N,) fold of every cell, whole groups, dealt at random with a fixed seed."""
    names, place = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(1).permutation(len(names)) % min(_LEFT_OUT_IN, len(names))
    return np.asarray(dealt[place], dtype=np.int32)


def _sizes(bank: Bank, fold: I32) -> I64:
    """Cells of each class outside each fold, (folds, classes)."""
    table = np.zeros((int(fold.max()) + 1, len(bank.classes)), dtype=np.int64)
    np.add.at(table, (fold, bank.labels), 1)
    return np.asarray(bank.class_counts - table, dtype=np.int64)
