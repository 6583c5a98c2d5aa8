"""How an index's calls go wrong, as its manifest keeps it: numbers only. `response` corrects shares with them.

Rows are true classes, columns called classes and "unknown"; measured on reference cells that cells of other groups
called, with the very settings of the index (`cellvigil_indexes.calibrating.confusing`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cellvigil.data import CallConfusion


@dataclass(frozen=True, slots=True)
class IndexConfusion:
    """One confusion for each way in which a source may call."""

    plain: CallConfusion | None  # nothing is rejected; None: not known, `measured` says why
    rejecting: CallConfusion | None  # novel cells are rejected (same_device_as_index); None where no cell ever is
    measured: Mapping[str, Any]  # how it was measured, or "why_not"


def confusion_as_dict(confusion: IndexConfusion) -> dict[str, Any]:
    """As plain values for a manifest."""
    return asdict(confusion)


def confusion_from_dict(values: Mapping[str, Any] | None, classes: int) -> IndexConfusion | None:
    """What a manifest holds; None for one of before there were any.

    Raises KeyError, TypeError or ValueError for what is garbled.
    """
    if values is None:
        return None
    return IndexConfusion(
        plain=_one(values["plain"], classes), rejecting=_one(values["rejecting"], classes), measured=values["measured"]
    )


def _one(values: Mapping[str, Any] | None, classes: int) -> CallConfusion | None:
    if values is None:
        return None
    counts = tuple(tuple(int(cells) for cells in row) for row in values["counts"])
    effects = tuple(float(effect) for effect in values["effects"])
    if len(counts) != classes or len(effects) != classes or any(len(row) != classes + 1 for row in counts):
        raise ValueError(f"a confusion that is not {classes} by {classes + 1}")
    if any(min(row) < 0 or not sum(row) for row in counts):
        raise ValueError("a confusion with a negative count or a class without cells")
    if not all(math.isfinite(effect) and effect >= 1 for effect in effects):
        raise ValueError("a confusion's design effect below 1")
    return CallConfusion(counts, effects)
