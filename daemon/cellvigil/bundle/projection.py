"""A linear map of an encoder's vectors that an index keeps, and that live cells pass as its reference cells did.

projection_<encoder>.npy    (d, 1 + r) f32: the centre, then the axes
projected_<encoder>.npy     (N, r) f32: the reference cells along them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellvigil.data import F32, Array, frozen_array
from cellvigil.errors import BundleError


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """x -> (x - mean) @ matrix. `cellvigil_indexes.discriminant` fits one on reference cells."""

    mean: F32  # (d,)
    matrix: F32  # (d, r), r >= 1

    def __post_init__(self) -> None:
        mean, matrix = frozen_array(self.mean, dtype=np.float32), frozen_array(self.matrix, dtype=np.float32)
        if mean.ndim != 1 or matrix.ndim != 2 or len(matrix) != len(mean) or not matrix.size:
            raise ValueError(f"a centre {mean.shape} and axes {matrix.shape} make no projection")
        if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
            raise ValueError("a projection must be finite")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "matrix", matrix)

    @property
    def dimension(self) -> int:
        """Of the projected vectors, r."""
        return int(self.matrix.shape[1])

    def of(self, vectors: Array) -> F32:
        """Vectors (n, d), f32 or f16 and perhaps memory-mapped, as (n, r) f32.

        Each is multiplied on its own: a product of many rounds differently from one of few, and a cell's call must not
        depend on the cells it comes with. Raises ValueError for vectors of another dimension.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ValueError(f"vectors {vectors.shape} do not fit a projection from {len(self.mean)} dimensions")
        axes = np.ascontiguousarray(self.matrix.T)
        out = np.empty((len(vectors), self.dimension), dtype=np.float32)
        for row, vector in enumerate(vectors):
            np.matmul(axes, vector - self.mean, out=out[row])
        return out


def projection_file(encoder: str) -> str:
    """The name of the file with one encoder's projection."""
    return f"projection_{encoder}.npy"


def projected_file(encoder: str) -> str:
    """The name of the file with the reference cells along one encoder's axes."""
    return f"projected_{encoder}.npy"


def write_projection(folder: Path, encoder: str, projection: Projection) -> None:
    """Write one encoder's projection into a bundle's folder."""
    np.save(folder / projection_file(encoder), np.column_stack([projection.mean, projection.matrix]))


def open_projection(folder: Path, encoder: str, dimension: int) -> Projection:
    """Read one encoder's projection from `dimension` dimensions. Raises BundleError if there is none that fits."""
    name = projection_file(encoder)
    try:
        held = np.load(folder / name, allow_pickle=False)
        if held.dtype != np.float32 or held.ndim != 2 or len(held) != dimension:
            raise ValueError(f"it holds {held.dtype} {held.shape}, not float32 ({dimension}, axes + 1)")
        return Projection(held[:, 0], held[:, 1:])
    except (OSError, EOFError, ValueError) as error:
        raise BundleError(f"{name} cannot be opened: {error}", where=folder, hint="build the index again") from None
