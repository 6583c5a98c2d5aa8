"""Half-maximal doses of a plate's compounds, from the newest value of each treated well. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.platemap import BLANK, TREATED, PlatePlan
from cellvigil.response.dose import growth_error, half_maximal, largest_effect
from cellvigil.response.values import F64


@dataclass(frozen=True, slots=True)
class Fit:
    """A figure of one compound, with its 95 % interval; NaN where the data do not give it."""

    compound: str
    unit: str  # of `value`: the plate map's, or "" for a ratio
    measure: str  # "response" or "gr" (half-maximal dose), "gr_max"
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Newest:
    """What is known of each well now, all (W,), NaN where there is none."""

    response: F64
    growth: F64  # GR value
    control: F64  # median live index of the well's controls
    control_error: F64  # standard error of its logarithm


def fits(wells: Sequence[str], plan: PlatePlan, newest: Newest) -> tuple[Fit, ...]:
    """What can be said of each compound that was given in one unit; nothing of one whose doses have several."""
    return tuple(fit for told in _by_compound(wells, plan) for fit in _of_compound(*told, newest))


def _of_compound(compound: str, unit: str, rows: Sequence[int], doses: F64, newest: Newest) -> Iterator[Fit]:
    responses, growth = newest.response[rows], newest.growth[rows]
    if not np.isfinite(responses).any():
        return
    error, grown = _middle(newest.control_error[rows]), _middle(newest.control[rows])
    for measure, unit_of, told in (
        ("response", unit, half_maximal(doses, responses, measure="response", shared=error)),
        ("gr", unit, half_maximal(doses, growth, measure="gr", shared=growth_error(error, grown))),
        ("gr_max", "", largest_effect(doses, growth)),
    ):
        if told.status == "ok":
            yield Fit(compound, unit_of, measure, told.value, told.low, told.high)


def _middle(figures: F64) -> float:
    known = figures[np.isfinite(figures)]
    return float(np.median(known)) if known.size else float("nan")


def _by_compound(wells: Sequence[str], plan: PlatePlan) -> Iterator[tuple[str, str, list[int], F64]]:
    """Compound, unit, rows and doses of its wells; each cell line by itself, where the plate has several."""
    lines = {each.cell_line for each in plan.wells.values() if each.role != BLANK}  # as in the arms' names
    dosed = [
        (f"{each.cell_line}: {each.compound}" if len(lines) > 1 and each.cell_line else each.compound, row, each)
        for row, well in enumerate(wells)
        if (each := plan.wells.get(well)) is not None and each.role == TREATED and each.dose
    ]
    for compound in sorted({name for name, *_ in dosed}):
        of_it = [(row, each) for name, row, each in dosed if name == compound]
        units = {each.unit for _, each in of_it}
        if len(units) == 1:
            yield compound, units.pop(), [row for row, _ in of_it], np.asarray([each.dose for _, each in of_it], float)
