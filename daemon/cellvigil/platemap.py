"""Which well got what: the values of a plate map, and what follows from them (arms, controls). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

CONTROL, TREATED, BLANK = ROLES = ("control", "treated", "blank")


@dataclass(frozen=True, slots=True)
class WellPlan:
    """One row of `plate.csv`."""

    well: str  # "B3"
    role: str  # one of ROLES
    compound: str = ""
    dose: float | None = None  # in `unit`; None = none given
    unit: str = ""  # "uM", "nM", "ug/mL", ...: as written
    vehicle: str = ""  # "DMSO"
    group: str = ""  # replicate group: wells of one group are one arm, whatever else they say
    cell_line: str = ""
    treated_at: datetime | None = None  # aware, UTC; None = as a "dosed" event says

    @property
    def dose_text(self) -> str:
        """Amount and unit, as in "10 uM"; "" without a dose."""
        return "" if self.dose is None else f"{self.dose:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class PlatePlan:
    """The plate map of one plate."""

    wells: Mapping[str, WellPlan]  # by well

    def arm(self, well: str) -> str:
        """The arm of a well: its replicate group, else compound and dose, else its role; "" for one not in the map.

        Where the plate has several cell lines, the line stands in front ("HeLa: Raptinal 10 uM").
        """
        plan = self.wells.get(well)
        if plan is None:
            return ""
        lines = {each.cell_line for each in self.wells.values()}
        told = plan.group or " ".join(part for part in (plan.compound, plan.dose_text) if part) or plan.role
        return f"{plan.cell_line}: {told}" if plan.cell_line and len(lines) > 1 else told

    def controls(self, well: str) -> tuple[str, ...]:
        """The control wells that a well is held against, sorted: those of its cell line, and of its vehicle where the
        map has controls with that vehicle. The well itself is left out.
        """
        plan = self.wells.get(well)
        if plan is None:
            return ()
        of_line = [each for each in self.wells.values() if each.role == CONTROL and each.cell_line == plan.cell_line]
        of_vehicle = [each for each in of_line if plan.vehicle and each.vehicle == plan.vehicle]
        return tuple(sorted(each.well for each in (of_vehicle or of_line) if each.well != well))


NO_PLAN = PlatePlan({})
