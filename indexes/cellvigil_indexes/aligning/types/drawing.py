"""References drawn towards the target's cells of which the voters are surest, a class at a time. Not in the paper.

One map for all classes leaves each class where its own shift differs from the others'; a transport follows each cell,
and with it each wrong one. Half of a class's way to the half of its cells that are called most surely corrects the
first and stays short of the second. One round only: drawn again by its own calls, a class that is called too often
grows (benchmarks/README.md, "Another microscope": tried on a panel of transfers).

Pure: arrays in, arrays out.
"""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16
from cellvigil_indexes.aligning.types.frame import Standardised
from cellvigil_indexes.aligning.values import F64

SUREST = 0.5
"""Of the target's cells called a class, this share draws its references."""

STEP = 0.5
"""Of the way from the references' mean to that of those cells."""

FEWEST = 3
"""Cells that draw, where so many are called a class."""


def drawn(both: Standardised, labels: I16, seen: F64) -> dict[str, F32]:
    """The references as vectors of the target's device, encoder -> (N, d_e), each class drawn as a whole.

    `seen` (M, classes) is how the voters see the target's cells. A class that no cell is called stays where it is.
    """
    called, surely = seen.argmax(axis=1), seen.max(axis=1)
    moved = both.own.astype(np.float64)
    for label in np.unique(labels):
        cells = np.flatnonzero(called == label)
        surest = cells[np.argsort(-surely[cells], kind="stable")[: max(FEWEST, int(SUREST * len(cells)))]]
        if len(surest):
            own = labels == label
            moved[own] += STEP * (both.theirs[surest].mean(axis=0, dtype=np.float64) - moved[own].mean(axis=0))
    back = moved * both.spread + both.mean
    ends = np.cumsum(both.widths)
    return {
        name: np.ascontiguousarray(back[:, end - width : end], dtype=np.float32)
        for name, width, end in zip(both.names, both.widths, ends, strict=True)
    }
