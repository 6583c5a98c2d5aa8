"""What happened to a plate that no image shows: the values of `events.csv` and of `cellvigil event add`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

DOSED, MEDIUM, PLATE_OUT, PLATE_IN = KINDS = ("dosed", "medium", "plate_out", "plate_in")


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One event of one plate."""

    at: datetime  # aware, UTC
    kind: str  # one of KINDS
    wells: tuple[str, ...] = ()  # () = the whole plate
    note: str = ""

    def touches(self, well: str) -> bool:
        """Whether the event is about this well."""
        return not self.wells or well in self.wells
