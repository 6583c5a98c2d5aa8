"""What happened to a plate that no image shows: the values of `events.csv` and of `cellvigil event add`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cellvigil.plates import covers

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


@dataclass(frozen=True, slots=True)
class EventRow:
    """One row of `events.csv`, or one event that was added by command, with the plates that it speaks of."""

    event: Event
    experiment: str = ""  # as written: * and ? match; "" = every one of the source
    plate: str = ""  # the same


def events_of(rows: Iterable[EventRow], experiment: str, plate: str) -> tuple[Event, ...]:
    """The events of one plate, each once, in order of time."""
    return tuple(sorted({row.event for row in rows if covers((row.experiment, row.plate), experiment, plate)}))
