"""How much cells of one field (or well) resemble each other: the intra-class correlation of their states. Pure.

Cells that share a field share their density, their medium and the light on them: a hundred cells tell less than a
hundred independent ones. With several states each cell is a row of indicators, and the variances of all states in the
groups alive, dying and dead are summed, within and between fields, before they are divided: for two states that is
the usual correlation of the binary outcome, for more it is the one correlation of a Dirichlet-multinomial. One-way
analysis of variance (Donner, Int. Stat. Rev. 54 (1986) 67), pooled over wells and time points as a ratio of sums, so
that wells of any share may be pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellvigil.response.intervals import NORMAL, quantile
from cellvigil.response.values import F64, Bools, Ints, PlateCounts

DENOMINATOR = ("alive", "dying", "dead")  # the groups whose cells a share divides by
DEFAULT = 0.1  # where nothing can be told: intervals then cover 0.92 (true correlation 0.15) to 0.996 (0.02)
USUAL = 0.07  # repeated fields of cell cultures show 0.02 to 0.15; few clusters give estimates near 0 as often as not,
PRIOR = 4.0  # so that an estimate is drawn towards the usual, which weighs like so many clusters
MOST = 0.5  # above it an estimate says that the plate is not what we think, not that two cells tell all there is


@dataclass(frozen=True, slots=True)
class Correlation:
    """An intra-class correlation and what it is worth."""

    value: float  # 0..MOST: the estimate from the counts, drawn towards USUAL
    basis: Literal["fields", "wells", "default"]  # what it was estimated between
    clusters: int  # fields (wells) beyond the first of each group: degrees of freedom; 0 with "default"

    @property
    def reach(self) -> float:
        """Standard deviations that a 95 % interval reaches: Student's t with the degrees of freedom there are."""
        return quantile(self.clusters + PRIOR) if self.clusters else NORMAL


NOTHING_KNOWN = Correlation(DEFAULT, "default", 0)


def intraclass(counts: PlateCounts, controls: Bools) -> Correlation:
    """The correlation that the intervals of wells use, pooled over the control wells and all time points.

    Between fields of one well where control wells have several that count (where only other wells have: of those, a
    field differs from its neighbour in any well). With one field a well: between control wells at one time, which
    holds the wells' own differences too and so makes intervals of wells too wide rather than too narrow. With neither:
    DEFAULT. `controls` is (W,) bool.
    """
    cells = counted_cells(counts)[..., counts.columns(*DENOMINATOR)]
    for chosen in (controls, np.ones_like(controls)):
        found = _between_fields(cells[chosen])
        if found is not None:
            return found
    return _between_wells(cells.sum(axis=2), [np.flatnonzero(controls)]) or NOTHING_KNOWN


def between_wells(counts: PlateCounts, arms: Sequence[str]) -> Correlation:
    """The correlation of cells of one well against other wells of its arm ("" = none), pooled over arms and times.

    A well is taken as one cluster with all its fields.
    """
    names = np.asarray(arms, dtype=np.str_)
    groups = [np.flatnonzero(names == name) for name in np.unique(names[names != ""])]
    cells = counted_cells(counts)[..., counts.columns(*DENOMINATOR)]
    return _between_wells(cells.sum(axis=2), groups) or NOTHING_KNOWN


def counted_cells(counts: PlateCounts) -> F64:
    """(W, T, F, S) cells of fields that count, where the well's value is settled; 0 elsewhere."""
    kept = counts.counted & counts.settled[..., None]
    return np.where(kept[..., None], counts.counts, 0).astype(np.float64)


def _between_fields(cells: F64) -> Correlation | None:
    """From (W, T, F, G): fields of one well at one time are the clusters of a group."""
    fields = (cells.sum(axis=3) > 0).sum(axis=2)
    clusters = int(np.maximum(fields.max(axis=1, initial=0) - 1, 0).sum())
    return _pooled(*_sums(cells), "fields", clusters)


def _between_wells(cells: F64, groups: Sequence[Ints]) -> Correlation | None:
    """From (W, T, G) and the wells that belong together: wells of a group at one time are its clusters."""
    between = within = 0.0
    clusters = 0
    for members in groups:
        own = cells[members].swapaxes(0, 1)  # (T, members, G)
        clusters += max(int((own.sum(axis=(0, 2)) > 0).sum()) - 1, 0)
        sums = _sums(own)
        between, within = between + sums[0], within + sums[1]
    return _pooled(between, within, "wells", clusters)


def _sums(cells: F64) -> tuple[float, float]:
    """Variance between and within clusters, summed over groups with the same weights: cells (..., clusters, G)."""
    each = cells.sum(axis=-1)
    total = each.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = cells / each[..., None]
        mean = cells.sum(axis=-2) / total[..., None]
        inside = np.nansum(each[..., None] * share * (1 - share), axis=(-2, -1))
        outside = np.nansum(each[..., None] * np.square(share - mean[..., None, :]), axis=(-2, -1))
        clusters = (each > 0).sum(axis=-1)
        spare = total - clusters  # degrees of freedom within
        extent = total - np.square(each).sum(axis=-1) / total  # n0 (F - 1) of the analysis of variance
        within = inside / spare
        between = (outside - (clusters - 1) * within) / extent
    fit = (clusters > 1) & (spare > 0)
    weight = extent[fit]
    return float((between[fit] * weight).sum()), float((within[fit] * weight).sum())


def _pooled(between: float, within: float, basis: Literal["fields", "wells"], clusters: int) -> Correlation | None:
    if clusters < 1:
        return None
    total = between + within
    if total <= 0:  # every cell of every cluster in one state: nothing tells them apart
        return NOTHING_KNOWN
    estimate = min(max(between / total, 0.0), MOST)
    drawn = (clusters * estimate + PRIOR * USUAL) / (clusters + PRIOR)
    return Correlation(drawn, basis, clusters)
