"""What a profile is. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cellvigil.data import F32
from cellvigil.ledger import Series
from cellvigil.platemap import WellPlan


@dataclass(frozen=True, slots=True, eq=False)
class WellProfile:
    """One well at one time point: the mean over its fields of the mean over their cells."""

    series: Series
    well: str
    timepoint: int
    acquired_at: datetime  # aware, UTC: of its first field
    vectors: Mapping[str, F32]  # encoder -> (d_e,)
    fields: int  # that had a cell which counts
    cells: int  # that count
    plan: WellPlan | None  # None: the well is not in the plate map
    arm: str  # "" where the plan is None


@dataclass(frozen=True, slots=True)
class Near:
    """One treatment's neighbour."""

    name: str
    cosine: float  # -1..1


@dataclass(frozen=True, slots=True)
class Missing:
    """Frames that no profile could be made of."""

    dropped: int = 0  # retention deleted their embeddings
    never_kept: int = 0  # the run kept none, or none of every encoder
    damaged: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.dropped + self.never_kept + self.damaged
