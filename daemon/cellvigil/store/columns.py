"""What the columns of the per-cell tables are, and how cells and calls become rows. Pure.

The names stand in each array's attributes, so a reader asks the array and not this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from cellvigil.data import F32, NEIGHBOURS_KEPT, UNKNOWN, UNKNOWN_REASONS, Bools, Calls, Cells

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
IN_SET = "in_set:"
"""Before a class name: whether the class is in the cell's conformal set; tables of older versions lack it."""

NOVEL_AT = np.float32(0.1)
"""A novelty p-value of at most this is counted as novel: of cells like the reference's, a tenth is."""

TYPICAL_ABOVE = 0.5
"""One above this is counted as typical: of cells like the reference's, half is. A mild shift takes these away long
before it makes cells novel (benchmarks/mixtures.py: a blur of 0.2 um leaves 0.16 of 0.5, and 0.16 are novel)."""

_FIXED = ("best_id", "unknown", "k", "entropy", "novelty_p", "agreement")


def feature_rows(cells: Cells) -> F32:
    """(n, 8) f32 in the order of `FEATURES`; booleans are 0 and 1. f32 holds pixel positions exactly."""
    return np.column_stack([cells.centroids_px, cells.boxes_px, cells.areas_um2, cells.touches_edge]).astype(np.float32)


def call_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of a calls table of an index with these classes.

    What a later version adds stands behind what was there: the columns of an older table are the first ones.
    `unknown` holds the reason by its position in `UNKNOWN_REASONS`, 0 where the cell is known.
    """
    shares = [f"vote_share:{name}" for name in classes]
    probabilities = [f"probability:{name}" for name in classes]
    neighbours = [f"neighbour_{rank}" for rank in range(NEIGHBOURS_KEPT)]
    sets = [f"{IN_SET}{name}" for name in classes]
    return (*_FIXED, *shares, *probabilities, *neighbours, *sets)


def call_rows(calls: Calls) -> F32:
    """(n, columns) f32 in the order of `call_columns`; ids are exact up to 2**24."""
    reasons = np.array([UNKNOWN_REASONS.index(reason) for reason in calls.unknown_reason], dtype=np.float32)
    fixed = np.column_stack([calls.best_ids, reasons, calls.k, calls.entropy, calls.novelty_p, calls.agreement])
    blocks = [fixed, calls.vote_share, calls.probabilities, calls.neighbours, calls.conformal_set]
    return np.hstack(blocks).astype(np.float32)


def calls_from(rows: F32, classes: Sequence[str], bundle_sha256: str, voters: int = 1) -> Calls:
    """What `call_rows` made rows of, (n, columns) f32; of tables of older versions, every class is in every set."""
    count, fixed = len(classes), len(_FIXED)
    best, reasons, k, entropy, novelty_p, agreement = rows[:, :fixed].T
    starts = [fixed, fixed + count, fixed + 2 * count, fixed + 2 * count + NEIGHBOURS_KEPT]
    shares, probabilities, neighbours = (rows[:, start:end] for start, end in itertools.pairwise(starts))
    sets = rows[:, starts[-1] : starts[-1] + count]
    return Calls(
        best_ids=best.astype(np.int16),
        unknown=reasons > 0,
        unknown_reason=tuple(UNKNOWN_REASONS[int(reason)] for reason in reasons),
        probabilities=probabilities,
        conformal_set=sets > 0 if sets.shape[1] == count else np.ones((len(rows), count), dtype=np.bool_),
        vote_share=shares,
        entropy=entropy,
        k=k.astype(np.int32),
        novelty_p=novelty_p,
        agreement=agreement,
        neighbours=neighbours.astype(np.int32),
        bundle_sha256=bundle_sha256,
        voters=voters,
    )


def state_counts(calls: Calls, counted: Bools, classes: Sequence[str]) -> dict[str, int]:
    """Cells a state among those with `counted` (n,): every class (0 included) and `unknown`."""
    known = counted & ~calls.unknown
    per_class = np.bincount(calls.best_ids[known], minlength=len(classes))
    counts = {name: int(per_class[class_id]) for class_id, name in enumerate(classes)}
    counts[UNKNOWN] = int(np.count_nonzero(counted & calls.unknown))
    return counts


def certainty(calls: Calls, counted: Bools) -> dict[str, float]:
    """How sure the calls of the cells with `counted` (n,) are, as sums that well and plate can add up.

    "rated" cells have a calibrated probability of their best class, "probability" is the sum of those; "tested" cells
    have a novelty p-value, "novel" of them one of at most `NOVEL_AT`, "typical" one above `TYPICAL_ABOVE`. Where the
    index has several voters, "voted" cells are all of them and "agreement" is the sum of their agreements.
    """
    best = calls.probabilities[np.arange(len(calls)), calls.best_ids][counted].astype(np.float64)
    rated = best[np.isfinite(best)]
    novelty = calls.novelty_p[counted]
    tested = novelty[np.isfinite(novelty)]
    agreement = calls.agreement[counted].astype(np.float64)
    voted = {"voted": len(agreement), "agreement": round(float(agreement.sum()), 6)} if calls.voters > 1 else {}
    return {
        "rated": len(rated),
        "probability": round(float(rated.sum()), 6),
        "tested": len(tested),
        "novel": int(np.count_nonzero(tested <= NOVEL_AT)),
        "typical": int(np.count_nonzero(tested > TYPICAL_ABOVE)),
        **voted,
    }
