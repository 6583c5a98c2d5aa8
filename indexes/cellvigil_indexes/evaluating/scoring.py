"""How good calls are against labels. Pure: class names in, figures out.

Balanced accuracy (the papers' macro accuracy) is the mean recall of the classes that the target has; macro precision,
their mean precision (0 for a class never called); weighted F1, their F1 weighted by their cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cellvigil.data import I64, UNKNOWN
from cellvigil.errors import UsageError

HEADLINES = ("balanced_accuracy", "macro_precision", "weighted_f1", "accuracy", "unknown_ratio")
"""The figures that tables show and runs are averaged over."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of the target."""

    n: int  # its cells in the target
    recall: float
    precision: float  # 0 where the class was never called
    f1: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of one evaluation; ratios 0..1."""

    n: int  # cells that were scored
    balanced_accuracy: float
    macro_precision: float
    weighted_f1: float
    accuracy: float
    unknown_ratio: float  # of the cells, called unknown
    abstain: bool  # cells called unknown were left out of the other figures; else they count as wrong
    per_class: dict[str, ClassScore]  # classes that the target has
    confusion: dict[str, dict[str, int]]  # true class -> called class or "unknown" -> cells

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `evaluate --json` prints them."""
        return asdict(self)


def score(truth: Sequence[str], called: Sequence[str], classes: Sequence[str], *, abstain: bool = False) -> Scores:
    """Score calls (class names or "unknown") against the true class names, which must all be among `classes`.

    Raises UsageError if there is no cell, or with `abstain` none that was called.
    """
    columns = [*classes, UNKNOWN]
    position = {name: i for i, name in enumerate(columns)}
    table = np.zeros((len(classes), len(columns)), dtype=np.int64)
    np.add.at(table, ([position[name] for name in truth], [position[name] for name in called]), 1)
    scored = table[:, :-1] if abstain else table
    if not scored.sum():
        raise UsageError("there is no cell to score", hint="every cell was called unknown" if len(truth) else "")
    per_class = _per_class(scored, classes)
    present = list(per_class.values())
    support = sum(each.n for each in present)
    return Scores(
        n=support,
        balanced_accuracy=float(np.mean([each.recall for each in present])),
        macro_precision=float(np.mean([each.precision for each in present])),
        weighted_f1=sum(each.n * each.f1 for each in present) / support,
        accuracy=int(np.trace(scored)) / support,
        unknown_ratio=int(table[:, -1].sum()) / len(truth),
        abstain=abstain,
        per_class=per_class,
        confusion={name: dict(zip(columns, table[i].tolist(), strict=True)) for i, name in enumerate(classes)},
    )


def _per_class(scored: I64, classes: Sequence[str]) -> dict[str, ClassScore]:
    """The classes with cells in the table (true class by row, called class by column, unknown last if it counts)."""
    made = scored.sum(axis=0)
    result = {}
    for i, name in enumerate(classes):
        cells, right = int(scored[i].sum()), int(scored[i, i])
        if cells:
            precision = right / int(made[i]) if made[i] else 0.0
            result[name] = ClassScore(cells, right / cells, precision, 2 * right / (cells + int(made[i])))
    return result


def mean_and_spread(runs: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation (0 for one run) of the headline figures over several runs."""
    return {name: spread([float(getattr(run, name)) for run in runs]) for name in HEADLINES}


def spread(values: Sequence[float]) -> dict[str, float]:
    """The "mean" and sample standard deviation "std" (0 for one value)."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1 if len(values) > 1 else 0))}
