"""What a plate's wells got and what happened to it, as the record keeps it: a journal line of kind "design". Pure.

A record must explain itself a year later, without the spreadsheets that it was made with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cellvigil.events import Event
from cellvigil.ledger.values import Series
from cellvigil.platemap import NO_PLAN, PlatePlan, WellPlan


@dataclass(frozen=True)  # no slots: the digest is kept
class Design:
    """The plate map and the events of one plate, as they were in use."""

    plan: PlatePlan = NO_PLAN
    events: tuple[Event, ...] = ()  # in order of time

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.plan.wells or self.events)

    @cached_property
    def sha256(self) -> str:
        """Digest of every value: equal exactly for equal designs."""
        return hashlib.sha256(json.dumps(self._values(), sort_keys=True).encode()).hexdigest()

    def line(self, series: Series, committed_at: datetime) -> dict[str, Any]:
        """The journal line that records it."""
        return {
            "kind": "design",
            "series": list(series),
            **self._values(),
            "sha256": self.sha256,
            "committed_at": _utc(committed_at),
        }

    def _values(self) -> dict[str, Any]:
        return {
            "plan": {well: _plain(plan) for well, plan in sorted(self.plan.wells.items())},
            "events": [_plain(event) for event in self.events],
        }


def design_of(line: Mapping[str, Any]) -> Design:
    """The design that a journal line recorded; keys that a later version added are passed over."""
    wells = {well: WellPlan(**_known(WellPlan, values)) for well, values in line.get("plan", {}).items()}
    events = (_known(Event, values) for values in line.get("events", ()))
    return Design(
        PlatePlan(wells) if wells else NO_PLAN,
        tuple(Event(**{**values, "wells": tuple(values["wells"])}) for values in events),
    )


def _known(kind: type[WellPlan] | type[Event], values: Mapping[str, Any]) -> dict[str, Any]:
    times = ("at", "treated_at")
    return {
        name: datetime.fromisoformat(value) if name in times and value is not None else value
        for name, value in values.items()
        if name in kind.__dataclass_fields__
    }


def _plain(value: WellPlan | Event) -> dict[str, Any]:
    """What it says, in JSON's words; what it leaves open is left out."""
    items = asdict(value).items()
    return {name: _utc(one) if isinstance(one, datetime) else one for name, one in items if one not in ("", None)}


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
