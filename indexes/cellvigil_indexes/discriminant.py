"""The directions of an encoder's vectors that tell the classes apart, fitted on labelled reference cells alone.

Fisher, "The use of multiple measurements in taxonomic problems" (1936), for several classes (Rao 1948): with S the
covariance within the classes, the axes span S^-1 (class means) and are scaled so that a class varies by 1 along each.
Neighbours are then sought in C - 1 dimensions an encoder, whatever the encoder: two encoders count alike without
further scaling, and what differs between cells of one class no longer drowns what differs between classes.

With fewer cells than dimensions S has to be shrunk, S' = (1 - a) S + a tr(S)/d I (Friedman, "Regularized discriminant
analysis", 1989). Why a = 1/2: see `SHRINKAGE`. Euclidean only: the axes have no zero that Canberra's distance could
mean.

Pure: arrays in, arrays out; vectors may be memory-mapped and are read in blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.projection import Projection
from cellvigil.data import F32, I16, I64, Array, Embeddings
from cellvigil.errors import UsageError

F64 = npt.NDArray[np.float64]

SHRINKAGE = 0.5
"""Half of the measured covariance, half of an even one.

Accuracy is flat from 0.1 to 0.7 (`benchmarks/probe_gap.py`); Ledoit and Wolf's estimate, 0.03, lies below, being made
for the covariance and not for its inverse. The more, the less the axes are made to the measure of the very cells they
were fitted on, which lie nearer to each other than live cells lie to them.
"""

_ROWS = 8192  # at a time
_NEGLIGIBLE = 1e-5  # of the largest separation: rounding, not a direction


def fit(block: Array, labels: I16, *, shrinkage: float = SHRINKAGE) -> Projection:
    """The discriminant axes of cells (N, d), f32 or f16, with labels (N,): at most classes - 1, the best first.

    Raises UsageError if there is one class only, if no class has two cells that differ, or if all classes have the same
    mean; ValueError for a shrinkage outside 0 < a <= 1.
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage {shrinkage} must be above 0 and at most 1")
    classes, members = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UsageError("one class alone has no direction that tells it apart", hint="--scale none")
    means = _means(block, members.astype(np.int64), len(classes))
    centre = means.mean(axis=0)
    few = len(block) < block.shape[1]
    spanning = (_by_cells if few else _by_dimensions)(block, members.astype(np.int64), means, shrinkage)
    return Projection(centre.astype(np.float32), _axes(spanning, means - centre).astype(np.float32))


def fit_all(embeddings: Embeddings, labels: I16, *, shrinkage: float = SHRINKAGE) -> dict[str, Projection]:
    """The axes of every encoder, by its name. Raises as `fit` does."""
    return {name: fit(block, labels, shrinkage=shrinkage) for name, block in embeddings.items()}


def projected(embeddings: Embeddings, projections: dict[str, Projection]) -> dict[str, F32]:
    """Cells as their projections see them: encoder -> (n, r_e) f32. Only encoders that have one."""
    return {name: projection.of(embeddings[name]) for name, projection in projections.items()}


def _means(block: Array, members: I64, classes: int) -> F64:
    """Each class's mean, (classes, d)."""
    sums = np.zeros((classes, block.shape[1]))
    for start in range(0, len(block), _ROWS):
        rows = slice(start, start + _ROWS)
        sums += np.eye(classes)[members[rows]].T @ block[rows]
    return np.asarray(sums / np.bincount(members, minlength=classes)[:, None])


def _within(block: Array, members: I64, means: F64) -> F64:
    """The covariance of cells about their class's mean, (d, d), all cells alike."""
    total = np.zeros((block.shape[1], block.shape[1]))
    for start in range(0, len(block), _ROWS):
        rows = slice(start, start + _ROWS)
        residual = (block[rows] - means[members[rows]]).astype(np.float32)
        total += residual.T @ residual
    return np.asarray(total / len(block))


def _by_dimensions(block: Array, members: I64, means: F64, shrinkage: float) -> F64:
    """S'^-1 times the centred class means, (d, classes), from the covariance itself."""
    spread = _within(block, members, means)
    even = _even(float(np.trace(spread)), len(spread))
    spread *= 1.0 - shrinkage
    spread[np.diag_indices_from(spread)] += shrinkage * even
    return _solved(spread, (means - means.mean(axis=0)).T)


def _by_cells(block: Array, members: I64, means: F64, shrinkage: float) -> F64:
    """The same where cells are fewer than dimensions: a system of cells instead, by Woodbury's identity.

    S' = b I + w R'R with R (N, d) the cells less their class's mean, b and w the two shares of it.
    """
    residual = np.asarray(block, dtype=np.float32) - means.astype(np.float32)[members]
    b = shrinkage * _even(float(np.vdot(residual, residual)) / len(block), block.shape[1])
    w = (1.0 - shrinkage) / len(block)
    wanted = (means - means.mean(axis=0)).T
    seen = (residual @ wanted.astype(np.float32)).astype(np.float64)
    inner = w * (residual @ residual.T).astype(np.float64)
    inner[np.diag_indices_from(inner)] += b
    return np.asarray((wanted - w * (residual.T @ _solved(inner, seen).astype(np.float32))) / b)


def _solved(spread: F64, wanted: F64) -> F64:
    """Spread^-1 wanted, of a symmetric matrix whose least eigenvalue is above 0; `spread` is overwritten."""
    from scipy.linalg import cho_factor, cho_solve  # noqa: PLC0415 - slow to import

    return np.asarray(cho_solve(cho_factor(spread, overwrite_a=True, check_finite=False), wanted, check_finite=False))


def _even(trace: float, dimensions: int) -> float:
    if not trace > 0:
        raise UsageError("no class has two cells that differ", hint="more cells a class, or --scale none")
    return trace / dimensions


def _axes(spanning: F64, means: F64) -> F64:
    """Axes (d, r) along which a class varies by 1; `spanning` is S'^-1 means.T, `means` (classes, d) are centred."""
    squared, turns = np.linalg.eigh(means @ spanning)  # squared separations, ascending
    squared, turns = squared[:0:-1], turns[:, :0:-1]  # centred means span one direction less
    if not squared[0] > 0:
        raise UsageError("all classes have the same mean", hint="--scale none")
    kept = squared > _NEGLIGIBLE**2 * squared[0]
    return np.asarray(spanning @ (turns[:, kept] / np.sqrt(squared[kept])))
