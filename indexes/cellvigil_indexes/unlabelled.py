"""Cells of another device as vectors: what an index is aligned to. Their labels, where they have any, stay out of it.

A share of them is kept out of the fit as witnesses: what lies far from the aligned references is told by cells that
the alignment has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.data import I32, I64, Embeddings
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.choosing import FEWEST
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.splitting import dealt, units_of, usual_unit

WITNESSES = 0.2
"""Share of the target's cells that no fit sees."""


@dataclass(frozen=True, slots=True, eq=False)
class Unlabelled:
    """m cells of a target. Row i of everything is cell i."""

    embeddings: Embeddings  # encoder name -> (m, d_e) f32
    groups: I32  # (m,) group ids: images, or wells of a store
    names: Sequence[str]  # the class that the input happens to say, "" where it says none: for scoring alone
    provenance: Mapping[str, Any]  # where the cells came from, for a person
    warnings: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.groups)

    def vectors(self, rows: I64) -> dict[str, np.ndarray]:
        """The vectors of these cells, by encoder."""
        return {name: np.asarray(block[rows], dtype=np.float32) for name, block in self.embeddings.items()}


def unlabelled(collected: Collected, provenance: Mapping[str, Any], warnings: Sequence[str] = ()) -> Unlabelled:
    """Embedded cells as a target."""
    _, groups = np.unique([cell.group for cell in collected.cells], return_inverse=True)
    return Unlabelled(
        embeddings=collected.embeddings,
        groups=groups.astype(np.int32),
        names=[cell.class_name for cell in collected.cells],
        provenance=provenance,
        warnings=(*warnings, *collected.warnings),
    )


def parted(groups: I32, share: float, seed: int) -> tuple[I64, I64]:
    """Rows to fit on, and witnesses: about `share` of the cells and at least one, in whole groups where there are any.

    Raises UsageError for fewer than `FEWEST` cells.
    """
    cells = len(groups)
    if cells < FEWEST:
        what = f"the target has {cells} cells, and fewer than {FEWEST} tell nothing of a device"
        raise UsageError(what, hint="give more images of it; hundreds are better")
    nothing = np.zeros(cells, dtype=np.int16)
    part = dealt(nothing, units_of(groups, usual_unit(groups)), [1 - share, share], seed)
    if not 0 < np.count_nonzero(part) <= cells / 2:  # few large groups: then single cells
        part = dealt(nothing, units_of(groups, "cell"), [1 - share, share], seed)
    return np.flatnonzero(part == 0).astype(np.int64), np.flatnonzero(part == 1).astype(np.int64)
