"""Sets of classes that hold the true one as often as promised. Pure.

Nonconformity is that of Papernot and McDaniel, "Deep k-Nearest Neighbors" (2018), section IV: how many of the k nearest
calibrated points carry another label; here over one layer, an index's concatenated encoders, and at a fixed k. The
promise is that of conformal prediction: it holds for cells exchangeable with the calibration cells, on average over
draws of these, and never on another device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.calibration import ConformalScores
from cellvigil.data import F32, I64, Bools
from cellvigil.decide.ewc import nearest_of_each

F64 = npt.NDArray[np.float64]

_ROUNDING = 1e-9  # 1 - 0.9 is not quite 0.1


def nonconformity(labels: I64, distances: F32, classes: int) -> F64:
    """How badly each class would fit each cell, (n, classes) f64 in 0..k + 1; `labels` and `distances` are (n, k).

    The neighbours with another label, and a fraction that breaks ties between cells: d_own / (d_own + d_other), the
    distances to the nearest neighbour of the class and to the nearest of others, the k-th one's where there is none.
    Any rule that looks at the cell, the class and the index only keeps the promise; ties would overfill the sets.
    """
    cells, k = labels.shape
    wrong = np.stack([(labels != class_id).sum(axis=1) for class_id in range(classes)], axis=1)
    nearest = nearest_of_each(labels, distances, np.full(cells, k, dtype=np.int32), classes).astype(np.float64)
    last = distances[:, -1:].astype(np.float64)
    nearest = np.minimum(nearest, last)
    other = np.repeat(last, classes, axis=1)
    for class_id in range(classes if classes > 1 else 0):
        other[:, class_id] = np.delete(nearest, class_id, axis=1).min(axis=1)
    whole = nearest + other
    return np.asarray(wrong + np.where(whole > 0, nearest / np.where(whole > 0, whole, 1), 0.5))


def needed(promise: float) -> int:
    """The fewest calibration cells with which a class can ever be left out of a set: 1 / (1 - promise) - 1, up."""
    return int(np.ceil(1 / (1 - promise) - _ROUNDING)) - 1


def pools(scores: ConformalScores) -> list[F64]:
    """The scores that each class is compared with, ascending, by class id.

    Its own where it has enough; else those of all such small classes together, for which the promise then holds
    jointly; else everybody's.
    """
    enough = needed(scores.promise)
    own = [np.asarray(each, dtype=np.float64) for each in scores.by_class]
    small = _together([each for each in own if len(each) < enough])
    shared = small if len(small) >= enough else _together(own)
    return [each if len(each) >= enough else shared for each in own]


def p_values(scores: ConformalScores, nonconforming: F64) -> F64:
    """Of belonging to each class, (n, classes) f64 in (0, 1]: (1 + scores at least as bad) / (1 + scores)."""
    return np.stack(
        [
            (1 + _at_least(pool, nonconforming[:, class_id])) / (1 + len(pool))
            for class_id, pool in enumerate(pools(scores))
        ],
        axis=1,
    )


def sets(scores: ConformalScores, nonconforming: F64) -> Bools:
    """The classes that cannot be ruled out, (n, classes): those whose p-value is above 1 - promise.

    Compared in whole numbers of cells, so that no p-value falls on the wrong side by rounding. A set may be empty.
    """
    miss = 1 - scores.promise
    return np.stack(
        [
            1 + _at_least(pool, nonconforming[:, class_id]) > np.floor(miss * (1 + len(pool)) + _ROUNDING)
            for class_id, pool in enumerate(pools(scores))
        ],
        axis=1,
    )


def _at_least(pool: F64, values: F64) -> I64:
    return np.asarray(len(pool) - np.searchsorted(pool, values, side="left"), dtype=np.int64)


def _together(parts: Sequence[F64]) -> F64:
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0)
