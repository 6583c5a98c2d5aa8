"""Which class of the reference each cluster of the target is: appendix A.2 of the transfer paper, equations 17 to 23.

The cosine matrix of all target and reference cells is never made. Of unit vectors u and v, mean(u . v) is the product
of the means, and mean((u . v)^2) that of u' S u with S the mean of v v', so equations 18 to 20 follow exactly from sums
over each cluster and each class.

The letter leaves the spread of equation 20 open: "defined below equation 19", the standard deviation of all pairs of
cells (`PAIRS`), or "along each matrix row", that of the row's means (`MEANS`). With means the best class of a row
always stands out, right or not: on `pbc` halves and altered pictures the probabilities of right and wrong matches then
overlap more (area under the curve 0.84, not 0.88, on vectors as they come), so pairs it is.

`centred` takes each side's own middle away before equation 17: cells of one microscope share a direction that dwarfs
what differs between classes. It helps across devices (best class right 0.92, not 0.81, of true clusters) and harms
where the target has few of the classes. `sharing` does better than both: it matches along the axes of `common_axes`.

Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cellvigil.data import I32, Array, Embeddings
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.values import F64, Clusters, Matches
from cellvigil_indexes.bank import Bank

PAIRS, MEANS = "pairs", "means"
_ROWS = 4096  # at a time
_NO_SPREAD = 1e-6  # of a cosine: rounding


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """How clusters are compared with classes."""

    least_probability: float = 0.6  # equation 23; below it a cluster matches nothing
    least_signal: float = 0.05  # equation 19; an encoder below it is left out
    signal_step: float = 0.01  # by which the limit is lowered until two encoders are left
    centred: bool = False  # True: less the middle of the clusters, and of the classes
    spread: str = PAIRS  # of equation 20: "pairs" or "means"

    def __post_init__(self) -> None:
        if self.spread not in (PAIRS, MEANS):
            raise UsageError(f"spread {self.spread!r} is none of {PAIRS}, {MEANS}")
        if not 0 <= self.least_probability <= 1:
            raise UsageError(f"least probability {self.least_probability} is not between 0 and 1")
        if not self.signal_step > 0:
            raise UsageError(f"the signal limit cannot be lowered by {self.signal_step}; a step is above 0")


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Cosines of one encoder, averaged over clusters and classes (equations 18 and 19)."""

    means: F64  # (clusters, classes) equation 18
    row_mean: F64  # (clusters,) over all pairs of a cluster
    row_spread: F64  # (clusters,) standard deviation, population
    column_mean: F64  # (classes,) over all pairs of a class
    column_spread: F64  # (classes,)

    @property
    def signal(self) -> float:
        """Equation 19: the mean over clusters of spread over mean; the sign of the mean says nothing about noise."""
        sure = np.maximum(np.abs(self.row_mean), _NO_SPREAD)
        return float(np.mean(self.row_spread / sure)) if len(sure) else 0.0


def match(target: Embeddings, clusters: Clusters, reference: Bank, settings: MatchSettings | None = None) -> Matches:
    """Equations 17 to 23 over the encoders that both sides have; classes without a cell match nothing.

    Raises UsageError if no encoder is on both sides, or the target has no cell or not as many as there are labels.
    """
    settings = settings or MatchSettings()
    names = shared_encoders(target, reference)
    if not len(clusters.labels) or any(len(target[name]) != len(clusters.labels) for name in names):
        raise UsageError(f"{len(clusters.labels)} clustered cells do not fit the target's vectors")
    found = {name: similarity(target[name], clusters, reference, name) for name in names}
    kept = loud(found, settings)
    if settings.centred:
        found = {name: similarity(target[name], clusters, reference, name, centred=True) for name in kept}
    there = reference.class_counts > 0
    row, column = scores([found[name] for name in kept], there, settings.spread)
    sure = np.clip(probability(row, column), 0.0, 1.0)
    sure[:, ~there] = 0.0
    return Matches(row, column, sure, best_of(sure, settings.least_probability), kept)


def shared_encoders(target: Embeddings, reference: Bank) -> tuple[str, ...]:
    """Encoders on both sides, in the reference's order. Raises UsageError if there is none."""
    names = tuple(name for name in reference.embeddings if name in target)
    if not names:
        hint = f"embed the target by one of {', '.join(reference.embeddings)}"
        raise UsageError("the target was embedded by none of the reference's encoders", hint=hint)
    return names


def best_of(probabilities: F64, least: float) -> I32:
    """The likeliest class of each row (clusters,), -1 where none reaches `least`."""
    if not probabilities.shape[1]:
        return np.full(len(probabilities), -1, dtype=np.int32)
    best = probabilities.argmax(axis=1)
    return np.where(probabilities.max(axis=1) >= least, best, -1).astype(np.int32)


def probability(row: F64, column: F64) -> F64:
    """Equation 23, not clipped: 1 at (1, 1), -2.33 at (-1, -1)."""
    by_row, by_column = 1.0 - row, 1.0 - column
    reach = 1.0 + 2.0 * np.minimum(by_row, by_column)
    return np.asarray(1.0 - reach * np.hypot(by_row, by_column) / (3.0 * np.sqrt(2.0)))


def enhanced(normalised: F64) -> F64:
    """tanh[3 (x - 0.5)]: a standard deviation above the mean nears 1, what is below half of one nears -1."""
    return np.asarray(np.tanh(3.0 * (normalised - 0.5)))


def loud(found: Mapping[str, Similarity], settings: MatchSettings) -> tuple[str, ...]:
    """Encoders whose signal (equation 19) reaches the limit, lowered until two are left, or the only one there is."""
    limit, wanted = settings.least_signal, min(2, len(found))
    while True:
        kept = tuple(name for name, one in found.items() if one.signal >= limit)
        if len(kept) >= wanted:
            return kept
        limit = limit - settings.signal_step if limit > settings.signal_step else 0.0


def scores(similarities: list[Similarity], there: Array, spread: str) -> tuple[F64, F64]:
    """M^row and M^col of equation 21, (clusters, classes) each; `there` (classes,): which classes have cells."""
    rows = [_standing(one.means, one.row_mean, one.row_spread, there, spread) for one in similarities]
    everything = np.ones(len(similarities[0].means), dtype=bool)
    columns = [_standing(one.means.T, one.column_mean, one.column_spread, everything, spread).T for one in similarities]
    for column in columns:
        column[:, ~there] = -np.inf
    return _combined(rows), _combined([column.T for column in columns]).T


def _standing(means: F64, centre: F64, spread: F64, there: Array, reading: str) -> F64:
    """Equation 20 along rows; 0 in a row that is all alike, -inf where nothing is."""
    if reading == MEANS:
        centre, spread = means[:, there].mean(axis=1), means[:, there].std(axis=1)
    flat = ~(spread > _NO_SPREAD)
    normalised = (means - centre[:, None]) / np.where(flat, 1.0, spread)[:, None]
    normalised[flat] = 0.0
    normalised[:, ~there] = -np.inf
    return np.asarray(normalised)


def _combined(normalised: list[F64]) -> F64:
    """Half of the mean enhanced score and half of how often a pair was the row's highest, both -1..1 (equation 21)."""
    wins = np.zeros_like(normalised[0])
    for one in normalised:
        highest = one.max(axis=1, initial=-np.inf)
        told = np.flatnonzero(highest > 0)  # in a row that is all alike, none is highest
        wins[told, one[told].argmax(axis=1)] += 1.0
    score = np.mean([enhanced(one) for one in normalised], axis=0)
    return np.asarray((score + 2.0 * wins / len(normalised) - 1.0) / 2.0)


def similarity(block: Array, clusters: Clusters, reference: Bank, name: str, *, centred: bool = False) -> Similarity:
    """Equations 17 to 19 for one encoder: target cells (M, d) against the reference's.

    Raises UsageError for vectors of different lengths on the two sides.
    """
    references = reference.embeddings[name]
    if block.shape[1] != references.shape[1]:
        what = f"{name} gives {block.shape[1]} numbers a cell in the target, {references.shape[1]} in the reference"
        raise UsageError(what, hint="embed both by the same encoder")
    ours = _Side.of(block, clusters.labels, clusters.count, centred=centred)
    theirs = _Side.of(references, reference.labels, len(reference.classes), centred=centred)
    row_mean, column_mean = ours.means @ theirs.mean, theirs.means @ ours.mean
    return Similarity(
        ours.means @ theirs.means.T,
        row_mean,
        np.sqrt(np.maximum(ours.squares(theirs.second) - row_mean**2, 0.0)),
        column_mean,
        np.sqrt(np.maximum(theirs.squares(ours.second) - column_mean**2, 0.0)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The unit vectors of one side, in parts (clusters or classes), and their sums."""

    block: Array  # (n, d) as they came
    members: Array  # (n,) part ids
    counts: F64  # (parts,)
    centre: F64  # (d,) subtracted before the length is made 1
    means: F64  # (parts, d) zero for a part without cells
    mean: F64  # (d,) over all cells
    second: F64  # (d, d) mean outer product, over all cells

    @classmethod
    def of(cls, block: Array, members: Array, parts: int, *, centred: bool) -> _Side:
        """Sums over a block of vectors, read in pieces."""
        counts = np.bincount(members, minlength=parts).astype(np.float64)
        centre = np.zeros(block.shape[1])
        if centred:
            centre = _part_means(block, members, counts)[counts > 0].mean(axis=0)
        sums, second = np.zeros((parts, block.shape[1])), np.zeros((block.shape[1], block.shape[1]))
        for rows, units in _units(block, centre):
            np.add.at(sums, members[rows], units)
            second += units.T @ units
        means = sums / np.maximum(counts, 1.0)[:, None]
        return cls(block, members, counts, centre, means, sums.sum(axis=0) / len(block), second / len(block))

    def squares(self, second: F64) -> F64:
        """The mean squared cosine of each part's cells with all of the other side, (parts,), by its second moment."""
        sums = np.zeros(len(self.counts))
        for rows, units in _units(self.block, self.centre):
            np.add.at(sums, self.members[rows], np.einsum("ij,ij->i", units @ second, units))
        return np.asarray(sums / np.maximum(self.counts, 1.0))


def _part_means(block: Array, members: Array, counts: F64) -> F64:
    """Mean vectors, (parts, d): each part counts alike in a centre, however many cells a device happens to show."""
    sums = np.zeros((len(counts), block.shape[1]))
    for start in range(0, len(block), _ROWS):
        rows = slice(start, start + _ROWS)
        np.add.at(sums, members[rows], block[rows].astype(np.float64))
    return np.asarray(sums / np.maximum(counts, 1.0)[:, None])


def _units(block: Array, centre: F64) -> Iterator[tuple[slice, F64]]:
    """Vectors of length 1, in pieces; a vector at the centre has no direction and stays 0."""
    for start in range(0, len(block), _ROWS):
        rows = slice(start, start + _ROWS)
        vectors = block[rows].astype(np.float64) - centre
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        yield rows, vectors / np.where(lengths > _NO_SPREAD * max(1.0, float(lengths.max())), lengths, np.inf)
