"""Mean cosine similarity between classes, and the papers' three figures of it. Pure.

Frontiers in Oncology 2025, section 3.1, figure 5 (second row), tables 1 and 2: "the mean of the cosine similarity
scores of all embeddings per cell type projected via Principal Component Analysis (PCA) to 100 dimensions". PCA takes
the mean of all cells away first, which is why classes can be less than 0 alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I16

F64 = npt.NDArray[np.float64]

PCA_DIMENSIONS = 100
"""To which the paper projects before it compares."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassSimilarity:
    """How alike the cells of two classes are, on the mean."""

    matrix: F64  # (classes, classes) mean cosine over pairs of different cells; NaN where there is no pair
    intra: float  # mean of the diagonal
    inter: float  # mean off the diagonal; NaN with one class
    separability: float  # mean over classes of (diagonal entry - sum of the row's other entries)


def class_similarity(projected: F32, labels: I16, classes: int) -> ClassSimilarity:
    """Mean cosine between the cells of every two classes, from (m, d) projected vectors and their (m,) class ids.

    On the diagonal a cell is not paired with itself (its cosine of 1 would say nothing of the class, and would raise
    small classes by 1/n): pairs i != j, so a class of one cell has no entry. A vector of length 0 has no direction and
    is in no pair. Classes without an entry are left out of the three means.
    """
    lengths = np.linalg.norm(projected.astype(np.float64), axis=1)
    there = lengths > 0
    units = projected[there] / lengths[there, None]
    of_class = np.eye(classes)[np.asarray(labels[there], dtype=np.int64)]
    sums = of_class.T @ units
    counts = of_class.sum(axis=0)
    pairs = np.outer(counts, counts) - np.diag(counts)
    total = sums @ sums.T - np.diag(counts)  # each cell with itself is exactly 1
    matrix = np.divide(total, pairs, out=np.full((classes, classes), np.nan), where=pairs > 0)
    return ClassSimilarity(matrix, *_summary(matrix))


def _summary(matrix: F64) -> tuple[float, float, float]:
    known = np.isfinite(np.diag(matrix))
    if not known.any():
        return (float("nan"),) * 3
    matrix = matrix[np.ix_(known, known)]
    diagonal = np.diag(matrix)
    others = matrix.sum(axis=1) - diagonal
    off = len(matrix) * (len(matrix) - 1)
    inter = float(others.sum() / off) if off else float("nan")
    return float(diagonal.mean()), inter, float((diagonal - others).mean())
