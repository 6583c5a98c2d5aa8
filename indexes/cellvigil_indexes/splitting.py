"""Deals labelled cells out: folds, and shares for training, validation and test. Pure: labels and groups in, rows out.

Stratified by class, and the same for the same seed. Cells of one unit (an image, donor, plate or batch; a cell alone
where cells are dealt singly) land on one side, because cells of one unit resemble each other more than new cells will.
The published split is 90 % training, 9 % validation and 1 % test (EWC-FAISS, Frontiers in Oncology 2025, section 2.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.data import I16, I32, I64, frozen_array
from cellvigil.errors import UsageError

F64 = npt.NDArray[np.float64]
_MEND = "fewer folds, --split-by cell, more cells of it, or `drop` the class"


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Who is asked, and who answers: rows of one bank, ascending."""

    reference: I64  # rows that the others are called by
    validation: I64  # rows that are called, and scored

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", frozen_array(self.reference, np.int64))
        object.__setattr__(self, "validation", frozen_array(self.validation, np.int64))


def units_of(groups: I32, by: str) -> I64:
    """(n,) unit ids: the groups ("group"), or every cell its own ("cell"). Raises UsageError for another rule."""
    if by == "group":
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)
    if by == "cell":
        return np.arange(len(groups), dtype=np.int64)
    raise UsageError(f"cells cannot be split by {by!r}", hint="use group or cell")


def usual_unit(groups: I32) -> str:
    """The rule "group" where some group has more than one cell, else "cell"."""
    return "group" if len(np.unique(groups)) < len(groups) else "cell"


def units_per_class(labels: I16, units: I64, classes: int) -> I64:
    """How many units have cells of each class, (classes,) i64: as many parts can hold the class."""
    pairs = np.unique(np.stack([labels.astype(np.int64), units], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=classes).astype(np.int64)


def folds(labels: I16, units: I64, k: int, seed: int, names: Sequence[str] = ()) -> list[Split]:
    """As many splits as k; every cell is in exactly one validation part. `units` as `units_of` gives them.

    Raises UsageError, with the class's name out of `names`, if a class has cells in fewer than k units: some fold could
    not ask for it, or not answer.
    """
    if k < 2:
        raise UsageError(f"{k} folds are no folds", hint="2 or more")
    _check_units(labels, units, k, f"{k} folds", names)
    part = dealt(labels, units, [1 / k] * k, seed)
    found = [Split(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(k)]
    for split in found:
        _check_answers(labels, split, names)
    return found


def train_validation(labels: I16, units: I64, share: float, seed: int, names: Sequence[str] = ()) -> Split:
    """Hold this share of the cells out for validation; every class keeps units on both sides.

    Raises UsageError, with the class's name out of `names`, if a class has too few units for that.
    """
    _check_units(labels, units, 2, "a training and a validation side", names)
    part = dealt(labels, units, [1 - share, share], seed)
    for class_id in np.unique(labels):
        _lend(part, labels, units, int(class_id))
    split = Split(np.flatnonzero(part == 0), np.flatnonzero(part == 1))
    _check_answers(labels, split, names)
    return split


def held_out(labels: I16, units: I64, share: float, seed: int) -> I64:
    """About this share of the cells, rows ascending: of each class as much, in whole units; none where units are large.

    Every class keeps at least 2 units outside.
    """
    part = dealt(labels, units, [1 - share, share], seed)
    for class_id in np.unique(labels):
        outside = np.unique(units[(labels == class_id) & (part == 0)])
        inside = np.unique(units[(labels == class_id) & (part == 1)])
        for unit in inside[: max(0, 2 - len(outside))]:
            part[units == unit] = 0
    return np.flatnonzero(part == 1).astype(np.int64)


def dealt(labels: I16, units: I64, shares: Sequence[float], seed: int) -> I64:
    """A part 0..len(shares) - 1 for every cell, (n,) i64; whole units, each class in these shares as nearly as can be.

    Single cells are dealt class by class. Larger units go, largest first (those of one size in random order), to the
    part whose shares they mend most: the least growth of sum (f - s)^2 / s over classes, f being the part's share of
    the class's cells and s what it should be.
    """
    rng = np.random.default_rng(seed)
    if len(np.unique(units)) == len(units):
        return _dealt_cells(labels, shares, rng)
    by_class = np.zeros((int(units.max()) + 1, int(labels.max()) + 1))
    np.add.at(by_class, (units, labels), 1)
    weights = by_class / np.maximum(by_class.sum(axis=0), 1)
    sizes = by_class.sum(axis=1)
    mixed = rng.permutation(len(sizes))
    wanted = np.asarray(shares, dtype=np.float64)[:, None]
    filled = np.zeros((len(shares), by_class.shape[1]))
    part = np.zeros(len(sizes), dtype=np.int64)
    for unit in mixed[np.argsort(-sizes[mixed], kind="stable")]:
        growth = ((2 * (filled - wanted) + weights[unit]) * weights[unit] / wanted).sum(axis=1)
        part[unit] = int(np.argmin(np.round(growth, 12)))
        filled[part[unit]] += weights[unit]
    return part[units]


def _dealt_cells(labels: I16, shares: Sequence[float], rng: np.random.Generator) -> I64:
    part = np.zeros(len(labels), dtype=np.int64)
    for class_id in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == class_id))
        start = (
            rng.uniform() if len(rows) < 2 * len(shares) else 0.5
        )  # the few of a small class are not always part 0's
        place = (np.arange(len(rows)) + start) / len(rows)
        part[rows] = np.minimum(np.searchsorted(np.cumsum(shares), place, side="right"), len(shares) - 1)
    return part


def _lend(part: I64, labels: I16, units: I64, class_id: int) -> None:
    """Where a class is on one side only, move its smallest unit over."""
    here = labels == class_id
    for missing in (0, 1):
        if not np.any(part[here] == missing):
            own, sizes = np.unique(units[here], return_counts=True)
            part[units == own[int(np.argmin(sizes))]] = missing


def _check_units(labels: I16, units: I64, wanted: int, what: str, names: Sequence[str]) -> None:
    there = units_per_class(labels, units, int(labels.max()) + 1)
    for class_id in np.flatnonzero((there > 0) & (there < wanted)):
        single = len(np.unique(units)) == len(units)
        kind = ("cell{}" if single else "group{} of cells").format("s" if there[class_id] > 1 else "")
        has = f"class {_name(int(class_id), names)} has {there[class_id]} {kind}"
        raise UsageError(f"{has}, too few for {what}", hint=_MEND)


def _check_answers(labels: I16, split: Split, names: Sequence[str]) -> None:
    """A class that is asked for must be among the references."""
    alone = np.setdiff1d(labels[split.validation], labels[split.reference])
    if alone.size:
        raise UsageError(f"all groups of class {_name(int(alone[0]), names)} fell on one side of a split", hint=_MEND)


def _name(class_id: int, names: Sequence[str]) -> str:
    return names[class_id] if names else f"number {class_id}"
