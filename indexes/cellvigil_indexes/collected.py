"""Labelled cells with their vectors, on their way into an index or back out of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.bundle.index import ReferenceCell
from cellvigil.data import I64, U8, Embeddings, ImageRule
from cellvigil_indexes.bank import Bank


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """Row i of everything is cell i."""

    cells: Sequence[ReferenceCell]
    embeddings: Embeddings  # encoder name -> (N, d_e) f32
    thumbnails: U8  # (N, 64, 64, C)
    image_rule: ImageRule | None = None  # that the pictures were made by; None: not known
    warnings: Sequence[str] = ()  # what a person must know about these cells

    def __len__(self) -> int:
        return len(self.cells)

    def rows(self, rows: I64) -> Collected:
        """These cells only."""
        return Collected(
            [self.cells[row] for row in rows.tolist()],
            {name: np.asarray(block[rows]) for name, block in self.embeddings.items()},
            np.asarray(self.thumbnails[rows]),
            self.image_rule,
        )

    def bank(self, classes: Sequence[str]) -> Bank:
        """The same cells as plain arrays; groups are numbered in alphabetical order."""
        _, groups = np.unique([cell.group for cell in self.cells], return_inverse=True)
        ids = {name: class_id for class_id, name in enumerate(classes)}
        labels = np.array([ids[cell.class_name] for cell in self.cells], dtype=np.int16)
        return Bank(tuple(classes), self.embeddings, labels, groups.astype(np.int32))
