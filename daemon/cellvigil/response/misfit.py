"""Whether calls are explained by any mixture of an index's classes at all: the check before a correction is used. Pure.

A plate is judged as a whole, each well by its calls over all its time points, against plates that are drawn from the
fitted mixtures: with a resampled confusion matrix, which all wells share, and as many independent cells as the wells
have. Two figures are compared: the wells' distances from their best mixtures, summed (single wells that hold something
else), and what is left over in each column of calls, averaged over the wells (all wells a little off in one way).
A shift that turns mixtures into other mixtures leaves nothing over; no fit can see it, and novelty has to.
"""

from __future__ import annotations

import numpy as np

from cellvigil.response.mixture import Unmixing, drawn_rates
from cellvigil.response.values import F64

DRAWS = 200
FURTHEST = 4.0  # standard deviations of the drawn plates: past it, chance is no explanation (measured: benchmarks)
_SEED = 2
_MIXTURES = 20_000  # solved at most: larger plates, whose figures scatter less, make do with fewer draws


def misfits(using: Unmixing, cells: F64, called: F64, effective: F64) -> bool:
    """Whether the calls lie further from every mixture than sampling explains.

    Args:
        using: the index's confusion.
        cells: (C, M) the counts that it was made from.
        called: (W, M) shares of calls by well; rows sum to 1.
        effective: (W,) independent cells that they come from.
    """
    draws = int(np.clip(_MIXTURES // max(len(called), 1), 40, DRAWS))
    expected = using.shares(called) @ drawn_rates(cells, draws)  # (draws, W, M)
    gamma = np.random.default_rng(_SEED).standard_gamma(np.maximum(expected * effective[:, None], 1e-9))
    drawn = _left_over(using, gamma / gamma.sum(axis=2, keepdims=True), effective)
    # Compared by size: at the simplex's edge noise alone leaves something over, and a plate whose wells scatter less
    # than the correlation would have it leaves less than the drawn ones. That is no misfit.
    found, usual = (np.abs(each) for each in (_left_over(using, called[None], effective)[0], drawn.mean(axis=0)))
    return bool((found > usual + FURTHEST * np.maximum(drawn.std(axis=0), 1e-9)).any())


def _left_over(using: Unmixing, called: F64, effective: F64) -> F64:
    """(n, 1 + M) of n plates (n, W, M): summed squared distance of the wells in units of its expectation, and the mean
    of what is left by column.
    """
    fitted = (using.shares(called.reshape(-1, called.shape[2])) @ using.rates).reshape(called.shape)
    left, floor = called - fitted, 1 / np.maximum(effective, 1)[:, None]
    far = (effective[:, None] * np.square(left) / np.maximum(fitted, floor)).sum(axis=(1, 2))
    return np.concatenate([far[:, None], np.average(left, axis=1, weights=effective)], axis=1)
