"""An arm's mean share over its wells, with an interval for what infinitely many wells of the arm would show. Pure.

Wells are the replicates, not cells and not fields. A bootstrap over 2 to 6 wells covers far less than it promises,
and t over so few wells is uselessly wide; so the variance between wells is pooled over the plate's arms (one intra-
class correlation, `correlation.between_wells`) and weighed against the arm's own, as moderated variances are (Smyth,
Stat. Appl. Genet. Mol. Biol. 3 (2004) 3). An arm with one well has the pooled one alone. Figures:
benchmarks/intervals.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.response.correction import Mixtures
from cellvigil.response.correlation import DENOMINATOR, PRIOR, Correlation, between_wells, counted_cells
from cellvigil.response.intervals import NORMAL, score_ends
from cellvigil.response.mixture import state_share
from cellvigil.response.values import F64, Estimate, Ints, PlateCounts

POOLED = 8.0  # the pooled variance weighs at most like so many wells beyond the first: arms do differ


@dataclass(frozen=True, slots=True)
class _Arms:
    """Which well is in which arm, and what is known of the wells' own differences."""

    members: F64  # (A, W) 1 where the well is of the arm
    between: Correlation

    def mean(self, figures: F64, there: F64) -> F64:
        """(A, T, ...) over the wells that are there (W, T) of (W, T, ...)."""
        extra = (1,) * (figures.ndim - 2)
        known = np.where(there.reshape(*there.shape, *extra) > 0, figures, 0)
        count = np.tensordot(self.members, there, axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.tensordot(self.members, known, axes=1) / np.where(count > 0, count, np.nan).reshape(
                *count.shape, *extra
            )


def arm_shares(
    counts: PlateCounts, arms: Sequence[str], mixtures: Mixtures | None, *, between: Correlation | None = None
) -> tuple[tuple[str, ...], Ints, Estimate, Estimate]:
    """Plain and corrected shares of each arm.

    Args:
        counts: of one plate; wells of one arm belong together at the same place of the time axis.
        arms: (W,) arm of each well; "" = none.
        mixtures: from `correction.take_apart`; None = the corrected shares are NaN.
        between: correlation within wells of one arm, from `between_wells` over the whole time course, where `counts`
            is only a part of it; None = from `counts`.

    Returns:
        names (A,) sorted, wells of each (A,), plain and corrected shares (A, T, S) with 95 % intervals.
    """
    names = tuple(sorted({arm for arm in arms if arm}))
    members = np.array([[arm == name for arm in arms] for name in names], dtype=np.float64).reshape(
        len(names), len(arms)
    )
    told = _Arms(members, between or between_wells(counts, arms))
    shape = (len(names), len(counts.timepoints), len(counts.states))
    plain = _plain(told, counts, shape)
    return names, members.sum(axis=1).astype(np.int64), plain, _corrected(told, mixtures, shape)


def _plain(told: _Arms, counts: PlateCounts, shape: tuple[int, ...]) -> Estimate:
    columns = counts.columns(*DENOMINATOR)
    cells = counted_cells(counts)[..., columns].sum(axis=2)
    total = cells.sum(axis=2)
    found = [np.full(shape, np.nan) for _ in range(3)]
    variance = _well_variance(told, total)
    binomial = variance[..., None] * np.array([0, 1, -1, 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = cells / total[..., None]
    for place, state in enumerate(columns):
        for target, figures in zip(found, _ends(told, shares[..., place], binomial, 0.0), strict=True):
            target[..., state] = figures
    return Estimate(*found)


def _corrected(told: _Arms, mixtures: Mixtures | None, shape: tuple[int, ...]) -> Estimate:
    found = [np.full(shape, np.nan) for _ in range(3)]
    if mixtures is None:
        return Estimate(*found)
    using, wells = mixtures.unmixing, mixtures.true.shape[:2]
    variance = _well_variance(told, mixtures.fields.sum(axis=2))
    true = mixtures.true.reshape(wells[0] * wells[1], len(using.rates))
    for state in using.living:
        one = state_share(using, true, int(state))
        share = one.share.reshape(wells)
        pull = told.mean(one.pull.reshape(*wells, using.rates.size), (~np.isnan(share)).astype(np.float64))
        doubt = ((pull @ using.doubt) * pull).sum(axis=-1)
        spread = one.spread.reshape(*wells, 4) * variance[..., None]
        for target, figures in zip(found, _ends(told, share, spread, np.square(NORMAL) * doubt), strict=True):
            target[..., mixtures.states[state]] = figures
    return Estimate(*found)


def _well_variance(told: _Arms, total: F64) -> F64:
    """(W, T) variance of a well's share around its arm's, by p (1 - p), for wells of `total` cells."""
    return np.asarray(told.between.value + (1 - told.between.value) / np.maximum(total, 1))


def _ends(told: _Arms, share: F64, spread: F64, fixed: F64 | float) -> tuple[F64, F64, F64]:
    """(A, T) mean, low and high of (W, T) shares with the pooled variances `spread` (W, T, 4) of the true share."""
    there = (~np.isnan(share)).astype(np.float64)
    wells = np.tensordot(told.members, there, axes=1)
    mean = told.mean(share, there)
    pooled = told.mean(spread, there)
    own = told.mean(np.square(share), there) - np.square(mean)  # mean square around the arm's mean
    c0, c1, c2, c3 = np.moveaxis(pooled, -1, 0)
    expected = c0 + mean * (c1 + mean * (c2 + mean * c3))
    prior = min(told.between.clusters + PRIOR, POOLED)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(expected > 1e-9, (prior + wells * own / expected) / (prior + wells - 1), 1.0)
        pooled = pooled * (ratio / wells)[..., None]
    low, high = score_ends(mean, pooled, told.between.reach, fixed)
    return mean, low, high
