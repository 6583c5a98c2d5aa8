"""The cheapest plan for fixed costs: POT's network simplex, for large problems over the few pairs that can matter.

An optimal plan has at most N + M - 1 entries, and with duals near the optimum nearly all pairs are too dear to be one.
So the simplex is given the cheapest pairs only (by the duals of a like problem), and those that its own duals show to
be too cheap to be left out, until there are none: then the plan is the cheapest of all pairs' (column generation, Ford
and Fulkerson 1958). Exact, and four times quicker for 2,000 x 2,000 cells than over all pairs.

POT is in the extra `index`, imported where it is used.
"""

from __future__ import annotations

import numpy as np

from cellvigil.data import I64, Bools
from cellvigil_indexes.aligning.libraries import library
from cellvigil_indexes.aligning.values import F64

SMALL = 500_000
"""Pairs of cells, up to which all are given to the simplex at once."""

_EACH = 40  # pairs a cell, at first
_ROUNDS = 8  # of adding pairs; after them, all are given
_PIVOTS = 10_000_000  # of the network simplex: a bound for what never ends, far above what 2,000 x 2,000 takes
_ROUNDING = 1e-9  # of the costs' largest: a pair that is cheaper than its duals by less is not too cheap

Duals = tuple[F64, F64]
Coordinates = tuple[I64, I64, F64]
"""A plan's entries: rows, columns, masses."""


def emd(p: F64, q: F64, costs: F64, duals: Duals | None = None) -> tuple[F64, Duals]:
    """The cheapest plan (N, M) for fixed costs, and its duals; those of a like problem make it quicker.

    Raises UsageError where POT is not installed.
    """
    if costs.size <= SMALL:
        return _over_all(p, q, costs, duals)
    (rows, columns, masses), found = cheapest(p, q, costs, duals)
    plan = np.zeros(costs.shape)
    plan[rows, columns] = masses
    return plan, found


def cheapest(p: F64, q: F64, costs: F64, duals: Duals | None = None) -> tuple[Coordinates, Duals]:
    """The same as `emd`, the plan by its entries. Masses `p` (N,) and `q` (M,) are each above 0 where it is large."""
    if costs.size <= SMALL or not ((p > 0).all() and (q > 0).all()):
        return _whole(p, q, costs, duals)
    found = duals or _lowest(costs)
    given = _stair(p, q) | _cheap(_reduced(costs, found))
    least = -_ROUNDING * float(np.abs(costs).max())
    for _ in range(_ROUNDS):
        plan, found = _over(p, q, costs, given)
        reduced = _reduced(costs, found)
        if float(reduced.min()) >= least:
            return plan, found
        given |= _cheap(reduced)  # of those that are missing the worst, and what may be missing next
    return _whole(p, q, costs, found)


def entries_of(plan: F64) -> Coordinates:
    """The entries of a plan (N, M) that are not 0."""
    rows, columns = np.nonzero(plan)
    return rows, columns, plan[rows, columns]


def _whole(p: F64, q: F64, costs: F64, duals: Duals | None) -> tuple[Coordinates, Duals]:
    plan, found = _over_all(p, q, costs, duals)
    return entries_of(plan), found


def _over_all(p: F64, q: F64, costs: F64, duals: Duals | None) -> tuple[F64, Duals]:
    plan, told = library("ot", "POT", "optimal transport").emd(
        p, q, costs, numItermax=_PIVOTS, log=True, potentials_init=duals
    )
    return plan, (told["u"], told["v"])


def _over(p: F64, q: F64, costs: F64, given: Bools) -> tuple[Coordinates, Duals]:
    """The cheapest plan of the pairs that are `given` (N, M), among which there must be a plan."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow to import

    rows, columns = np.nonzero(given)
    table = coo_array((costs[rows, columns], (rows, columns)), shape=costs.shape)
    plan, told = library("ot", "POT", "optimal transport").emd(p, q, table, numItermax=_PIVOTS, log=True)
    entries = np.asarray(plan.row, np.int64), np.asarray(plan.col, np.int64), np.asarray(plan.data, np.float64)
    return entries, (told["u"], told["v"])


def _lowest(costs: F64) -> Duals:
    """Duals that are none too high: each row's least cost, and what is left of each column's."""
    rows = costs.min(axis=1)
    return rows, np.asarray((costs - rows[:, None]).min(axis=0))


def _reduced(costs: F64, duals: Duals) -> F64:
    """What pairs (N, M) cost beyond the duals."""
    return np.asarray(costs - duals[0][:, None] - duals[1])


def _cheap(reduced: F64) -> Bools:
    """Pairs (N, M) among each row's and each column's `_EACH` cheapest."""
    cheap = np.zeros(reduced.shape, dtype=bool)
    for axis in (0, 1):
        each = min(_EACH, reduced.shape[axis]) - 1
        places = np.argpartition(reduced.astype(np.float32), each, axis=axis)
        np.put_along_axis(cheap, places.take(range(each + 1), axis=axis), values=True, axis=axis)
    return cheap


def _stair(p: F64, q: F64) -> Bools:
    """Pairs (N, M) that some plan keeps to: cells filled in their order (the north-west corner rule)."""
    stair = np.zeros((len(p), len(q)), dtype=bool)
    row = column = 0
    left, room = float(p[0]), float(q[0])
    while row < len(p) and column < len(q):
        stair[row, column] = True
        if left < room and row + 1 < len(p):
            row, room, left = row + 1, room - left, float(p[row + 1])
        elif column + 1 < len(q):
            column, left, room = column + 1, left - room, float(q[column + 1])
        elif row + 1 < len(p):
            row, left = row + 1, float(p[row + 1])
        else:
            break
    return stair
