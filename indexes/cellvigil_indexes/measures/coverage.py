"""Whether conformal sets hold the true class as often as promised. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cellvigil.data import I16, Bools
from cellvigil_indexes.measures.reliability import wilson


@dataclass(frozen=True, slots=True)
class ClassCoverage:
    """Cells of one true class."""

    n: int
    covered: float  # share whose set holds their class
    mean_size: float  # classes a set


@dataclass(frozen=True, slots=True)
class Coverage:
    """Cells of all classes."""

    n: int
    covered: float
    low: float  # Wilson's 95 % interval of `covered`, as if cells were independent
    high: float
    mean_size: float
    empty: float  # share of cells whose set holds no class
    single: float  # share of cells whose set holds just one
    by_class: dict[str, ClassCoverage]  # classes with cells

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def coverage(sets: Bools, labels: I16, classes: Sequence[str]) -> Coverage | None:
    """Compare sets (n, classes) with true class ids (n,); None without cells."""
    if not len(labels):
        return None
    holds, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    low, high = wilson(int(holds.sum()), len(labels))
    return Coverage(
        n=len(labels),
        covered=float(holds.mean()),
        low=low,
        high=high,
        mean_size=float(sizes.mean()),
        empty=float(np.mean(sizes == 0)),
        single=float(np.mean(sizes == 1)),
        by_class={
            name: ClassCoverage(int(here.sum()), float(holds[here].mean()), float(sizes[here].mean()))
            for class_id, name in enumerate(classes)
            if (here := labels == class_id).any()
        },
    )
