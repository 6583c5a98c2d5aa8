"""Conformal sets: the depth they look at, the scores they compare with, and how far the promise is kept.

The method stands in `cellvigil.decide.conformal`. The depth is chosen on reference cells, never on those set aside:
choosing on these would spend the promise that they are to keep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil import decide
from cellvigil.bundle.calibration import ConformalScores
from cellvigil.data import I16, I32, I64
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.measures.coverage import coverage
from cellvigil_indexes.setaside import PROMISE

F64 = npt.NDArray[np.float64]

DEPTHS = (5, 10, 20, 30)
"""Fixed depths to choose from: what a graph finds at the price of its first few neighbours, in an exact order."""

DEEPEST = DEPTHS[-1]

HALVINGS = 20


def depth_of(near: Neighbours, bank: Bank, asked: I64) -> int:
    """The depth whose sets are smallest on the asked reference cells, called by the cells of other groups.

    The shallower one where two are alike; the shallowest, or all there are, where others are fewer.
    """
    there = int((near.ids >= 0).sum(axis=1).min())
    depths = [k for k in DEPTHS if k <= there] or [max(there, 1)]
    labels = np.asarray(bank.labels[asked])
    return min(depths, key=lambda k: _mean_size(near, bank, labels, k)) if len(depths) > 1 else depths[0]


def conformal(near: Neighbours, bank: Bank, aside: Bank) -> tuple[ConformalScores | None, dict[str, Any]]:
    """Scores of the cells set aside, looked up among the references, and how well the promise holds among them.

    `near` is (cells set aside, k): k, all of it, is the depth. None, and why, where these cells are too few.
    """
    if len(aside) < decide.needed(PROMISE):
        return None, {"why_not": f"{len(aside)} cells set aside; it takes {decide.needed(PROMISE)}"}
    table = decide.nonconformity(decide.labels_of(near.ids, bank.labels), near.distances, len(bank.classes))
    scores = _scores(table, aside.labels, near.ids.shape[1])
    enough = decide.needed(PROMISE)
    counts = aside.class_counts
    return scores, {
        "how": "cells set aside from the index, looked up in it; for exchangeable cells only, not for other devices",
        "cells": len(aside),
        "groups": len(np.unique(aside.groups)),
        "promise": PROMISE,
        "k": scores.k,
        "promised_a_class": [name for name, n in zip(bank.classes, counts, strict=True) if n >= enough],
        "promised_together": [name for name, n in zip(bank.classes, counts, strict=True) if n < enough],
        "measured": _halved(table, aside, scores.k),
    }


def _mean_size(near: Neighbours, bank: Bank, labels: I16, k: int) -> float:
    found = decide.labels_of(near.ids[:, :k], bank.labels)
    table = decide.nonconformity(found, near.distances[:, :k], len(bank.classes))
    return float(decide.sets(_scores(table, labels, k), table).sum(axis=1).mean())


def _scores(table: F64, labels: I16, k: int) -> ConformalScores:
    own = table[np.arange(len(labels)), labels]
    by_class = [np.sort(own[labels == class_id]).tolist() for class_id in range(table.shape[1])]
    return ConformalScores(k, PROMISE, by_class)


def _halved(table: F64, aside: Bank, k: int) -> dict[str, Any] | None:
    """Coverage when one half of the groups is calibrated on and the other measured, many times; None: too few cells."""
    rng = np.random.default_rng(0)
    sets, labels = [], []
    for _ in range(HALVINGS):
        first = _half(aside.groups, rng)
        if not decide.needed(PROMISE) <= np.count_nonzero(first) < len(first):
            return None
        scores = _scores(table[first], aside.labels[first], k)
        sets.append(decide.sets(scores, table[~first]))
        labels.append(aside.labels[~first])
    found = coverage(np.concatenate(sets), np.concatenate(labels), aside.classes)
    if found is None:
        return None
    return {
        "halvings": HALVINGS,
        "n": len(aside),
        "covered": found.covered,
        "mean_size": found.mean_size,
        "empty": found.empty,
        "single": found.single,
        "by_class": {
            name: {"n": int(n), "covered": each.covered, "mean_size": each.mean_size}
            for name, n in zip(aside.classes, aside.class_counts, strict=True)
            if (each := found.by_class.get(name)) is not None
        },
    }


def _half(groups: I32, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    names, place = np.unique(groups, return_inverse=True)
    return np.asarray((rng.permutation(len(names)) < (len(names) + 1) // 2)[place])
