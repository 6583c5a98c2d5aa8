"""What the page shows of one plate: its map, what the marks mean, its arms. Follows from the figures alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import tzinfo

import numpy as np

from cellvigil.board.plate_map import TINTS, plate_map
from cellvigil.board.values import colours_of
from cellvigil.board.words import DASH, figure_text, natural, share_text
from cellvigil.markup import Html, joined, tag
from cellvigil.platemap import ROLES, TREATED
from cellvigil.response.values import Estimate
from cellvigil.tally.figures import PlateFigures

_POWERS = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "\N{MICRO SIGN}": 1e-6, "\N{GREEK SMALL LETTER MU}": 1e-6,
           "m": 1e-3}  # fmt: skip


def plate_body(plate: PlateFigures, zone: tzinfo) -> Html:
    """The map of the wells and the table of the arms; nothing in it ages, so it may be kept as long as the figures."""
    colours = colours_of(plate.counts.states, plate.counts.groups)
    note = (
        "In each well: the share of dying and dead cells as called, and its cells by state. Point at a well, or tap, "
        "for all. Response: 0 = as the controls, 1 = no live cell is left."
    )
    return joined(
        tag("div", plate_map(plate, colours, zone), class_="wide"),
        legend(colours),
        _marks(),
        tag("p", note, class_="note"),
        _arms(plate),
    )


def legend(colours: Mapping[str, str]) -> Html:
    """Which colour is which state."""
    spans = (tag("span", tag("i", style=f"background:{colour}"), state) for state, colour in colours.items())
    return tag("p", *spans, class_="legend")


def _marks() -> Html:
    """What tints and marks of a well mean."""
    steps = [tag("i", f"{limit:.0%}", class_=f"well s{step + 1}") for step, limit in enumerate(TINTS)]
    return tag(
        "p",
        tag("span", "dying and dead from ", *steps),
        tag("span", tag("i", "\N{BLACK UP-POINTING TRIANGLE}", class_="well onset"), " response has set in"),
        tag("span", tag("i", class_="well control"), " control"),
        tag("span", tag("i", class_="well blank"), " blank"),
        tag("span", tag("i", "!", class_="well doubt"), " fields missing or left out, or no newer value"),
        class_="legend marks",
    )


def _arms(plate: PlateFigures) -> Html:
    response = plate.response
    if not response.arms:
        return tag("p", "No plate map: there are no arms, and no response.", class_="note")
    columns = plate.counts.columns("dying", "dead").tolist()
    head = ("arm", "wells", "dying and dead", *(plate.counts.states[place] for place in columns), "response", "onsets")
    members: dict[str, list[int]] = {}
    for row, well in enumerate(plate.counts.wells):
        members.setdefault(plate.plan.arm(well), []).append(row)
    rows = [
        tag("tr", *(tag("td", text) for text in _arm(plate, place, members[arm], columns)))
        for place, arm in sorted(enumerate(response.arms), key=lambda each: _order(plate, members[each[1]][0]))
    ]
    table = tag("table", tag("tr", *(tag("th", text, scope="col") for text in head)), *rows, class_="list arms")
    return tag("div", table, class_="wide")


def _arm(plate: PlateFigures, place: int, rows: list[int], columns: list[int]) -> list[str]:
    """The cells of one arm's row."""
    response = plate.response
    shares = response.arm_plain.value[place, 0, columns]
    both = f"{shares.sum():.1%}" if len(columns) and np.isfinite(shares).all() else DASH
    return [
        response.arms[place],
        str(response.arm_wells[place]),
        both,
        *(share_text(*_at(response.arm_plain, place, 0, column)) for column in columns),
        figure_text(*_at(response.arm_response, place, 0)),
        _onsets(plate, rows),
    ]


def _onsets(plate: PlateFigures, rows: list[int]) -> str:
    """How many of an arm's treated wells have an onset; no other well is tested for one."""
    treated = [row for row in rows if plate.plan.wells[plate.counts.wells[row]].role == TREATED]
    return f"{int(np.isfinite(plate.response.onset_s[treated]).sum())} of {len(treated)}" if treated else DASH


def _at(estimate: Estimate, *place: int) -> tuple[float, float, float]:
    return float(estimate.value[place]), float(estimate.low[place]), float(estimate.high[place])


def _order(plate: PlateFigures, row: int) -> tuple[object, ...]:
    """Where a well's arm stands: controls first, then by compound and dose."""
    well = plate.counts.wells[row]
    plan = plate.plan.wells[well]
    unit, amount = _base(plan.unit, plan.dose)
    rank = (ROLES.index(plan.role), natural(plan.cell_line), natural(plan.compound), unit, amount)
    return (*rank, natural(plate.plan.arm(well)))


def _base(unit: str, dose: float | None) -> tuple[str, float]:
    """The unit without its prefix, and the dose in it: 300 nM stands before 1 uM. No dose stands first."""
    if dose is None:
        return "", 0.0
    found = re.fullmatch(rf"([{''.join(_POWERS)}])([A-Za-z].*)", unit)
    return (found[2], dose * _POWERS[found[1]]) if found else (unit, dose)
