"""The target's class shares, told from unlabelled cells: the masses of a transport, and the weights of a standard.

Everything hangs on them. A balanced transport forces the reference's class shares on the target, and a standardisation
takes another mixture for another device (`methods.md`, "Transport"). Shares and frame are fitted by turns: the frame
(`frame`) for the shares there are, then the shares that make the target likeliest as a mixture of the reference's
classes in it (Saerens, Latinne and Decaestecker 2002, with the covariance within classes half the reference's own and
half the target's).

Where the fit cannot be trusted it is drawn towards even shares, by as much as cells are called differently by encoders
that do not know of each other: of those cells nothing is known. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cellvigil.data import I16, I64, Embeddings
from cellvigil_indexes.aligning.maps.domains import cell_masses
from cellvigil_indexes.aligning.maps.gaussians import regular
from cellvigil_indexes.aligning.types.frame import Frame, framed, laid_onto, standardised
from cellvigil_indexes.aligning.values import F64

PASSES, TURNS = 6, 2  # frames, and rounds of shares in each
DAMPING = 0.5  # of a round's change
PRIOR = 5.0  # cells of each class, as if seen beforehand
OWN_COVARIANCE = 0.5  # how much of the covariance within classes is asked of the target
_ROUNDS = 3  # of expectation and maximisation in a turn


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Class shares of a target, (classes,) each, summing to 1; 0 for a class without reference cells."""

    values: F64  # what the fit is given
    likeliest: F64  # before they were drawn towards even ones
    doubt: float  # by how much they were: 0..1


@dataclass(frozen=True, slots=True, eq=False)
class _Mixed:
    shares: F64
    logs: F64  # (M, classes) log of share times likelihood, but for a constant a cell


def class_shares(references: Embeddings, labels: I16, target: Embeddings, classes: int, *, seed: int = 0) -> Shares:
    """The shares of `target`, encoder -> (M, d_e), told by `references`, encoder -> (N, d_e), with labels (N,).

    Raises UsageError, as `discriminant.fit` does, for references whose classes are all alike.
    """
    there = np.bincount(labels, minlength=classes) > 0
    even = there / np.count_nonzero(there)
    if np.count_nonzero(there) < 2:
        return Shares(even, even, 0.0)
    likeliest = _settled(references, labels, target, even)
    doubt = _doubt(references, labels, target, likeliest, seed)
    return Shares((1.0 - doubt) * likeliest + doubt * even, likeliest, doubt)


def _settled(references: Embeddings, labels: I16, target: Embeddings, shares: F64) -> F64:
    """Frames and shares by turns."""
    for _ in range(PASSES):
        frame = _frame(references, labels, target, shares)
        for _ in range(TURNS):
            own = frame.laid(cell_masses(labels, shares))
            mixed = mixture(own, labels, frame.theirs, shares, rounds=_ROUNDS)
            shares = (1.0 - DAMPING) * shares + DAMPING * mixed.shares
    return shares


def _frame(references: Embeddings, labels: I16, target: Embeddings, shares: F64) -> Frame:
    both = standardised(references, target, cell_masses(labels, shares), list(references))
    return framed(both, labels)


def mixture(own: F64, labels: I16, theirs: F64, shares: F64, *, rounds: int, fixed: bool = False) -> _Mixed:
    """The target (M, r) as a mixture of the classes of `own` (N, r): known middles, one covariance, free shares.

    `fixed`: the shares stay; only the covariance follows.
    """
    there = np.flatnonzero(np.bincount(labels, minlength=len(shares)))
    means = np.stack([own[labels == label].mean(axis=0) for label in there])
    inner = _within(own, labels, means, there)
    spread, current = inner, np.maximum(shares[there], 1e-12)
    logs = np.empty((0, 0))
    for _ in range(rounds):
        logs = np.log(current) - 0.5 * _squared(theirs, means, spread)
        parts = np.exp(logs - logs.max(axis=1, keepdims=True))
        parts /= parts.sum(axis=1, keepdims=True)
        if not fixed:
            current = (parts.sum(axis=0) + PRIOR) / (len(theirs) + PRIOR * len(there))
        spread = (1.0 - OWN_COVARIANCE) * inner + OWN_COVARIANCE * _about(theirs, means, parts)
    whole = np.full((len(theirs), len(shares)), -np.inf)
    whole[:, there] = logs
    out = np.zeros(len(shares))
    out[there] = current
    return _Mixed(out, whole)


def _doubt(references: Embeddings, labels: I16, target: Embeddings, shares: F64, seed: int) -> float:
    """The share of the target's cells on which encoders differ, each in its own frame; mean over pairs of encoders.

    One encoder alone: two halves of the reference, which differ less than encoders would.
    """
    if len(references) > 1:
        found = [_called({name: block}, labels, {name: target[name]}, shares) for name, block in references.items()]
    else:
        parts = _halves(labels, seed)
        ours = [{name: block[rows] for name, block in references.items()} for rows in parts]
        found = [_called(each, labels[rows], target, shares) for each, rows in zip(ours, parts, strict=True)]
    return float(np.mean([np.mean(one != other) for one, other in combinations(found, 2)]))


def _called(references: Embeddings, labels: I16, target: Embeddings, shares: F64) -> I64:
    frame = _frame(references, labels, target, shares)
    own = laid_onto(frame.before, frame.theirs, cell_masses(labels, shares))
    return np.asarray(mixture(own, labels, frame.theirs, shares, rounds=10, fixed=True).logs.argmax(axis=1))


def _halves(labels: I16, seed: int) -> tuple[I64, I64]:
    """Two halves of the references' rows, each class in both; a class of one cell is in both."""
    rng = np.random.default_rng(seed)
    parts: tuple[list[I64], list[I64]] = ([], [])
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        middle = len(rows) // 2
        parts[0].append(rows[: max(middle, 1)])
        parts[1].append(rows[middle:])
    return np.sort(np.concatenate(parts[0])), np.sort(np.concatenate(parts[1]))


def _within(own: F64, labels: I16, means: F64, there: I64) -> F64:
    """The covariance about the class means, every class counting alike."""
    parts = []
    for mean, label in zip(means, there, strict=True):
        residual = own[labels == label] - mean
        parts.append(residual.T @ residual / len(residual))
    return regular(np.mean(parts, axis=0))


def _about(cells: F64, means: F64, parts: F64) -> F64:
    total = np.zeros((cells.shape[1], cells.shape[1]))
    for mean, part in zip(means, parts.T, strict=True):
        residual = cells - mean
        total += (residual * part[:, None]).T @ residual
    return regular(total / len(cells))


def _squared(cells: F64, means: F64, spread: F64) -> F64:
    """Mahalanobis distances squared, (M, k)."""
    inverse = np.linalg.inv(spread)
    differences = cells[:, None] - means
    return np.asarray(np.einsum("mki,ij,mkj->mk", differences, inverse, differences))
