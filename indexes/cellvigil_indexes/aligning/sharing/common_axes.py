"""One frame for two devices: the reference's discriminant axes, and the shift between the two sides along them.

Cosines of vectors as they come (equation 17 of the transfer paper) are ruled by the direction that all cells of one
microscope share. Here vectors are first stretched to the same spread in every dimension and looked at along the axes
that part the reference's classes (`discriminant`, fitted on reference labels alone). What is left of the device is, to
first order, one shift; it cannot be the difference of the two sides' means, for the target need not have the same
classes. So it is fitted as that which lays the target's clusters on classes, whichever those are: closest points by
turns (Besl and McKay 1992, with a translation only), from every pair of a cluster and a class as a start.

Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.data import I32, Array, Embeddings
from cellvigil_indexes import discriminant
from cellvigil_indexes.aligning.values import F64
from cellvigil_indexes.bank import Bank

_ROUNDS = 20
_HOLD = 0.01  # what a squared unit of shift costs beside one of distance: of like fits, the smaller shift
_LEAST_STRETCH = 0.05  # of the reference's spread: a dimension that is constant in the target is not blown up


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """Both sides along the reference's axes. Encoders in the same order on both sides."""

    target: Embeddings  # encoder -> (M, r_e) f32
    reference: Bank

    @property
    def together(self) -> Array:
        """The target's cells along the axes of all encoders, (M, sum of r_e) f32."""
        return np.concatenate(list(self.target.values()), axis=1)

    def class_means(self) -> tuple[Array, F64]:
        """Ids of the classes that have cells, (k,), and their means over the axes of all encoders, (k, sum of r_e)."""
        there = np.flatnonzero(self.reference.class_counts)
        every = np.concatenate(list(self.reference.embeddings.values()), axis=1)
        return there, means_of(every, self.reference.labels, len(self.reference.classes))[there]


def common_axes(target: Embeddings, reference: Bank, names: Sequence[str]) -> Common:
    """Cells of both sides along the reference's discriminant axes, of these encoders.

    Raises UsageError, as `discriminant.fit` does, for a reference of one class, or whose classes are all alike.
    """
    ours, theirs = {}, {}
    for name in names:
        block, references = np.asarray(target[name]), np.asarray(reference.embeddings[name])
        centre, spread = references.mean(axis=0, dtype=np.float64), references.std(axis=0, dtype=np.float64)
        spread = np.where(spread > 0, spread, 1.0)
        stretched = ((references - centre) / spread).astype(np.float32)
        axes = discriminant.fit(stretched, reference.labels)
        own = np.maximum(block.std(axis=0, dtype=np.float64), _LEAST_STRETCH * spread)
        ours[name] = axes.of(((block - centre) / own).astype(np.float32))
        theirs[name] = axes.of(stretched)
    return Common(ours, replace(reference, embeddings=theirs))


def registered(common: Common, labels: I32, clusters: int) -> Common:
    """Both sides with the origin in the middle of the classes that the target's clusters lie on, the shift taken out.

    `labels` (M,) are cluster ids. A cosine is then an angle seen from the middle of what the target has.
    """
    _, means = common.class_means()
    there = np.bincount(labels, minlength=clusters) > 0
    places = means_of(common.together, labels, clusters)[there]
    weights = np.sqrt(np.bincount(labels, minlength=clusters)[there])
    shift, nearest = shift_of(places, weights, means)
    middle = weights @ means[nearest] / weights.sum()
    ours, theirs, at = {}, {}, 0
    for name, block in common.target.items():
        part = slice(at, at + block.shape[1])
        at = part.stop
        ours[name] = (block - shift[part] - middle[part]).astype(np.float32)
        theirs[name] = (common.reference.embeddings[name] - middle[part]).astype(np.float32)
    return Common(ours, replace(common.reference, embeddings=theirs))


def shift_of(places: F64, weights: F64, means: F64) -> tuple[F64, Array]:
    """The shift (d,) that lays places (c, d) on class means (k, d), and the class each comes to lie on, (c,)."""
    best: tuple[float, F64, Array] | None = None
    for start in _starts(places, means):
        cost, shift, nearest = _settled(places, weights, means, start)
        if best is None or cost < best[0] - 1e-9:
            best = (cost, shift, nearest)
    if best is None:
        raise ValueError("no place to lay on a class")
    return best[1], best[2]


def _starts(places: F64, means: F64) -> Iterator[F64]:
    yield np.zeros(means.shape[1])
    yield places.mean(axis=0) - means.mean(axis=0)
    for place in places:
        yield from place - means


def _settled(places: F64, weights: F64, means: F64, shift: F64) -> tuple[float, F64, Array]:
    """Nearest classes and shift by turns, until neither changes: (cost, shift, nearest)."""
    shares = weights / weights.sum()
    for _ in range(_ROUNDS):
        nearest = ((places[:, None] - shift - means) ** 2).sum(axis=2).argmin(axis=1)
        again = shares @ (places - means[nearest]) / (1.0 + _HOLD)
        if np.allclose(again, shift):
            break
        shift = again
    distances = ((places - shift - means[nearest]) ** 2).sum(axis=1)
    return float(shares @ distances + _HOLD * shift @ shift), shift, nearest


def means_of(block: Array, members: Array, parts: int) -> F64:
    """Mean vectors of parts, (parts, d); zero for a part without cells."""
    sums = np.zeros((parts, block.shape[1]))
    np.add.at(sums, members, block.astype(np.float64))
    return np.asarray(sums / np.maximum(np.bincount(members, minlength=parts), 1)[:, None])
