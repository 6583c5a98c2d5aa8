"""Share of each state among a well's cells, with an interval for the well, not for the cells that were seen. Pure.

The interval is that of a beta-binomial: with correlation r between cells of one field, fields of n_f cells (n together)
tell as much as n^2 / sum n_f (1 + (n_f - 1) r) independent cells. It is about what infinitely many fields of the well
would show. A bootstrap over cells covers 0.73 to 0.88 of what it promises there (benchmarks/intervals.py).
"""

from __future__ import annotations

import numpy as np

from cellvigil.response.correlation import DENOMINATOR, Correlation, counted_cells
from cellvigil.response.intervals import wilson_ends
from cellvigil.response.values import F64, Estimate, PlateCounts


def plain(counts: PlateCounts, correlation: Correlation) -> Estimate:
    """(W, T, S) share of each state of the groups alive, dying and dead among the cells of these groups.

    NaN for the other states, and where there is no such cell or no settled value.
    """
    columns = counts.columns(*DENOMINATOR)
    cells = counted_cells(counts)[..., columns]
    fields = cells.sum(axis=3)
    total = fields.sum(axis=2)
    with np.errstate(invalid="ignore"):
        share = cells.sum(axis=2) / np.where(total > 0, total, np.nan)[..., None]
    effective = effective_cells(fields, correlation.value)
    shape = (*counts.counts.shape[:2], len(counts.states))
    value, low, high = (np.full(shape, np.nan) for _ in range(3))
    value[..., columns] = share
    low[..., columns], high[..., columns] = wilson_ends(share, effective[..., None], correlation.reach)
    return Estimate(value, low, high)


def effective_cells(fields: F64, correlation: float) -> F64:
    """How many independent cells tell as much as `fields` (..., F) cells do; 0 where there are none."""
    total = fields.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = total / (1 + (np.square(fields).sum(axis=-1) / total - 1) * correlation)
    return np.where(total > 0, effective, 0.0)
