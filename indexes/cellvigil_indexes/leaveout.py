"""What an index says of its own cells when each is looked up among other groups, or other parts of them, only.

Pure. Gives the reference's novelty, which live novelty is compared with, and a first figure of how well the index
calls. Whole groups (image, plate, sequence) are left out because cells of one group resemble each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellvigil import decide
from cellvigil.data import F32, I64
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.crossfit import sizes_outside
from cellvigil_indexes.evaluating.scoring import score


def novelty(near: Neighbours, k_min: int) -> F32:
    """Each cell's mean distance to its k_min nearest, (N,) f32; NaN where other groups have fewer cells than that."""
    if near.distances.shape[1] < k_min:
        return np.full(len(near), np.nan, dtype=np.float32)
    means = near.distances[:, :k_min].mean(axis=1)
    return np.where(np.isfinite(means), means, np.nan).astype(np.float32)


def evaluation(others: Neighbours, bank: Bank, asked: I64, settings: decide.Settings) -> dict[str, Any] | None:
    """The method's figures when cells are called by the other parts of the bank; None where these are too few.

    `others` are the neighbours of the `asked` rows in other parts, as `crossfit.leaving_parts_out` gives them. The
    search goes no deeper than the smallest rest allows.
    """
    depth_there = int((others.ids >= 0).sum(axis=1).min())
    if depth_there < settings.k_min:
        return None
    ids, distances = others.ids[:, :depth_there], others.distances[:, :depth_there]
    found = np.asarray(bank.labels[ids], dtype=np.int64)
    sizes = sizes_outside(bank, asked) if settings.reweight else np.ones((len(asked), len(bank.classes)), np.int64)
    best = decide.vote(decide.stop(found, len(bank.classes), settings), found, distances, sizes)
    scores = score([bank.classes[i] for i in bank.labels[asked]], [bank.classes[i] for i in best], bank.classes)
    kept = ("n", "balanced_accuracy", "macro_precision", "weighted_f1", "accuracy", "confusion")
    whole = scores.as_dict()
    which = "every cell" if len(asked) == len(bank) else f"{len(asked)} of {len(bank)} cells, every class among them,"
    return {"how": f"{which} called by the other nine tenths", **{name: whole[name] for name in kept}}
