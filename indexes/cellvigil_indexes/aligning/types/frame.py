"""One frame for both devices: axes that part the reference's classes, with the references laid onto the target in it.

Each side is standardised dimension by dimension and encoder by encoder, the references' moments being those of cells
weighted to the target's class shares: else another mixture is taken for another device. Along the discriminant axes of
all encoders together (`discriminant`; at most classes - 1 of them) the references then get the target's mean and
covariance (CORAL, Sun, Feng and Saenko 2016): few enough axes for a few hundred cells to fix a full covariance.

Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I16, Embeddings
from cellvigil_indexes import discriminant
from cellvigil_indexes.aligning.maps.gaussians import powered, regular
from cellvigil_indexes.aligning.values import F64

SHRINKAGE = 0.9
"""Of the axes. Far from home the covariance within classes is known less well than at home (there: 0.5)."""

_FLOOR = 1e-3  # of the average spread: a dimension that is constant is not blown up


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Both sides, dimension by dimension with mean 0 and spread 1; encoders side by side in the order of `names`."""

    names: tuple[str, ...]
    widths: tuple[int, ...]  # d_e
    own: F32  # (N, sum of d_e)
    theirs: F32  # (M, sum of d_e)
    mean: F64  # (sum of d_e,) the target's
    spread: F64  # (sum of d_e,)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Both sides along the axes."""

    before: F64  # (N, r) references
    theirs: F64  # (M, r) target
    matrix: F64  # (sum of d_e, r) the axes, from standardised vectors

    def laid(self, masses: F64) -> F64:
        """References (N, r) with the mean and covariance of the target, their cells weighing `masses` (N,), sum 1."""
        return laid_onto(self.before, self.theirs, masses)


def standardised(references: Embeddings, target: Embeddings, masses: F64, names: Sequence[str]) -> Standardised:
    """Both sides of these encoders, encoder -> (N, d_e) and (M, d_e)."""
    own, theirs, means, spreads = [], [], [], []
    for name in names:
        block, there = np.asarray(references[name], np.float32), np.asarray(target[name], np.float32)
        mean, spread = _moments(block, masses)
        after, wanted = _moments(there, np.full(len(there), 1.0 / len(there)))
        own.append(((block - mean) / spread).astype(np.float32))
        theirs.append(((there - after) / wanted).astype(np.float32))
        means.append(after)
        spreads.append(wanted)
    joined = np.concatenate
    widths = tuple(block.shape[1] for block in own)
    return Standardised(
        tuple(names), widths, joined(own, axis=1), joined(theirs, axis=1), joined(means), joined(spreads)
    )


def framed(both: Standardised, labels: I16) -> Frame:
    """The axes of the standardised references, and both sides along them. Raises UsageError as `discriminant.fit`."""
    axes = discriminant.fit(both.own, labels, shrinkage=SHRINKAGE)
    matrix = axes.matrix.astype(np.float64)
    return Frame((both.own @ axes.matrix).astype(np.float64), (both.theirs @ axes.matrix).astype(np.float64), matrix)


def laid_onto(own: F64, theirs: F64, masses: F64) -> F64:
    """`own` (N, r), whose cells weigh `masses`, with the mean and covariance of `theirs` (M, r)."""
    centre, after = masses @ own, theirs.mean(axis=0)
    moved, there = own - centre, theirs - after
    source = (moved * masses[:, None]).T @ moved
    wanted = there.T @ there / len(there)
    return np.asarray(moved @ powered(regular(source), -0.5) @ powered(wanted, 0.5) + after)


def carried(both: Standardised, frame: Frame, laid: F64) -> dict[str, F32]:
    """The references as vectors of the target's device, encoder -> (N, d_e): standardised as it is, shifted in frame.

    Off the axes they keep their standardised place; along them they are where `laid` (N, r) has them.
    """
    moved = both.own + (laid - frame.before) @ np.linalg.pinv(frame.matrix)
    back = moved * both.spread + both.mean
    ends = np.cumsum(both.widths)
    return {
        name: np.ascontiguousarray(back[:, end - width : end], dtype=np.float32)
        for name, width, end in zip(both.names, both.widths, ends, strict=True)
    }


def _moments(block: F32, masses: F64) -> tuple[F64, F64]:
    mean = masses @ block.astype(np.float64)
    spread = np.sqrt(masses @ np.square(block - mean))
    floor = _FLOOR * float(spread.mean())
    return mean, spread + (floor if floor > 0 else 1.0)
