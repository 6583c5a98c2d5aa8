"""What was found of shared classes, for a person, a manifest and a plot: JSON values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.data import I32, Bools
from cellvigil_indexes.aligning.values import F64

SURE = {(True, True): 0.99, (True, False): 0.5, (False, True): 0.7, (False, False): 0.98}
"""How often the verdict on a class was right, by who sees it: (a cluster, the mixture).

Of 240 verdicts on made targets (like those of `benchmarks/align_sharing.py`, which does not print this) where clusters
and mixture agree enough for classes to be dropped. In 13 of them one alone saw the class: these two figures are rough.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Opinions:
    """What speaks for each class of the reference; None where the mixture was not asked."""

    votes: F64  # (classes,) share of the runs
    by_clusters: Bools  # (classes,) enough votes
    shares: F64 | None  # (classes,) of the target, by the mixture
    by_mixture: Bools | None  # (classes,) enough of it
    agreement: float | None  # share of the matched cells that clusters and mixture put in one class

    @property
    def either(self) -> Bools:
        """Classes that one of them sees, (classes,)."""
        return self.by_clusters if self.by_mixture is None else self.by_clusters | self.by_mixture


def agreement(matched: I32, mixture: I32) -> float:
    """Share of the cells whose cluster matched a class (`matched`, -1: none) that the mixture calls the same, 0..1."""
    there = matched >= 0
    return float(np.mean(matched[there] == mixture[there])) if there.any() else 0.0


def told_of(classes: Sequence[str], opinions: Opinions, *, runs: int, kept_whole: str) -> dict[str, Any]:
    """`Shared.told`: what speaks for each class, and how sure all of it is.

    `kept_whole`: why no class is dropped, "" where classes may be. `confidence` (0..1, None where the mixture was not
    asked) is the agreement of clusters and mixture: below `SharingSettings.least_agreement` nothing is dropped.
    """
    return {
        "classes": {name: _class(opinions, label) for label, name in enumerate(classes)},
        "runs": runs,
        "kept_whole": kept_whole,
        "confidence": None if opinions.agreement is None else round(opinions.agreement, 4),
    }


def seen_alone(told: Mapping[str, Any]) -> str:
    """The one class that clusters or mixture see in the target, where they see no other of several; "" else.

    `told` is `Shared.told`. So does a target of one class look, and one whose cells all fell into one clump.
    """
    classes = told.get("classes", {})
    seen = [name for name, each in classes.items() if each["seen_by"]]
    return str(seen[0]) if len(seen) == 1 and len(classes) > 1 else ""


def mixture_shares(told: Mapping[str, Any]) -> dict[str, float]:
    """Class -> share of the target by the mixture, of `Shared.told`; {} where it was not asked."""
    shares = {name: each["share"] for name, each in told.get("classes", {}).items()}
    return {} if None in shares.values() else shares


def _class(opinions: Opinions, label: int) -> dict[str, Any]:
    by_mixture = opinions.by_mixture is not None and bool(opinions.by_mixture[label])
    pair = bool(opinions.by_clusters[label]), by_mixture
    return {
        "votes": float(opinions.votes[label]),
        "share": None if opinions.shares is None else round(float(opinions.shares[label]), 4),
        "seen_by": [who for who, sees in zip(("clusters", "mixture"), pair, strict=True) if sees],
        "confidence": None if opinions.shares is None else SURE[pair],
    }
