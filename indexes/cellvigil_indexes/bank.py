"""Labelled vectors: what tuning, evaluating, calibrating and reporting work on, whether or not an index holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I16, I32, I64, Embeddings, frozen_array
from cellvigil.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """n labelled cells. Row i of every array is cell i."""

    classes: tuple[str, ...]  # names by class id
    embeddings: Embeddings  # encoder name -> (n, d_e) f32 (or f16, memory-mapped)
    labels: I16  # (n,) class ids
    groups: I32  # (n,) group ids: the cells of one image, plate or donor; they stay on one side of a split

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> I64:
        """Cells of each class, (classes,) i64."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def rows(self, rows: I64) -> Bank:
        """These cells only, a copy of their rows."""
        return replace(
            self,
            embeddings={name: frozen_array(block[rows]) for name, block in self.embeddings.items()},
            labels=frozen_array(self.labels[rows]),
            groups=frozen_array(self.groups[rows]),
        )


def check_same_encoders(bank: Bank, cells: Embeddings) -> None:
    """Raises UsageError for an encoder of which only one side, references or target cells, has vectors."""
    if missing := sorted(set(bank.embeddings) ^ set(cells)):
        side = "the target" if missing[0] in bank.embeddings else "the reference"
        what = f"{side} has no vectors of {', '.join(missing)}"
        raise UsageError(what, hint="embed both with the same encoders")


def bank_of(index: ReferenceIndex) -> Bank:
    """The reference cells of an index, with every encoder's vectors that it keeps, used or not."""
    return Bank(index.classes, index.embeddings, index.labels, index.cell_groups)
