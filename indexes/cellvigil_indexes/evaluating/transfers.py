"""Scores alignments of one index to one target side by side, with what they must beat. One call, no printing.

Every fit sees the target's vectors and no label. Cells of classes that the index lacks are in the fit, as they would be
in earnest; they are not scored, but asked whether they ended apart. A cell that ends in a class of its own kind of
cluster ("unmatched 1"), or unknown, is not called right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I64, UNKNOWN, Embeddings
from cellvigil.decide import Rejection, Settings
from cellvigil.errors import UsageError
from cellvigil.neighbours import open_search
from cellvigil.pipeline import called
from cellvigil_indexes.aligned import aligned_index
from cellvigil_indexes.aligning.recorded import record_of
from cellvigil_indexes.baselines import Baseline
from cellvigil_indexes.carrying import Asked, carried
from cellvigil_indexes.evaluating.holdout import plain_calls
from cellvigil_indexes.evaluating.scoring import Scores, score
from cellvigil_indexes.measures.intervals import balanced_interval
from cellvigil_indexes.threads import one_thread
from cellvigil_indexes.unlabelled import Unlabelled

UNALIGNED = "unaligned"
_RECORDED = ("accepted", "kept", "dropped", "shares", "votes", "voters", "unmatched")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One row of the comparison."""

    name: str  # "unaligned", "align fgw", or a baseline's
    scores: Scores | None  # None: the fit could not be made
    interval: tuple[float, float] | None  # of the balanced accuracy, 95 %
    apart: Mapping[str, float] = field(default_factory=dict)  # class that the index lacks -> share called no known one
    found: Mapping[str, Any] = field(default_factory=dict)  # of an alignment: what its record says
    why_not: str = ""  # why the fit could not be made

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scores = {} if self.scores is None else self.scores.as_dict()
        return {
            **scores,
            "interval": self.interval,
            "apart": dict(self.apart),
            "alignment": dict(self.found) or None,
        } | ({"why_not": self.why_not} if self.why_not else {})


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """All rows, and what they were scored on."""

    choices: Sequence[Choice]
    fitted: int  # cells of the target that the fits saw
    scored: int
    transductive: bool  # the scored cells were among them
    foreign: Mapping[str, int]  # classes that the index lacks -> cells that were asked
    unnamed: int  # cells whose class nobody says


def compare(
    index: ReferenceIndex,
    target: Unlabelled,
    asked: Sequence[Asked],
    *,
    fit: I64,
    ask: I64,
    baselines: Mapping[str, Baseline],
    rejection: Rejection,
    abstain: bool,
    step: Callable[[int, int], None],
) -> Compared:
    """Score the index as it is, the baselines, and each alignment, on the cells `ask`; alignments see the cells `fit`.

    Raises UsageError if no cell of `ask` is of a class of the index, or if no alignment at all can be fitted.
    """
    names = np.array(target.names, dtype=object)[ask]
    known = np.isin(names, list(index.classes))
    if not known.any():
        raise UsageError(f"no labelled cell is of the index's classes: {', '.join(index.classes)}")
    sheet = _Sheet(index, names, known, np.asarray(target.groups[ask]), abstain)
    queries, seen = target.vectors(ask), target.vectors(fit)
    choices = [sheet.row(UNALIGNED, names_called(index, queries, rejection))]
    with one_thread():
        plain = plain_calls(index, np.arange(len(index)), queries, baselines)
    choices += [sheet.row(name, [index.classes[i] for i in best.tolist()]) for name, best in plain.items()]
    for number, how in enumerate(asked, start=1):
        choices.append(_aligned(sheet, seen, queries, how, rejection))
        step(number, len(asked))
    if asked and not any(choice.found for choice in choices):
        raise UsageError(f"no alignment can be fitted: {choices[-1].why_not}")
    foreign = {str(name): int((names == name).sum()) for name in dict.fromkeys(names[~known].tolist()) if name}
    return Compared(
        choices=choices,
        fitted=len(fit),
        scored=int(known.sum()),
        transductive=bool(np.isin(ask, fit).any()),
        foreign=foreign,
        unnamed=int((names == "").sum()),
    )


def _aligned(sheet: _Sheet, seen: Embeddings, queries: Embeddings, how: Asked, rejection: Rejection) -> Choice:
    name, index = f"align {how.method}", sheet.index
    try:
        alignment = carried(index, seen, how)
        whole = aligned_index(index, alignment)
    except UsageError as error:
        return Choice(name, None, None, why_not=str(error))
    record = record_of(alignment, index.classes)
    found = {key: record[key] for key in _RECORDED} | {"told": record["told"]}
    return sheet.row(name, names_called(whole, queries, rejection), found)


def names_called(index: ReferenceIndex, queries: Embeddings, rejection: Rejection | None = None) -> list[str]:
    """What the index calls cells, encoder -> (n, d_e): class names, or "unknown"."""
    calls = called(queries, index, open_search(index), Settings.of(index), rejection=rejection)
    best = np.array([*index.classes], dtype=object)[calls.best_ids]
    return [str(name) for name in np.where(calls.unknown, UNKNOWN, best)]


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """What every row is scored against."""

    index: ReferenceIndex
    names: np.ndarray  # (n,) the cells' classes
    known: np.ndarray  # (n,) bool: among the index's
    groups: np.ndarray  # (n,)
    abstain: bool

    def row(self, name: str, said: Sequence[str], found: Mapping[str, Any] | None = None) -> Choice:
        """One method's calls (n,) scored."""
        classes = self.index.classes
        told = np.array([each if each in classes else UNKNOWN for each in said], dtype=object)
        truth, mine = self.names[self.known], told[self.known]
        scores = score(truth.tolist(), mine.tolist(), classes, abstain=self.abstain)
        counted = mine != UNKNOWN if self.abstain else np.ones(len(mine), dtype=bool)
        ids = np.array([classes.index(each) for each in truth[counted]], dtype=np.int16)
        interval = balanced_interval(ids, (mine == truth)[counted], self.groups[self.known][counted])
        others = [each for each in dict.fromkeys(self.names[~self.known].tolist()) if each]
        apart = {each: float((told[self.names == each] == UNKNOWN).mean()) for each in others}
        return Choice(name, scores, interval, apart, found or {})
