"""Two clouds of cells as Gaussians in the directions in which either varies, with few cells and many dimensions.

340 cells say little about a covariance of 1,280 dimensions. So the moments are taken along the leading principal
components of both sides together (each about its own mean), where covariances are shrunk towards an even spread
(Friedman 1989, as in `discriminant.py`): S' = (1 - a) S + a tr(S)/r I. What lies outside these components keeps its
directions; it is shifted with the mean and stretched by one number, the ratio of both sides' spreads there.
Pure: arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I64
from cellvigil_indexes.aligning.maps.affine import affine_of
from cellvigil_indexes.aligning.values import F64, Affine

COMPONENTS = 50
"""Joint principal components along which covariances are matched."""

SHRINKAGE = 0.05
"""Share of the even spread in a covariance."""

_NEGLIGIBLE = 1e-6  # of the largest component's spread: rounding, not a direction


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """References and target, each with its mean, its covariance along shared axes, and its spread off them."""

    axes: F64  # (d, r) orthonormal
    before: F64  # (d,) mean of the references
    after: F64  # (d,) mean of the target
    source: F64  # (r, r) covariance, shrunk, positive definite
    target: F64  # (r, r)
    rest: tuple[float, float]  # mean squared length off the axes: references, target


def gaussians(references: F32, masses: F64, target: F32, *, components: int, shrinkage: float) -> Gaussians:
    """Both clouds; references weigh `masses` (N,), sum 1.

    Raises ValueError for fewer than one component or a shrinkage outside 0..1.
    """
    if components < 1 or not 0 <= shrinkage <= 1:
        raise ValueError(f"{components} components and shrinkage {shrinkage}: at least 1, and from 0 to 1")
    before, after = masses @ references, target.mean(axis=0, dtype=np.float64)
    own = np.sqrt(masses)[:, None] * (references - before)
    theirs = (target - after) / np.sqrt(len(target))
    axes = _axes(own, theirs, components)
    inside, there = own @ axes, theirs @ axes
    rest = (
        float(np.square(own).sum() - np.square(inside).sum()),
        float(np.square(theirs).sum() - np.square(there).sum()),
    )
    return Gaussians(
        axes, before, after, shrunk(inside.T @ inside, shrinkage), shrunk(there.T @ there, shrinkage), rest
    )


def shrunk(covariance: F64, shrinkage: float) -> F64:
    """The covariance (r, r) drawn towards an even one; never quite singular."""
    even = float(np.trace(covariance)) / len(covariance)
    least = max(shrinkage, 1e-9)
    return np.asarray((1.0 - least) * covariance + least * even * np.eye(len(covariance)))


def powered(covariance: F64, power: float) -> F64:
    """A symmetric positive definite matrix to a power, e.g. -0.5."""
    values, turns = np.linalg.eigh(covariance)
    floor = _NEGLIGIBLE**2 * float(values[-1])
    return np.asarray((turns * np.maximum(values, floor) ** power) @ turns.T)


def carrying(both: Gaussians, matrix: F64) -> Affine:
    """The map of all d dimensions whose action along the axes is `matrix` (r, r), for row vectors."""
    own, theirs = (max(value, 0.0) for value in both.rest)
    total = float(np.trace(both.source)) + own
    outside = np.sqrt(theirs / own) if own > _NEGLIGIBLE * total else 1.0
    full = both.axes @ (matrix - outside * np.eye(len(matrix))) @ both.axes.T
    full[np.diag_indices_from(full)] += outside
    return affine_of(both.before, full, both.after)


def _axes(own: F64, theirs: F64, components: int) -> F64:
    """Leading principal components of both, each side scaled to the same total spread so that neither rules."""
    sides = [side / np.linalg.norm(side) for side in (own, theirs)]
    both = np.concatenate(sides)
    if len(both) < both.shape[1]:
        values, turns = np.linalg.eigh(both @ both.T)
        kept = _leading(values, components)
        return np.asarray(both.T @ (turns[:, kept] / np.sqrt(values[kept])))
    values, turns = np.linalg.eigh(both.T @ both)
    return np.asarray(turns[:, _leading(values, components)])


def _leading(values: F64, components: int) -> I64:
    there: I64 = np.flatnonzero(values > _NEGLIGIBLE * values[-1])
    return np.asarray(there[::-1][:components])


def regular(covariance: F64) -> F64:
    """A covariance (a, a) made never quite singular: a class without weight leaves an axis without spread."""
    least = 1e-6 * float(np.trace(covariance)) / len(covariance)
    return np.asarray(covariance + max(least, 1e-12) * np.eye(len(covariance)))
