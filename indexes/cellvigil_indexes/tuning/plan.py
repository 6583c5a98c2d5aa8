"""Who is asked while a choice is made, and who is kept back to say how good it is. Pure: a bank in, splits out.

The best of many trials looks better on the cells it was chosen on than it is. So the choice is scored on cells that
had no part in it: one share kept back throughout, or, where cells are few, the outer folds of nested folds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.data import I64
from cellvigil.errors import UsageError
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.splitting import Split, folds, held_out, train_validation, units_of, units_per_class

SHARES = (0.90, 0.09, 0.01)
"""Training, validation and test, as published (EWC-FAISS, Frontiers in Oncology 2025, section 2.4)."""

FEW = 5_000
"""Cells below which folds are used: 1 % of them would be too few to say anything."""

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One honest look: choose on some cells, score on others."""

    choose_on: tuple[Split, ...]  # empty: the choice itself is scored
    score_on: Split


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The splits a choice is made on, and the cells it is then scored on."""

    splits: tuple[Split, ...]
    held: tuple[Held, ...]
    about: Mapping[str, Any]  # the rule as plain values, for the manifest
    chosen_on: str  # in words: what the best validation score is over
    scored_on: str  # in words: what the held-out score is over; "" where there is none


def shares_plan(bank: Bank, by: str, seeds: int, shares: Sequence[float] = SHARES) -> Plan:
    """A test share that no choice sees; the rest split into training and validation, once a seed.

    Raises UsageError for shares that are none, or as `train_validation` does.
    """
    train, validation, test = shares
    if min(train, validation) <= 0 or test < 0 or not abs(train + validation + test - 1) <= 1e-9:
        raise UsageError(f"shares {train:g}, {validation:g} and {test:g} must add up to 1", hint="90/9/1 as published")
    units = units_of(bank.groups, by)
    kept_back = held_out(bank.labels, units, test, 0) if test else np.zeros(0, dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(bank)), kept_back)
    part = validation / (train + validation)
    splits = tuple(
        _of_rows(train_validation(bank.labels[rest], units[rest], part, seed, bank.classes), rest)
        for seed in range(seeds)
    )
    held = (Held((), Split(rest, kept_back)),) if len(kept_back) else ()
    about = {"kind": "shares", "by": by, "shares": list(shares), "seeds": seeds}
    chosen_on = f"{_several(seeds, 'random split')} into {train:.0%} reference and {validation:.0%} validation cells"
    scored_on = f"{len(kept_back)} cells kept back throughout, once" if held else ""
    return Plan(splits, held, about, chosen_on, scored_on)


def folds_plan(bank: Bank, by: str, seeds: int, k: int | None = None) -> Plan:
    """So many folds a seed; for the honest look, the outer folds of the first seed, each with inner folds of its own.

    `k` None: 5, or fewer where the class with the fewest cells (or groups) has fewer. Raises UsageError as `folds`.
    """
    units = units_of(bank.groups, by)
    there = units_per_class(bank.labels, units, len(bank.classes))
    most = max(2, min(FOLDS, int(there[there > 0].min())))
    wanted = most if k is None else k
    outer = [folds(bank.labels, units, wanted, seed, bank.classes) for seed in range(seeds)]
    held = []
    for split in outer[0]:
        inside = bank.labels[split.reference], units[split.reference]
        fewest = units_per_class(*inside, len(bank.classes))
        inner = min(wanted, int(fewest[fewest > 0].min()))
        if inner >= 2:
            with contextlib.suppress(UsageError):  # groups that cannot be dealt again: one honest look fewer
                parts = folds(*inside, inner, 0, bank.classes)
                held.append(Held(tuple(_of_rows(part, split.reference) for part in parts), split))
    about = {"kind": "folds", "by": by, "folds": wanted, "seeds": seeds}
    scored_on = f"{len(held)} outer folds, each scored by what was chosen on the rest alone" if held else ""
    return Plan(tuple(split for each in outer for split in each), tuple(held), about, _folded(wanted, seeds), scored_on)


def separate_plan(bank: Bank, references: int, by: str) -> Plan:
    """The bank's first `references` cells answer, the others are asked; folds of the others for the honest look."""
    own, others = np.arange(references), np.arange(references, len(bank))
    units = units_of(bank.groups[others], by)
    labels = bank.labels[others]
    there = units_per_class(labels, units, len(bank.classes))
    k = min(FOLDS, int(there[there > 0].min()))
    parts = folds(labels, units, k, 0, bank.classes) if k >= 2 else []
    held = tuple(Held((Split(own, others[p.reference]),), Split(own, others[p.validation])) for p in parts)
    about = {"kind": "separate", "by": by, "folds": k if held else 0, "seeds": 1}
    scored_on = f"{k} folds of the same cells, each scored by what was chosen on the others" if held else ""
    return Plan((Split(own, others),), held, about, f"{len(others)} cells that are not in the index", scored_on)


def _of_rows(split: Split, rows: I64) -> Split:
    return Split(rows[split.reference], rows[split.validation])


def _folded(k: int, seeds: int) -> str:
    return f"{k} folds" + (f" under each of {seeds} seeds" if seeds > 1 else "")


def _several(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")
