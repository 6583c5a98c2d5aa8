"""The device's shift, fitted between cells of the same classes on both sides, and which kind of map it takes.

`methods.md`, "Transport": for cell states the fit sees only the classes known to be present, and the map must be affine
to carry the others. Both sides are trimmed alike to their typical cells before moments are taken: a few percent of the
cells in a control well die by themselves or are debris, and would be taken for a part of the shift.

Which kind: the simplest that does as well, up to noise, on cells of both sides that were kept out of the fit. How well
is the energy distance between the mapped references and the target (Szekely and Rizzo 2013), along the target's own
principal components in units of its own spread: a map that collapses the references onto a point is far from it. Noise
is the same distance between halves of one side, by groups on the reference's: as far as one device is from itself.
Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I32, I64
from cellvigil_indexes.aligning.maps.affine import affine_of, applied
from cellvigil_indexes.aligning.maps.catalogue import MAPS
from cellvigil_indexes.aligning.values import F64, Affine

KINDS = ("none", "mean", "zscore", "coral", "monge")
"""Simplest first: nothing, the mean, each dimension's spread, the covariance (two ways)."""

TRIED = KINDS[:-1]
"""Those among which `best_kind` chooses; Monge's differs from CORAL's by a rotation that no test on one class sees."""

TYPICAL = 0.7
"""Share of a side's cells that moments are taken of."""

_COMPONENTS = 15
_STEPS = 10
_ROUNDS = 4
_ONE_DEVICE = 2.0  # times the noise: no further apart than that, both sides are one device, and nothing is moved
_AS_GOOD = 0.5  # times the noise: a simpler map may be so much further from the target than the best


@dataclass(frozen=True, slots=True)
class Trial:
    """How the kinds of map did on cells kept out of the fit."""

    kind: str  # the one to take
    distances: Mapping[str, float]  # mean energy distance to the target, by kind
    noise: float  # of one side to itself


def typical(block: F32, share: float = TYPICAL) -> I64:
    """Rows of the share of cells (n, d) nearest to the middle of their bulk, in order; all of fewer than ten.

    Concentration steps of the minimum covariance determinant (Rousseeuw and van Driessen 1999) along the leading
    principal components, from the medians.
    """
    kept = int(np.ceil(share * len(block)))
    if len(block) < 10 or kept >= len(block):
        return np.arange(len(block), dtype=np.int64)
    scores = _scores(block)
    spread = 1.4826 * np.median(np.abs(scores - np.median(scores, axis=0)), axis=0)
    scores = scores / np.where(spread > 0, spread, 1.0)
    rows = _nearest((scores**2).sum(axis=1), kept)
    for _ in range(_STEPS):
        centred = scores - scores[rows].mean(axis=0)
        covariance = centred[rows].T @ centred[rows] / kept + 1e-6 * np.eye(scores.shape[1])
        again = _nearest(np.einsum("ij,ij->i", centred @ np.linalg.inv(covariance), centred), kept)
        if np.array_equal(again, rows):
            break
        rows = again
    return rows


def shift(kind: str, references: F32, target: F32) -> Affine:
    """The map of one kind from cells of a class (n, d) to cells of the same class (m, d).

    Raises UsageError for sides that cannot be mapped (`domains.check_domains`), KeyError for another kind.
    """
    if kind == "mean":
        before = references.mean(axis=0, dtype=np.float64)
        return affine_of(before, np.ones(references.shape[1]), target.mean(axis=0, dtype=np.float64))
    mapped = MAPS[kind](references, np.zeros(len(references), dtype=np.int16), target, None)
    if mapped.affine is None:
        raise KeyError(kind)
    return mapped.affine


def best_kind(references: F32, groups: I32, target: F32, *, seed: int = 0) -> Trial:
    """The simplest kind of map that does as well as any on cells kept out, between typical cells of both sides.

    `groups` (n,) keep the references of one image together. Raises UsageError as `shift` does.
    """
    rng = np.random.default_rng(seed)
    seen, own = _whitening(target), _whitening(references)
    distances: dict[str, list[float]] = {kind: [] for kind in TRIED}
    noises: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        fit, held = _halves(groups, rng)
        there, out = _halves(np.arange(len(target), dtype=np.int32), rng)
        noises.append(
            (
                energy(own.of(references[fit]), own.of(references[held])),
                energy(seen.of(target[there]), seen.of(target[out])),
            )
        )
        for kind in TRIED:
            carried = applied(shift(kind, references[fit], target[there]), references[held])
            distances[kind].append(energy(seen.of(carried), seen.of(target[out])))
    means = {kind: float(np.mean(values)) for kind, values in distances.items()}
    noise = float(np.max(np.mean(noises, axis=0)))
    if means["none"] <= _ONE_DEVICE * noise:
        return Trial("none", means, noise)
    enough = min(means.values()) + _AS_GOOD * noise
    return Trial(next(kind for kind in TRIED if means[kind] <= enough), means, noise)


def energy(one: F64, other: F64) -> float:
    """The energy distance between two samples (n, r) and (m, r): 0 if they are the same, else above."""
    return 2 * _mean_distance(one, other) - _mean_distance(one, one) - _mean_distance(other, other)


@dataclass(frozen=True, slots=True, eq=False)
class _Whitening:
    centre: F64
    axes: F64  # (d, r), each scaled to the spread along it

    def of(self, block: F32) -> F64:
        return np.asarray((block - self.centre) @ self.axes)


def _whitening(block: F32) -> _Whitening:
    centre = block.mean(axis=0, dtype=np.float64)
    _, lengths, turns = np.linalg.svd(block - centre, full_matrices=False)
    kept = np.flatnonzero(lengths[:_COMPONENTS] > 1e-6 * lengths[0])
    return _Whitening(centre, turns[kept].T / (lengths[kept] / np.sqrt(len(block))))


def _scores(block: F32) -> F64:
    centred = block - np.median(block, axis=0)
    _, lengths, turns = np.linalg.svd(centred, full_matrices=False)
    kept = np.flatnonzero(lengths[:_COMPONENTS] > 1e-6 * max(float(lengths[0]), 1e-30))
    return np.asarray(centred @ turns[kept].T, dtype=np.float64)


def _nearest(distances: F64, count: int) -> I64:
    return np.sort(np.argsort(distances, kind="stable")[:count])


def _halves(groups: I32, rng: np.random.Generator) -> tuple[I64, I64]:
    """Rows of half of the groups, and of the others; of half of the cells where there are fewer than four groups."""
    names = np.unique(groups)
    if len(names) < 4:
        groups = np.arange(len(groups), dtype=np.int32)
        names = groups
    mine = np.isin(groups, rng.permutation(names)[: len(names) // 2])
    return np.flatnonzero(mine), np.flatnonzero(~mine)


def _mean_distance(one: F64, other: F64) -> float:
    squared = (one**2).sum(axis=1)[:, None] - 2 * one @ other.T + (other**2).sum(axis=1)
    return float(np.sqrt(np.maximum(squared, 0)).mean())
