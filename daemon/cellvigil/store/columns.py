"""What the columns of the per-cell tables are, and how cells and calls become rows. Pure.

The names stand in each array's attributes, so a reader asks the array and not this file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil.data import F32, NEIGHBOURS_KEPT, UNKNOWN, Bools, Calls, Cells

FEATURES = (
    "centroid_y_px",
    "centroid_x_px",
    "box_y0_px",
    "box_x0_px",
    "box_y1_px",
    "box_x1_px",
    "area_um2",
    "touches_edge",
)
_FIXED = ("best_id", "unknown", "k", "entropy", "novelty_p", "agreement")


def feature_rows(cells: Cells) -> F32:
    """(n, 8) f32 in the order of `FEATURES`; booleans are 0 and 1. f32 holds pixel positions exactly."""
    return np.column_stack([cells.centroids_px, cells.boxes_px, cells.areas_um2, cells.touches_edge]).astype(np.float32)


def call_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of a calls table of an index with these classes."""
    shares = [f"vote_share:{name}" for name in classes]
    probabilities = [f"probability:{name}" for name in classes]
    neighbours = [f"neighbour_{rank}" for rank in range(NEIGHBOURS_KEPT)]
    return (*_FIXED, *shares, *probabilities, *neighbours)


def call_rows(calls: Calls) -> F32:
    """(n, columns) f32 in the order of `call_columns`; ids are exact up to 2**24."""
    fixed = np.column_stack(
        [calls.best_ids, calls.unknown, calls.k, calls.entropy, calls.novelty_p, calls.agreement],
    )
    return np.hstack([fixed, calls.vote_share, calls.probabilities, calls.neighbours]).astype(np.float32)


def state_counts(calls: Calls, counted: Bools, classes: Sequence[str]) -> dict[str, int]:
    """Cells a state among those with `counted` (n,): every class (0 included) and `unknown`."""
    known = counted & ~calls.unknown
    per_class = np.bincount(calls.best_ids[known], minlength=len(classes))
    counts = {name: int(per_class[class_id]) for class_id, name in enumerate(classes)}
    counts[UNKNOWN] = int(np.count_nonzero(counted & calls.unknown))
    return counts
