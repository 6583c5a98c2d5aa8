"""Made-up labelled vectors, and the slow, obvious tuning that the quick one must agree with."""

from __future__ import annotations

import numpy as np

from cellvigil_indexes.bank import Bank
from cellvigil_indexes.settings import METRICS, SCALINGS
from cellvigil_indexes.tuning.checking import macro_accuracy
from cellvigil_indexes.tuning.grid import power_set


def made_up(cells=120, classes=4, dimensions=(8, 16, 5), *, seed=0, apart=0.5, twins=0, whole=False, groups=0):
    """A bank whose classes overlap, of unequal sizes; `twins` cells repeat others, `whole` numbers tie often."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(classes, cells, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()))
    labels[:classes] = np.arange(classes)
    blocks = {}
    for number, dimension in enumerate(dimensions):
        block = rng.normal(size=(cells, dimension)) + apart * rng.normal(size=(classes, dimension))[labels]
        block = np.round(block) if whole else block * 2.0**number
        block[cells - twins :] = block[:twins]
        blocks[f"e{number}"] = block.astype(np.float32)
    owners = rng.integers(0, groups, cells) if groups else np.arange(cells)
    names = tuple("abcdefgh"[:classes])
    return Bank(names, blocks, labels.astype(np.int16), owners.astype(np.int32))


def slow_choice(bank, grid, splits):
    """An exact index built and asked anew for every trial and split; the best by the written rule, and all scores."""
    scores = {}
    names = list(bank.embeddings)
    for subset in power_set(names):
        for space in grid.spaces:
            for vote in grid.votes:
                settings = grid.settings(space, vote)
                scores[subset, settings] = [macro_accuracy(bank, split, subset, settings) for split in splits]

    def rule(trial):
        subset, s = trial
        return (
            -round(float(np.mean(scores[trial])), 12), len(subset), -s.k_min, s.k_max, s.threshold,
            METRICS.index(s.metric), not s.reweight, SCALINGS.index(s.scaling), [names.index(name) for name in subset],
        )  # fmt: skip

    return min(scores, key=rule), scores
