"""How far a balanced accuracy may be off for the cells that happened to be scored: a bootstrap over groups. Pure.

Cells of one image, or well, resemble each other: whole groups are drawn, so that they count as one. Efron and
Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentiles).
"""

from __future__ import annotations

import numpy as np

from cellvigil.data import I16, I32, Bools

DRAWS = 2_000
COVERED = 0.95
_AT_ONCE = 200  # draws


def balanced_interval(
    truth: I16, right: Bools, groups: I32, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Both ends of the 95 % percentile interval of the mean recall over classes.

    Args:
        truth: (n,) class ids of n cells, at least one.
        right: (n,) bool, whether each was called right.
        groups: (n,) ids of what is drawn as a whole.
        draws: resamples; one in which a class has no cell is the mean over the others.
        seed: of the draws.
    """
    _, class_ids = np.unique(truth, return_inverse=True)
    _, unit = np.unique(groups, return_inverse=True)
    units, classes = int(unit.max()) + 1, int(class_ids.max()) + 1
    cells, hits = np.zeros((units, classes)), np.zeros((units, classes))
    np.add.at(cells, (unit, class_ids), 1)
    np.add.at(hits, (unit, class_ids), right.astype(np.float64))
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, _AT_ONCE):
        times = rng.multinomial(units, np.full(units, 1 / units), size=min(_AT_ONCE, draws - start))
        asked, called = times @ cells, times @ hits
        recall = np.where(asked > 0, called / np.maximum(asked, 1), np.nan)
        found.append(np.nanmean(recall, axis=1))
    edge = 50 * (1 - COVERED)
    low, high = np.percentile(np.concatenate(found), [edge, 100 - edge])
    return float(low), float(high)
