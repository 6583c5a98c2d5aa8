"""Chooses the cells that are kept out of an index, so that certainty can be calibrated on cells it does not hold. Pure.

A conformal set covers ceil(0.9 (n + 1)) / (n + 1) of a class's cells by n calibration cells of it (`cellvigil.decide`):
just 0.9 for n of 9, 19, 29, ..., and up to 0.95 in between. So of each class such a number is aimed at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil import decide
from cellvigil.data import I64, Bools
from cellvigil.errors import UsageError
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.collected import Collected

PROMISE = 0.9
"""Share of cells whose class is to be in their conformal set."""

MOST = 999
"""Cells of one class that are set aside at most: the coverage they give scatters by 1 point, more would not help."""


def split(
    collected: Collected, classes: Sequence[str], share: float, seed: int = 0, *, k_min: int
) -> tuple[Collected, Collected | None]:
    """Part labelled cells into references and cells set aside, whole groups on either side, in the order they had.

    About `share` (0..1) of each class is set aside, rounded so that the coverage is as promised. A group that would
    leave one of its classes fewer than `k_min` references stays. None is set aside where fewer than 9 cells would be:
    they could rule nothing out. Which cells depends on their order, labels, groups and the seed only, never on their
    vectors. Raises UsageError for a share outside 0..1.
    """
    if not 0 <= share < 1:
        raise UsageError(f"the share to set aside, {share}, must be 0 or more and below 1")
    if share == 0 or not len(collected):
        return collected, None
    aside = chosen(collected.bank(classes), share, seed, k_min=k_min)
    if not aside.any():
        return collected, None
    return collected.rows(np.flatnonzero(~aside)), collected.rows(np.flatnonzero(aside))


def chosen(bank: Bank, share: float, seed: int = 0, *, k_min: int) -> Bools:
    """The rows of a bank that `split` sets aside, (n,) bool; none where they would be too few to rule anything out."""
    aside = np.isin(bank.groups, _taken(bank, share, seed, k_min))
    return aside if np.count_nonzero(aside) >= decide.needed(PROMISE) else np.zeros(len(bank), dtype=bool)


def wanted(cells: int, share: float) -> int:
    """How many of a class's cells to set aside: the nearest number that keeps the promise exactly.

    For a class too small for the least such number (9, at 0.9) just its share.
    """
    least = decide.needed(PROMISE)
    most = min(share * cells, MOST)
    if most < least / 2:
        return round(most)
    return max(1, round((most + 1) / (least + 1))) * (least + 1) - 1


def _taken(bank: Bank, share: float, seed: int, k_min: int) -> I64:
    """Group ids, chosen one by one in random order: each that fills more of what is lacking than it spills over."""
    classes = len(bank.classes)
    table = np.zeros((int(bank.groups.max()) + 1, classes), dtype=np.int64)
    np.add.at(table, (bank.groups, bank.labels), 1)
    left = table.sum(axis=0)
    lacking = np.array([wanted(int(cells), share) for cells in left])
    taken = []
    for group in np.random.default_rng(seed).permutation(len(table)).tolist():
        counts = table[group]
        fills = int(np.minimum(counts, np.maximum(lacking, 0)).sum())
        spares = ((left - counts >= k_min) | (counts == 0)).all()
        if fills and 2 * fills >= counts.sum() and spares:
            taken.append(group)
            lacking = lacking - counts
            left = left - counts
    return np.asarray(taken, dtype=np.int64)
