"""What is tried: lists of settings, and sets of encoders. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from cellvigil import decide
from cellvigil.errors import UsageError
from cellvigil_indexes.settings import IndexSettings

EXHAUSTIVE = 8
"""Encoders of which every subset is tried (255); more are searched forward and backward."""

Subset = tuple[str, ...]
"""Names of encoders, in the order of concatenation."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination is a trial, but those with k_min above k_max.

    The defaults cover the published settings but for Canberra, which one of them has: it doubles the work (several
    times as much without Numba), and so has to be asked for.
    """

    k_min: tuple[int, ...] = (3, 10, 20, 33)
    k_max: tuple[int, ...] = (100, 1000)
    threshold: tuple[float, ...] = (0.1, 0.2, 0.3, 0.6)
    metric: tuple[str, ...] = ("l2",)
    reweight: tuple[bool, ...] = (True, False)
    scaling: tuple[str, ...] = ("none", "unit", "discriminant")

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            if not values or len(set(values)) != len(values):
                raise UsageError(f"{name} must list one or more different values, not {values}")
        if not self.votes:
            raise UsageError(f"no k_min of {self.k_min} is at most a k_max of {self.k_max}")
        if not self.spaces:
            raise UsageError(
                "discriminant axes have no Canberra distance", hint="add --metric l2, or --scale none or unit"
            )
        _ = [self.settings(space, vote) for space in self.spaces for vote in self.votes]  # raises for a wrong value

    @property
    def spaces(self) -> tuple[tuple[str, str], ...]:
        """(metric, scaling): what decides distances, and so who is near. Discriminant axes are Euclidean only."""
        return tuple(
            (metric, scaling)
            for metric in self.metric
            for scaling in self.scaling
            if metric == "l2" or scaling != "discriminant"
        )

    @property
    def votes(self) -> tuple[decide.Settings, ...]:
        """What decides the call once it is known who is near."""
        return tuple(
            decide.Settings(k_min, k_max, threshold, reweight)
            for k_min in self.k_min
            for k_max in self.k_max
            for threshold in self.threshold
            for reweight in self.reweight
            if k_min <= k_max
        )

    def settings(self, space: tuple[str, str], vote: decide.Settings) -> IndexSettings:
        """One trial's settings; search and storage are not tuned. Raises UsageError for values that make no sense."""
        metric, scaling = space
        return IndexSettings(vote.k_min, vote.k_max, vote.threshold, vote.reweight, scaling=scaling, metric=metric)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, for a manifest."""
        return {name: list(values) for name, values in asdict(self).items()}


def power_set(encoders: Sequence[str]) -> list[Subset]:
    """All subsets but the empty one, smaller first, each in the encoders' own order: 63 for six."""
    return [subset for size in range(1, len(encoders) + 1) for subset in combinations(encoders, size)]


def with_one_more(subset: Subset, encoders: Sequence[str]) -> list[Subset]:
    """The subset with each encoder that it lacks, in the encoders' own order."""
    return [tuple(e for e in encoders if e in subset or e == new) for new in encoders if new not in subset]


def with_one_less(subset: Subset) -> list[Subset]:
    """The subset without each of its encoders; none is empty."""
    return [tuple(e for e in subset if e != old) for old in subset] if len(subset) > 1 else []
