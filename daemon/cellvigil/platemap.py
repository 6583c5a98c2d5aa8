"""Which well got what: the values of a plate map, and what follows from them (arms, controls). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cellvigil.plates import Rank, covers, rank

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
    # What `arm` and `controls` ask of all wells, found once: a plate of 1536 asks them 1536 times a round.
    _several_lines: bool = field(init=False, repr=False, compare=False)
    _controls: Mapping[str, tuple[WellPlan, ...]] = field(init=False, repr=False, compare=False)  # by cell line

    def __post_init__(self) -> None:
        controls: dict[str, tuple[WellPlan, ...]] = {}
        for each in self.wells.values():
            if each.role == CONTROL:
                controls[each.cell_line] = (*controls.get(each.cell_line, ()), each)
        lines = {each.cell_line for each in self.wells.values() if each.role != BLANK}  # nothing grows in a blank
        object.__setattr__(self, "_several_lines", len(lines) > 1)
        object.__setattr__(self, "_controls", controls)

    def arm(self, well: str) -> str:
        """The arm of a well: its replicate group, else compound and dose, else its role; "" for one not in the map.

        Where the plate has several cell lines, the line stands in front ("HeLa: Raptinal 10 uM").
        """
        plan = self.wells.get(well)
        if plan is None:
            return ""
        told = plan.group or " ".join(part for part in (plan.compound, plan.dose_text) if part) or plan.role
        return f"{plan.cell_line}: {told}" if plan.cell_line and self._several_lines else told

    def controls(self, well: str) -> tuple[str, ...]:
        """The control wells that a well is held against, sorted: those of its cell line, and of its vehicle where the
        map has controls with that vehicle. The well itself is left out.
        """
        plan = self.wells.get(well)
        if plan is None:
            return ()
        of_line = self._controls.get(plan.cell_line, ())
        of_vehicle = [each for each in of_line if plan.vehicle and each.vehicle == plan.vehicle]
        return tuple(sorted(each.well for each in (of_vehicle or of_line) if each.well != well))


NO_PLAN = PlatePlan({})


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `plate.csv`, with the plates that it speaks of."""

    plan: WellPlan
    experiment: str = ""  # as written: * and ? match; "" = every one of the source
    plate: str = ""  # the same


def plan_of(rows: Iterable[Row], experiment: str, plate: str) -> PlatePlan:
    """The plan of one plate. Of a well's rows that cover it the most specific one holds (`plates.rank`), and of two
    that are equally so the one further down.
    """
    found: dict[str, tuple[Rank, WellPlan]] = {}
    for row in rows:
        place = (row.experiment, row.plate)
        if covers(place, experiment, plate):
            held = found.get(row.plan.well)
            if held is None or rank(place) >= held[0]:
                found[row.plan.well] = (rank(place), row.plan)
    return PlatePlan({well: plan for well, (_, plan) in sorted(found.items())}) if found else NO_PLAN
