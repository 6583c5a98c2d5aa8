"""How an alignment is fitted: what `align` takes and its commands offer. Fixed before any target is scored."""

from __future__ import annotations

from dataclasses import dataclass

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.catalogue import MAPS

AUTO = "auto"
METHODS = (AUTO, *MAPS)

MAPPED, BOTH, ONE = "mapped", "both", "one"
VOTINGS = (MAPPED, BOTH, ONE)


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """Everything about an alignment but its cells. The defaults are what is shipped."""

    method: str = AUTO  # or one map of `maps.MAPS`
    filter: bool = True  # drop classes that the target does not have: for cell types, never for cell states
    alpha: float | None = None  # of a transport; 0: features alone, 1: structure alone; None: 0.1, in `MAPS` 0.5
    graph_k: int = 15  # neighbours in the graphs
    subset: int = 2000  # cells at a time, on either side
    runs: int = 5  # subsets, at most
    seed: int = 0
    voting: str = MAPPED  # each encoder and all together; "both": also as they came (section 3.4); "one": all together
    weights: tuple[tuple[str, float], ...] = ()  # encoder and what it weighs in the vote (section 3.4); else 1
    unmatched: bool = False  # auto: clusters that seem to be of no class (`foreign`) become references of their own

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r} is none of {', '.join(METHODS)}")
        if self.voting not in VOTINGS:
            raise UsageError(f"voting {self.voting!r} is none of {', '.join(VOTINGS)}")
        if any(not 0 < weight < float("inf") for _, weight in self.weights):
            raise UsageError("an encoder's weight must be above 0", hint="leave the encoder out of the index instead")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha} must be from 0 (features alone) to 1 (structure alone)")
        if self.graph_k < 1 or self.runs < 1 or self.subset < 2:
            raise UsageError("graph_k and runs must be at least 1, subset at least 2")
