"""Scores an index: on labelled cells from elsewhere, or on its own cells held out. One call each, no printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import Bools
from cellvigil.decide import Rejection, Settings
from cellvigil.neighbours import open_search
from cellvigil.pipeline import called
from cellvigil_indexes.baselines import Baseline
from cellvigil_indexes.evaluating.answers import Certainty, answers_of, certainty, median_k, plain_scores
from cellvigil_indexes.evaluating.holdout import Deal, plain_calls
from cellvigil_indexes.evaluating.scoring import Scores, mean_and_spread, spread
from cellvigil_indexes.inputs import leaks
from cellvigil_indexes.inputs.collecting import Progress
from cellvigil_indexes.inputs.labelled import LabelledSet
from cellvigil_indexes.measures.reliability import mean_error
from cellvigil_indexes.target import embed_target, repeats
from cellvigil_indexes.threads import one_thread


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What evaluating an index on other cells found."""

    scores: Scores
    certainty: Certainty
    median_k: float  # neighbours used
    baselines: Mapping[str, Scores]  # fitted on the index's cells
    not_in_index: Mapping[str, int]  # target classes that the index does not have -> their cells; not scored
    copies: int  # cells of the target whose very picture is in the index: if any, the figures flatter
    near_copies: int | None = 0  # and those whose picture is nearly one of the index's; None: too many to look for
    told: tuple[str, ...] = ()  # what was left out of the target

    def warnings(self) -> list[str]:
        """What a person must know about the figures."""
        found = [
            f"{n} cells of {name} are not scored: the index lacks that class" for name, n in self.not_in_index.items()
        ]
        if self.copies:
            found.append(f"{self.copies} of the cells are in the index themselves: the figures flatter")
        if self.near_copies is None:
            found.append("near-copies of reference cells were not looked for: there are too many cells")
        elif self.near_copies > self.copies:
            found.append(f"{self.near_copies} of the cells are near-copies of reference cells: the figures flatter")
        return [*found, *self.told]


def evaluate(
    index: ReferenceIndex,
    target: LabelledSet,
    *,
    encoder_folder: Path,
    device: str,
    abstain: bool,
    progress: Progress,
    baselines: Mapping[str, Baseline] | None = None,
    rejection: Rejection | None = None,
) -> Evaluation:
    """Call the target's labelled cells by the index as the daemon does, and score the calls.

    Target classes that the index does not have (compared whatever their case) are counted and left out. `baselines`
    are fitted on the index's cells; `rejection` says what makes a cell unknown (default: nothing).

    Raises UsageError if no cell is left, or images and index do not fit together; BundleError for the encoders.
    """
    found = embed_target(index, target, encoder_folder=encoder_folder, device=device, progress=progress)
    bank = found.collected.bank(index.classes)
    calls = called(bank.embeddings, index, open_search(index), Settings.of(index), rejection=rejection)
    answers = answers_of(calls, bank.labels, sets_of(index, calls.conformal_set))
    with one_thread():
        plain = plain_calls(index, np.arange(len(index)), bank.embeddings, baselines or {})
    return Evaluation(
        scores=answers.scores(index.classes, abstain=abstain),
        certainty=certainty(answers, index.classes),
        median_k=median_k([answers]),
        baselines=plain_scores(answers.truth, plain, index.classes),
        not_in_index=found.not_in_index,
        copies=int(np.count_nonzero(repeats(index, found.collected) >= 0)),
        near_copies=leaks.between(index.thumbnails, found.collected.thumbnails),
        told=(*target.warnings, *found.collected.warnings),
    )


def sets_of(index: ReferenceIndex, sets: Bools) -> Bools | None:
    """The conformal sets, or None where the index was not calibrated for them and they hold every class."""
    return sets if index.calibration is not None and index.calibration.conformal is not None else None


def summary(deals: Sequence[Deal], classes: Sequence[str], *, abstain: bool = False) -> dict[str, Any]:
    """Deals of held-out cells as plain values: means by the name that a single evaluation has, deviations under "std".

    Confusions are added up, "per_class" is the mean; the reliability diagram and the curves are the first seed's.
    Raises UsageError if there is no cell to score.
    """
    runs = [deal.answers.scores(classes, abstain=abstain) for deal in deals]
    plain = [plain_scores(deal.answers.truth, deal.plain, classes) for deal in deals]
    sure = [certainty(deal.answers, classes) for deal in deals]
    return {
        "n": runs[0].n,
        "median_k": median_k([deal.answers for deal in deals]),
        **_flat(runs),
        "per_class": _per_class(runs),
        "confusion": _added([run.confusion for run in runs]),
        "baselines": {name: _flat([run[name] for run in plain]) for name in plain[0]},
        "calibration_error": _calibration_error(sure),
        "certainty": {**sure[0].as_dict(), "seeds": _over_seeds(sure)},
        "runs": [run.as_dict() for run in runs],
    }


def _calibration_error(sure: Sequence[Certainty]) -> float | None:
    there = [each.reliability for each in sure if each.reliability is not None]
    return mean_error(there) if there else None


def _over_seeds(sure: Sequence[Certainty]) -> dict[str, Any]:
    """Mean and deviation over seeds of each figure that every seed has."""
    values = {
        "calibration_squared": [each.reliability.squared if each.reliability else None for each in sure],
        "plug_in": [each.reliability.plug_in if each.reliability else None for each in sure],
        "probability_auroc": [each.probability.auroc if each.probability else None for each in sure],
        "probability_area": [each.probability.area if each.probability else None for each in sure],
        "papers_auroc": [each.papers.auroc if each.papers else None for each in sure],
        "papers_area": [each.papers.area if each.papers else None for each in sure],
        "covered": [each.conformal.covered if each.conformal else None for each in sure],
        "mean_size": [each.conformal.mean_size if each.conformal else None for each in sure],
    }
    there = {name: [v for v in found if v is not None] for name, found in values.items()}
    return {name: spread(found) if len(found) == len(sure) else None for name, found in there.items()}


def _per_class(runs: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Means over the runs that have the class."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.per_class):
        here = [run.per_class[name] for run in runs if name in run.per_class]
        keys = ("n", "recall", "precision", "f1")
        found[name] = {key: float(np.mean([getattr(each, key) for each in here])) for key in keys}
    return found


def _added(tables: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    return {true: {name: sum(table[true][name] for table in tables) for name in tables[0][true]} for true in tables[0]}


def _flat(runs: Sequence[Scores]) -> dict[str, Any]:
    found = mean_and_spread(runs)
    return {**{k: v["mean"] for k, v in found.items()}, "std": {k: v["std"] for k, v in found.items()}}
