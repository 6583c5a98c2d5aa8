"""Cells dealt into subsets that a transport can hold. Pure: arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from cellvigil.data import I16, I64


def dealt(cells: int, size: int, rng: np.random.Generator, labels: I16 | None = None) -> tuple[I64, ...]:
    """Rows 0..cells-1 in as few subsets of at most `size` as hold them, equally large to one cell, in random order.

    With labels (cells,), every class is spread evenly over the subsets. A single subset keeps the rows' order.
    """
    parts = -(-cells // size)
    if parts <= 1:
        return (np.arange(cells),)
    order = rng.permutation(cells)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    return tuple(np.sort(order[part::parts]) for part in range(parts))
