"""The leading principal components of many vectors, from a seeded sample of them. Pure arithmetic.

Randomised subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4): a full decomposition of
5,376 dimensions would take minutes, and the few directions that matter do not need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, Array

VARIANCE = 0.90  # share of the sample's variance that is enough
AT_MOST = 256  # components, whatever they hold
_STEP = 32  # components come in multiples of this: whole vector registers
_SAMPLE = 16_384  # vectors
_SPARE = 16  # directions that are followed and not kept
_ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """An affine map: concatenated vectors, as they come -> components of the scaled and centred ones."""

    matrix: F32  # (p, sum of d_e) f32, the square roots of the encoders' scales folded in
    offset: F32  # (p,) f32, added
    variance: float  # share of the variance that the p components hold, 0..1

    def times(self, factor: np.float32) -> Components:
        """The same, all components larger by a factor."""
        return replace(self, matrix=self.matrix * factor, offset=self.offset * factor)


def principal_components(
    blocks: Sequence[Array], scales: Sequence[float], rows: npt.NDArray[np.integer], *, seed: int
) -> Components:
    """As few components as hold `VARIANCE` of these rows' variance, at most `AT_MOST`.

    `blocks` are (N, d_e) f32 or f16, one an encoder; `scales` are the factors on the encoders' squared distances.
    """
    rng = np.random.default_rng(seed)
    asked = np.sort(rows if len(rows) <= _SAMPLE else rng.choice(rows, _SAMPLE, replace=False))
    weights = np.concatenate(
        [np.full(b.shape[1], np.sqrt(s), dtype=np.float32) for b, s in zip(blocks, scales, strict=True)]
    )
    sample = concatenated(blocks, asked) * weights
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    axes, spread = _leading(sample, min(AT_MOST + _SPARE, sample.shape[1]), rng)
    whole = float(np.linalg.norm(sample)) ** 2
    held = np.cumsum(spread) / whole if whole > 0 else np.ones(len(spread))
    enough = int(np.searchsorted(held, VARIANCE)) + 1
    kept = min(-(-enough // _STEP) * _STEP, AT_MOST, len(spread))
    matrix = axes[:kept]
    return Components(matrix * weights, -(matrix @ mean), float(min(held[kept - 1], 1.0)))


def concatenated(blocks: Sequence[Array], rows: npt.NDArray[np.integer]) -> F32:
    """These rows of all blocks side by side, (n, sum of d_e) f32."""
    return np.hstack([np.asarray(block[rows], dtype=np.float32) for block in blocks])


def _leading(sample: F32, count: int, rng: np.random.Generator) -> tuple[F32, npt.NDArray[np.float64]]:
    """(axes, squared lengths along them) of a centred sample, largest first: (count, d) and (count,)."""
    basis, _ = np.linalg.qr(rng.normal(size=(sample.shape[1], count)).astype(np.float32))
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    small = (sample @ basis).astype(np.float64)
    spread, turn = np.linalg.eigh(small.T @ small)
    axes = (basis @ turn[:, ::-1].astype(np.float32)).T
    return np.ascontiguousarray(axes), np.maximum(spread[::-1], 0.0)
