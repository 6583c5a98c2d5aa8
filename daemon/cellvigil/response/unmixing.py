"""Shares of true classes behind shares of called ones: least squares on the simplex, for many wells at once. Pure.

An active-set method (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23, with the sum held at one),
run for all wells together: those with the same classes at zero share one solution, which is a linear map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.response.values import F64, Bools, Ints

_TOLERANCE = 1e-10  # on shares, and on gradients of squared shares


def unmixed(called: F64, rates: F64) -> F64:
    """The shares of true classes whose calls come nearest to those seen.

    Args:
        called: (n, M) shares of the calls, rows sum to 1.
        rates: (C, M) P(called | true), rows sum to 1, of full rank.

    Returns:
        (n, C) x >= 0 with sum 1 that minimises |x @ rates - called|^2.
    """
    shape = (len(called), len(rates))
    search = _Search(rates @ rates.T, called @ rates.T, np.full(shape, 1 / shape[1]), np.ones(shape, dtype=np.bool_))
    left = np.arange(len(called))
    for _ in range(20 * len(rates)):  # far more than it takes; were any left, their shares are still shares
        if not left.size:
            break
        left = search.step(left)
    return search.shares


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """Rows on their way; `shares` and `free` are changed in place."""

    gram: F64  # (C, C)
    pull: F64  # (n, C)
    shares: F64  # (n, C) always feasible
    free: Bools  # (n, C) classes that are not held at zero

    def step(self, rows: Ints) -> Ints:
        """One step of these rows; those of them that have not arrived."""
        kinds, which = np.unique(self.free[rows], axis=0, return_inverse=True)
        left = [self._solve(rows[which == kind], np.flatnonzero(free)) for kind, free in enumerate(kinds)]
        return np.concatenate(left)

    def _solve(self, rows: Ints, free: Ints) -> Ints:
        """As `step`, for rows whose free classes are these."""
        within, constant = _bordered(self.gram[np.ix_(free, free)])
        wanted = np.zeros((len(rows), len(self.gram)))
        wanted[:, free] = self.pull[np.ix_(rows, free)] @ within.T + constant
        fits = (wanted >= -_TOLERANCE).all(axis=1)
        self._retreat(rows[~fits], wanted[~fits])
        left: Ints = np.concatenate([rows[~fits], self._enter(rows[fits], wanted[fits], free)])
        return left

    def _retreat(self, rows: Ints, wanted: F64) -> None:
        """Go towards `wanted` until the first class is at zero, and hold it there."""
        now = self.shares[rows]
        blocks = wanted < -_TOLERANCE
        reach = np.where(blocks, now / np.where(blocks, now - wanted, 1), np.inf)
        step = reach.min(axis=1, keepdims=True, initial=1)
        self.shares[rows] = np.maximum(now + step * (wanted - now), 0)
        self.free[rows] &= reach > step

    def _enter(self, rows: Ints, wanted: F64, free: Ints) -> Ints:
        """Take `wanted`; free the class that would help most. The rows that have one."""
        self.shares[rows] = np.maximum(wanted, 0)
        slope = self.shares[rows] @ self.gram - self.pull[rows]
        gain = slope - slope[:, free].mean(axis=1, keepdims=True)  # equal on the free ones: the sum's multiplier
        gain[:, free] = 0
        best = gain.argmin(axis=1)
        enters = gain[np.arange(len(rows)), best] < -_TOLERANCE
        self.free[rows[enters], best[enters]] = True
        left: Ints = rows[enters]
        return left


def _bordered(gram: F64) -> tuple[F64, F64]:
    """(..., C, C) map and (..., C) constant of the least squares with only the sum held: x = map @ pull + constant."""
    classes = gram.shape[-1]
    matrix = np.ones((*gram.shape[:-2], classes + 1, classes + 1))
    matrix[..., :classes, :classes] = gram
    matrix[..., classes, classes] = 0
    inverse = np.asarray(np.linalg.pinv(matrix), dtype=np.float64)
    return inverse[..., :classes, :classes], inverse[..., :classes, classes]


def unmixing_map(rates: F64) -> F64:
    """The unmixing as a linear map of the calls, where no class is held at zero: (..., C, M) for rates (..., C, M)."""
    within, constant = _bordered(rates @ np.swapaxes(rates, -1, -2))
    return np.asarray(within @ rates + constant[..., None])
