"""Trials and their scores, and the rule by which one is chosen. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil_indexes.settings import METRICS, SCALINGS, IndexSettings
from cellvigil_indexes.tuning.grid import Grid, Subset
from cellvigil_indexes.tuning.voting import DIGITS

F64 = npt.NDArray[np.float64]

TIES = (
    "the highest mean macro accuracy, to 12 decimals; of equals fewer encoders, then larger k_min, smaller k_max, "
    "lower threshold, L2 before Canberra, votes reweighted, no scaling, and encoders in the index's order"
)
"""The rule, in words: the plainer index, and the one that asks more neighbours before it stops."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of encoders under one set of settings, and how it did."""

    encoders: Subset
    settings: IndexSettings
    scores: tuple[float, ...]  # macro accuracy on each split's validation cells, 0..1; NaN where it was not scored

    @property
    def mean(self) -> float:
        """Over the splits that were scored; NaN if none was."""
        scored = [score for score in self.scores if not np.isnan(score)]
        return round(float(np.mean(scored)), DIGITS) if scored else float("nan")

    @property
    def sd(self) -> float:
        """Sample standard deviation over the splits that were scored; 0 for one."""
        scored = [score for score in self.scores if not np.isnan(score)]
        return float(np.std(scored, ddof=1)) if len(scored) > 1 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the manifest keeps them."""
        s = self.settings
        return {
            "encoders": list(self.encoders),
            **{name: getattr(s, name) for name in ("k_min", "k_max", "threshold", "metric", "reweight", "scaling")},
            "mean": self.mean,
            "sd": self.sd,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What was chosen, and out of what."""

    best: Trial
    trials: tuple[Trial, ...]  # all that were scored, best first (by `TIES`)
    how: str  # "exhaustive" or "greedy"
    splits: int  # over which `best.mean` is; fewer than were given where it was interrupted
    interrupted: bool
    planned: int  # trials that the grid has (greedy: that were reached)
    notes: tuple[str, ...]  # what a person must know: depths that were capped, cells that were left out

    @property
    def settings(self) -> IndexSettings:
        """The chosen settings; search and storage are the defaults."""
        return self.best.settings

    @property
    def encoders(self) -> Subset:
        """The chosen encoders, in the order of concatenation."""
        return self.best.encoders


def ranked(
    scores: Mapping[Subset, F64], grid: Grid, order: tuple[str, ...], splits: int, scored_on: int
) -> list[Trial]:
    """The trials, best first. `scores` are (spaces, votes, splits); the mean over the first `scored_on` decides.

    Trials that lack one of these are left out.
    """
    rows = []
    place = {name: i for i, name in enumerate(order)}
    spaces, votes = grid.spaces, grid.votes
    for subset, table in scores.items():
        means = np.round(table[:, :, :scored_on].mean(axis=2), DIGITS)
        for s, v in np.argwhere(~np.isnan(means)):
            (metric, scaling), vote = spaces[s], votes[v]
            key = (
                -means[s, v], len(subset), -vote.k_min, vote.k_max, vote.threshold, METRICS.index(metric),
                not vote.reweight, SCALINGS.index(scaling), [place[name] for name in subset],
            )  # fmt: skip
            rows.append((key, subset, int(s), int(v)))
    rows.sort(key=lambda row: row[0])
    return [
        Trial(subset, grid.settings(spaces[s], votes[v]), tuple(scores[subset][s, v, :splits].tolist()))
        for _, subset, s, v in rows
    ]
