"""What near-copies among labelled cells do to the figures, in words: a copy on either side of a split flatters them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil.bundle.index import ReferenceCell
from cellvigil.data import I64, U8
from cellvigil_indexes.inputs import likeness

_MOST = 100_000  # cells among which near-copies are looked for; more would take minutes


def within(cells: Sequence[ReferenceCell], thumbnails: U8) -> list[str]:
    """Near-copies that lie in different groups, or under different classes; thumbnails (n, 64, 64, C)."""
    if len(cells) > _MOST:
        return [f"near-copies were not looked for: more than {_MOST} cells"]
    pairs = likeness.copies(thumbnails)
    told = []
    across = likeness.straddling(pairs, [cell.group for cell in cells])
    if len(across):
        what = f"{len(across)} pairs of near-copies lie in different groups ({_pair(across, cells)})"
        told.append(f"{what}: a split by group leaks; group them by --split-by, or --drop-duplicates")
    against = likeness.conflicting(pairs, [cell.class_name for cell in cells])
    if len(against):
        told.append(f"{len(against)} pairs of near-copies are of different classes ({_pair(against, cells)})")
    return told


def between(references: U8, targets: U8) -> int | None:
    """How many target cells are near-copies of a reference cell, by their thumbnails; None if too many to compare."""
    if len(references) + len(targets) > _MOST:
        return None
    if references.shape[3] != targets.shape[3]:
        return 0
    pairs = likeness.copies(np.concatenate([references, targets]))
    return len(np.unique(pairs[(pairs[:, 0] < len(references)) & (pairs[:, 1] >= len(references)), 1]))


def _pair(pairs: I64, cells: Sequence[ReferenceCell]) -> str:
    first, second = (cells[row] for row in pairs[0].tolist())
    return f"{first.image}, {first.class_name}, and {second.image}, {second.class_name}"
