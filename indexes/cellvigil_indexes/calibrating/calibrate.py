"""Puts an index's calibration together: probability, sets, and the novelty below which a cell is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellvigil import decide
from cellvigil.bundle.calibration import Calibration, ConformalScores
from cellvigil.data import F32, I64
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calibrating.confidence import Witnessed, confidence
from cellvigil_indexes.calibrating.sets import conformal, depth_of
from cellvigil_indexes.calling import search_over
from cellvigil_indexes.settings import IndexSettings

NOVEL_BELOW = 0.01
"""A novelty p-value below this makes a cell unknown: at most 1 in 100 of the cells that are like the references."""


def calibrate(
    bank: Bank,
    aside: Bank | None,
    settings: IndexSettings,
    names: Sequence[str],
    *,
    near: Neighbours,
    asked: I64,
    novelty: F32,
    seen: Witnessed | None,
) -> Calibration:
    """Fit what can be fitted; what cannot is None, with the reason in `measured`.

    Args:
        bank: the references.
        aside: cells that are no references, of the same classes; None where none were set aside.
        settings: with which calls will be made.
        names: the encoders that calls look at.
        near: (asked, k) the neighbours of the asked references in other groups, `DEEPEST` or more where there are.
        asked: rows of the bank.
        novelty: (N,) as in `ReferenceIndex`.
        seen: the asked references as other parts call them, see `confidence.witnessed`.
    """
    depth_rule = settings.depth
    probability, told_probability = confidence(seen)
    below, told_novelty = _novel_below(bank, novelty)
    sets: ConformalScores | None = None
    told_sets: dict[str, Any] = {"why_not": "no cells were set aside"}
    if aside is not None:
        depth = depth_of(near, bank, asked)
        cuts = decide.depths(depth_rule, len(bank))
        found = search_over(bank, settings, names).nearest(aside.embeddings, max(settings.k_max, depth), cuts)
        sets, told_sets = conformal(Neighbours(found.ids[:, :depth], found.distances[:, :depth]), bank, aside)
        if below is not None:
            told_novelty["set_aside"] = _rejected(found, bank, depth_rule, novelty, below)
    measured = {"confidence": told_probability, "conformal": told_sets, "novelty": told_novelty}
    return Calibration(probability, sets, below, measured)


def _novel_below(bank: Bank, novelty: F32) -> tuple[float | None, dict[str, Any]]:
    """Where to reject; None where no class has the cells to give so small a p-value."""
    known = np.bincount(bank.labels[np.isfinite(novelty)], minlength=len(bank.classes))
    able = [name for name, cells in zip(bank.classes, known, strict=True) if 1 / (1 + cells) < NOVEL_BELOW]
    if not able:
        most = int(known.max())
        return None, {"why_not": f"no class has the cells for a p-value below {NOVEL_BELOW:g}: {most} at most"}
    never = [name for name in bank.classes if name not in able]
    return NOVEL_BELOW, {"how": "mean distance to the k_min nearest of other groups", "never_rejected": never}


def _rejected(
    found: Neighbours, bank: Bank, settings: decide.Settings, novelty: F32, below: float
) -> dict[str, int | float]:
    """How many of the cells set aside, which are of known classes, would be called unknown."""
    labels = decide.labels_of(found.ids, bank.labels)
    sizes = bank.class_counts if settings.reweight else np.ones(len(bank.classes), dtype=np.int64)
    best = decide.vote(decide.stop(labels, len(bank.classes), settings), labels, found.distances, sizes)
    p = decide.novelty_p(found.distances[:, : settings.k_min].mean(axis=1), best, novelty, bank.labels)
    return {"cells": len(p), "rejected": float(np.mean(p < below))}
