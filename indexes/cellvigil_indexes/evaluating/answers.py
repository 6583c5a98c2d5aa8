"""What was said of labelled cells by references that hold none of them, and the figures that follow from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import I16, I32, I64, UNKNOWN, Bools, Calls
from cellvigil_indexes.evaluating.scoring import Scores, score
from cellvigil_indexes.measures.coverage import Coverage, coverage
from cellvigil_indexes.measures.reliability import Reliability, reliability
from cellvigil_indexes.measures.selective import Selective, selective

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What n labelled cells were called. Row i of everything is one cell."""

    truth: I16  # (n,) class ids
    best: I16  # (n,) class ids
    unknown: Bools  # (n,)
    papers: F64  # (n,) the papers' certainty 1 - H, 0..1
    probability: F64  # (n,) calibrated probability that `best` is right; NaN where there is none
    sets: Bools | None  # (n, classes) conformal sets; None where there are none
    k: I32  # (n,) neighbours used

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def right(self) -> Bools:
        """Whether the best class is the true one, unknown or not, (n,)."""
        return np.asarray(self.best == self.truth)

    def scores(self, classes: Sequence[str], *, abstain: bool = False) -> Scores:
        """The figures of `scoring.score`. Raises UsageError if there is no cell to score."""
        names = np.array([*classes, UNKNOWN], dtype=object)
        called = np.where(self.unknown, len(classes), self.best)
        return score(names[self.truth].tolist(), names[called].tolist(), classes, abstain=abstain)


@dataclass(frozen=True, slots=True, eq=False)
class Certainty:
    """How far the answers' certainties can be trusted; None for what was not there."""

    reliability: Reliability | None  # of the calibrated probability
    probability: Selective | None  # leaving out by the calibrated probability
    papers: Selective | None  # leaving out by the papers' 1 - H
    conformal: Coverage | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by field."""
        parts = {name: getattr(self, name) for name in ("reliability", "probability", "papers", "conformal")}
        return {name: None if part is None else part.as_dict() for name, part in parts.items()}


def answers_of(calls: Calls, truth: I16, sets: Bools | None) -> Answers:
    """The part of calls that is held against labels. `sets`: None where no index was calibrated for them."""
    return Answers(
        truth=truth,
        best=calls.best_ids,
        unknown=calls.unknown,
        papers=1 - calls.entropy.astype(np.float64),
        probability=calls.probabilities[np.arange(len(calls)), calls.best_ids].astype(np.float64),
        sets=sets,
        k=calls.k,
    )


def joined(parts: Sequence[Answers]) -> Answers:
    """The parts one after the other; sets only if all have them."""
    sets = [part.sets for part in parts if part.sets is not None]
    return Answers(
        truth=np.concatenate([part.truth for part in parts]),
        best=np.concatenate([part.best for part in parts]),
        unknown=np.concatenate([part.unknown for part in parts]),
        papers=np.concatenate([part.papers for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
        sets=np.concatenate(sets) if len(sets) == len(parts) else None,
        k=np.concatenate([part.k for part in parts]),
    )


def certainty(answers: Answers, classes: Sequence[str]) -> Certainty:
    """Judge what the answers say of themselves. Cells without a probability are left out of what needs one."""
    there = np.isfinite(answers.probability)
    probability, right = answers.probability[there], answers.right[there]
    return Certainty(
        reliability=reliability(probability, right),
        probability=selective(probability, right),
        papers=selective(answers.papers, answers.right),
        conformal=None if answers.sets is None else coverage(answers.sets, answers.truth, classes),
    )


def median_k(runs: Sequence[Answers]) -> float:
    """The median of the neighbours used, over all runs."""
    used: I64 = np.concatenate([run.k for run in runs]).astype(np.int64)
    return float(np.median(used))


def plain_scores(truth: I16, best: Mapping[str, I16], classes: Sequence[str]) -> dict[str, Scores]:
    """The figures of methods that never abstain, by name."""
    names = np.array(classes, dtype=object)
    return {name: score(names[truth].tolist(), names[called].tolist(), classes) for name, called in best.items()}
