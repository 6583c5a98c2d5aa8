"""What an index says of its own cells when each is looked up among the cells of other groups only.

Pure. Gives the reference's novelty, which live novelty is compared with, and a first figure of how well the index
calls. Whole groups (image, plate, sequence) are left out because cells of one group resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellvigil import decide
from cellvigil.data import F32, I16, I32
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.scoring import score


def novelty(near: Neighbours, k_min: int) -> F32:
    """Each cell's mean distance to its k_min nearest, (N,) f32; NaN where other groups have fewer cells than that."""
    if near.distances.shape[1] < k_min:
        return np.full(len(near), np.nan, dtype=np.float32)
    means = near.distances[:, :k_min].mean(axis=1)
    return np.where(np.isfinite(means), means, np.nan).astype(np.float32)


def evaluation(
    near: Neighbours, labels: I16, groups: I32, classes: Sequence[str], settings: decide.Settings
) -> dict[str, Any] | None:
    """The method's figures when every cell is called by the cells of other groups; None where these are too few.

    The search goes no deeper than the smallest such rest allows. Class weights are those of the whole index.
    """
    sizes = np.bincount(groups)
    depth_there = len(labels) - int(sizes.max())
    if depth_there < settings.k_min:
        return None
    ids, distances = near.ids[:, :depth_there], near.distances[:, :depth_there]
    found = np.asarray(labels[ids], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(classes)) if settings.reweight else np.ones(len(classes), dtype=np.int64)
    best = decide.vote(decide.stop(found, len(classes), settings), found, distances, counts)
    scores = score([classes[i] for i in labels], [classes[i] for i in best], classes)
    kept = ("n", "balanced_accuracy", "macro_precision", "weighted_f1", "accuracy", "confusion")
    whole = scores.as_dict()
    return {"how": "every cell called by the cells of other groups", **{name: whole[name] for name in kept}}
