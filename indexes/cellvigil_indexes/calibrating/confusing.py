"""How an index's calls go wrong, from reference cells that cells of other groups called: what shares are corrected by.

Counts of cells overstate what is known: cells of one image resemble each other, in how they are miscalled too. So each
class has a design effect (Kish, "Survey Sampling", 1965, section 5.4): 1 + (m - 1) rho, with m the mean number of cells
in the group of a cell, and rho the intra-class correlation of what cells are called, by the analysis of variance (Rao
and Scott, "The analysis of categorical data from complex sample surveys", JASA 1981, pool over the columns alike).

Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.confusion import IndexConfusion
from cellvigil.data import I16, I32, I64, CallConfusion
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calibrating.confidence import Witnessed

F64 = npt.NDArray[np.float64]

UNMEASURED = 0.1
"""Intra-class correlation where there are too few groups to measure it: counts of cells vary from well to well with
0.02 to 0.15 (`shared/reference`, "Counts and response").
"""

_POOLED, _OWN = 10, 20  # degrees of freedom between groups from which the classes' common figure, a class's own, count


def confusing(seen: Witnessed | None, bank: Bank, novel_below: float | None) -> IndexConfusion:
    """The confusions of an index. `seen` as `witnessed` gives it, with the index's own settings; None: too few cells.

    `novel_below`: where novel cells are rejected, as in `Calibration`.
    """
    if seen is None:
        return IndexConfusion(None, None, {"why_not": "other groups have too few cells to call a cell by them"})
    judged = seen.judged
    cells = np.bincount(seen.truth[judged], minlength=len(bank.classes))
    if lone := [name for name, n in zip(bank.classes, cells, strict=True) if not n]:
        why = f"no cell of {', '.join(lone)} can be judged by cells of other groups: all are of one group, or part"
        return IndexConfusion(None, None, {"why_not": why})
    truth, groups, unknown = seen.truth[judged], seen.groups[judged], len(bank.classes)
    plain, correlation, basis = _confusion(truth, seen.best[judged].astype(np.int64), groups, unknown)
    rejecting = None
    if novel_below is not None:
        novel = seen.novelty_p[judged] < novel_below  # never true of NaN
        column = np.where(novel, unknown, seen.best[judged]).astype(np.int64)
        rejecting = _confusion(truth, column, groups, unknown)[0]
    measured = {
        "how": "reference cells called by the cells of other groups, with the settings of the index",
        "cells": int(cells.sum()),
        "not_judged": int(np.count_nonzero(~judged)),
        "groups": [len(np.unique(groups[truth == class_id])) for class_id in range(unknown)],
        "correlation": correlation,
        "correlation_basis": basis,
    }
    return IndexConfusion(plain, rejecting, measured)


def _confusion(truth: I16, column: I64, groups: I32, unknown: int) -> tuple[CallConfusion, float | None, str]:
    """The table with its design effects, the correlation that the classes have in common, and what that rests on.

    With one cell a group nothing is known of how cells of one image resemble each other: they count as they are.
    """
    tables = [_by_group(column[truth == name], groups[truth == name], unknown + 1) for name in range(unknown)]
    pooled, between, within = correlation_of(tables)
    measured = between >= _POOLED and within >= _POOLED
    common = max(pooled, 0.0) if measured else max(pooled, UNMEASURED)
    effects = tuple(effect_of(table, common) for table in tables)
    found = CallConfusion(tuple(tuple(int(n) for n in table.sum(axis=0)) for table in tables), effects)
    if not within:
        return found, None, "one cell a group"
    return found, common, "groups" if measured else "default"


def effect_of(table: I64, common: float) -> float:
    """The design effect of one class, 1 or more. `table`: (groups, columns) cells; `common`: the classes' correlation.

    Its own correlation counts where it has groups enough and that is the larger: what is pooled may hide one class
    that fails by the image.
    """
    sizes = table.sum(axis=1)
    own, between, within = correlation_of([table])
    rho = max(common, own) if between >= _OWN and within >= _OWN else common
    return float(1 + (np.square(sizes).sum() / sizes.sum() - 1) * rho)


def correlation_of(tables: list[I64]) -> tuple[float, int, int]:
    """Intra-class correlation of the columns within classes, by one-way analysis of variance, and its two degrees of
    freedom, between and within groups; 0 where it is not to be had. Each table is (groups, columns) cells of a class.

    Squares are summed over the columns of a cell's indicator vector, and over the classes.
    """
    between = within = 0.0
    free_between = free_within = 0
    spread = 0.0  # cells that count in a group's mean: sum of N - sum n^2 / N
    for table in tables:
        sizes = table.sum(axis=1).astype(np.float64)
        whole = sizes.sum()
        own = np.square(table).sum(axis=1) / sizes
        mean = np.square(table.sum(axis=0)).sum() / whole
        between += float(own.sum() - mean)
        within += float(whole - own.sum())
        free_between += len(sizes) - 1
        free_within += int(whole) - len(sizes)
        spread += float(whole - np.square(sizes).sum() / whole)
    if not free_between or not free_within or between + within <= 0:
        return 0.0, free_between, free_within
    mean_size = spread / free_between
    outer, inner = between / free_between, within / free_within
    whole = outer + (mean_size - 1) * inner  # 0 where every group that could differ holds a single cell, and none does
    return float((outer - inner) / whole) if whole > 1e-9 else 0.0, free_between, free_within


def _by_group(column: I64, groups: I32, columns: int) -> I64:
    """(groups, columns) cells of one class."""
    _, place = np.unique(groups, return_inverse=True)
    table = np.zeros((int(place.max()) + 1, columns), dtype=np.int64)
    np.add.at(table, (place, column), 1)
    return table
