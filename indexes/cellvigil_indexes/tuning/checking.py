"""How good a choice is on cells that had no part in it. Arrays in, figures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.evaluating.scoring import score
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import Split
from cellvigil_indexes.tuning.choice import Tuned
from cellvigil_indexes.tuning.choose import Progress, choose
from cellvigil_indexes.tuning.grid import Grid
from cellvigil_indexes.tuning.plan import Plan
from cellvigil_indexes.tuning.voting import DIGITS


@dataclass(frozen=True, slots=True)
class Checked:
    """The honest figure beside the best validation score."""

    scores: tuple[float, ...]  # macro accuracy, 0..1, one a held-out part; empty: there was none, or no time for it
    cells: int  # that were scored
    how: str  # in words
    planned: int  # parts there were to score; more than `scores` has where it was interrupted

    @property
    def mean(self) -> float | None:
        """Over the parts; None if there is none."""
        return float(np.mean(self.scores)) if self.scores else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the parts; None below two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {"mean": self.mean, "sd": self.sd, "parts": len(self.scores), "cells": self.cells, "how": self.how}


def checked(
    bank: Bank, grid: Grid, plan: Plan, tuned: Tuned, progress: Callable[[int], Progress | None] | None = None
) -> Checked:
    """Score the choice, or for nested folds the choice that is made without each part, on the parts kept back.

    `progress` gives what is told of the choice for a part, by the part's number. A KeyboardInterrupt keeps the parts
    that are done.
    """
    scores: list[float] = []
    cells = 0
    try:
        for number, held in enumerate(plan.held):
            tell = progress(number) if progress else None
            chosen = choose(bank, grid, held.choose_on, tell) if held.choose_on else tuned
            if chosen.interrupted and held.choose_on:
                break
            scores.append(macro_accuracy(bank, held.score_on, chosen.encoders, chosen.settings))
            cells += len(held.score_on.validation)
    except KeyboardInterrupt:
        pass  # what is scored already stands; the caller sees by `planned` that some is missing
    return Checked(tuple(scores), cells, plan.scored_on, len(plan.held))


def macro_accuracy(bank: Bank, split: Split, encoders: Sequence[str], settings: IndexSettings) -> float:
    """Mean recall when an index of the split's reference cells calls its validation cells: slow, obvious, exact."""
    asked = bank.rows(split.validation)
    called = ewc(bank.rows(split.reference), asked.embeddings, settings, encoders)
    truth, best = ([bank.classes[i] for i in ids] for ids in (asked.labels, called.best))
    return round(score(truth, best, bank.classes).balanced_accuracy, DIGITS)
