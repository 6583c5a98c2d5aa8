"""What an index knows of its own certainty, as its manifest keeps it: numbers only. `cellvigil.decide` applies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Confidence:
    """The probability that a call is right: logistic in what is known of the call; see `decide`."""

    intercept: float
    weights: Mapping[str, float]  # by feature


@dataclass(frozen=True, slots=True)
class ConformalScores:
    """Nonconformity of cells that were not in the index, to be compared with a live cell's."""

    k: int  # neighbours that the score looks at, always
    promise: float  # share of cells whose true class is to be in the set, e.g. 0.9
    by_class: Sequence[Sequence[float]]  # by class id: the scores of its cells, ascending


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that was fitted on cells held out."""

    confidence: Confidence | None  # None: too few cells
    conformal: ConformalScores | None  # None: too few cells
    novel_below: float | None  # a novelty p-value below this makes a cell unknown where the device is the index's own
    measured: Mapping[str, Any]  # what it was fitted on, and how well it holds


def calibration_as_dict(calibration: Calibration) -> dict[str, Any]:
    """As plain values for a manifest."""
    return asdict(calibration)


def calibration_from_dict(values: Mapping[str, Any] | None) -> Calibration | None:
    """What a manifest holds. Raises KeyError, TypeError or ValueError for what is garbled."""
    if values is None:
        return None
    confidence, conformal = values["confidence"], values["conformal"]
    return Calibration(
        confidence=Confidence(**confidence) if confidence else None,
        conformal=ConformalScores(**conformal) if conformal else None,
        novel_below=values["novel_below"],
        measured=values["measured"],
    )
