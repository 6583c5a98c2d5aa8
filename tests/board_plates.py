"""Plates for the tests of the page: made by the real ledger, tally and response, from counts in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cellvigil.board.values import Machine, Watched
from cellvigil.events import Event
from cellvigil.ledger import Design, Series
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.tally.figures import PlateFigures
from plate_lines import baseline_line, bundle_line, figures, frame_line, ledger_of
from store_records import SERIES, START

TREATED = START + timedelta(hours=2)
DOSES = (0.5, 2.0, 16.0)


def letters(row: int) -> str:
    return chr(ord("A") + row) if row < 26 else "A" + chr(ord("A") + row - 26)


def grid(rows: int, columns: int) -> list[str]:
    """The names of a plate's wells, row by row."""
    return [f"{letters(row)}{column + 1}" for row in range(rows) for column in range(columns)]


def plan_of(wells: Sequence[str], columns: int) -> PlatePlan:
    """The first and last columns controls, one blank, the others two compounds in three doses."""
    found: dict[str, WellPlan] = {}
    for place, well in enumerate(wells):
        column = place % columns
        if place == len(wells) - 1:
            found[well] = WellPlan(well, "blank")
        elif column in (0, columns - 1):
            found[well] = WellPlan(well, "control", vehicle="DMSO", treated_at=TREATED)
        else:
            compound = ("Raptinal", "Staurosporine")[column % 2]
            found[well] = WellPlan(well, "treated", compound, DOSES[column // 2 % 3], "uM", "DMSO", treated_at=TREATED)
    return PlatePlan(found)


def plate(
    wells: Sequence[str],
    plan: PlatePlan | None = None,
    *,
    timepoints: int = 24,
    series: Series = SERIES,
    start: datetime = START,
    events: Iterable[Event] = (),
    groups: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
    **other: Any,
) -> PlateFigures:
    """A plate with a frame every half hour in which the higher doses kill; `left_out`: wells out of focus of late."""
    named = {} if groups is None else {"groups": groups}
    lines: list[Mapping[str, Any]] = [bundle_line(series=series, **named), baseline_line(focus=1.5, series=series)]
    for place, well in enumerate(wells):
        mine = plan.wells.get(well) if plan else None
        strength = 0.0 if mine is None or mine.role != "treated" else min(1.0, (mine.dose or 0) / 16)
        for t in range(timepoints):
            late = max(0.0, min(0.9, strength * (t - 5) / 12))
            wobble = (place * 7 + t * 3) % 11
            dead, dying = round(200 * late * 0.7), round(200 * late * 0.3)
            counts = {"live": 190 + wobble - dead - dying, "apoptotic": 3 + dying, "necrotic": 2 + dead, "debris": 6}
            is_out = well in left_out and t > timepoints - 3
            at = start + timedelta(minutes=30 * t)
            line = frame_line(well, t, counts=counts | {"unknown": 4}, series=series, excluded=is_out, acquired=at)
            lines.append(line | other)
    design = Design(plan or PlatePlan({}), tuple(events))
    return figures(ledger_of(lines), design, series=series, now=start + timedelta(days=30))


WATCHED = Watched("scope", up=True, last_frame=START + timedelta(hours=12), interval_s=1800.0, backlog=0, waiting=0)
MACHINE = Machine(
    version="0.1.0", heartbeat_age_s=4.0, device="cpu", degraded=False, paused="", floor_h=900.0, sources=(WATCHED,)
)


def machine(*sources: Watched, **changes: Any) -> Machine:
    """A machine that is well, but for `changes`."""
    return replace(MACHINE, sources=sources or (WATCHED,), **changes)
