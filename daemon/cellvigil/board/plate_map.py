"""A plate as a grid of its wells, each tinted by how many of its cells die, with a bar of its states. Figures to HTML.

All of a well's figures are in its attribute `data-told`, which the style sheet shows where the mouse rests or a finger
taps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from math import isfinite
from typing import Any

from cellvigil.board.figures import dying_or_dead, is_behind
from cellvigil.board.words import DASH, figure_text, natural, share_text, time_text
from cellvigil.markup import Html, tag
from cellvigil.platemap import BLANK, CONTROL
from cellvigil.response.values import Estimate
from cellvigil.tally.figures import PlateFigures

TINTS = (0.05, 0.1, 0.2, 0.4, 0.6)
"""Shares of dying and dead cells at which a well's tint gets one step darker."""

_FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))  # rows and columns of the usual plates
_WELL = re.compile(r"([A-Z]{1,2})(\d{1,2})")
_NOTHING = Html("")
_ROLE_CLASSES = {CONTROL: " control", BLANK: " blank"}


def plate_map(plate: PlateFigures, colours: Mapping[str, str], zone: tzinfo) -> Html:
    """The plate's grid; where a well has a name of another kind, all stand in a row. Times by `zone` and in UTC."""
    sheet, wells = _Sheet.of(plate, colours, zone), plate.counts.wells
    taken = {place: row for row, well in enumerate(wells) if (place := _place(well)) is not None}
    usual = [each for each in _FORMATS if all(row < each[0] and column < each[1] for row, column in taken)]
    if len(taken) < len(wells) or not taken or not usual:
        order = sorted(range(len(wells)), key=lambda row: natural(wells[row]))
        return tag("div", *(sheet.well("div", row) for row in order), class_="wells")
    rows, columns = usual[0]
    head = tag("tr", tag("th"), *(tag("th", str(column + 1), scope="col") for column in range(columns)))
    empty = tag("td")
    body = [
        tag(
            "tr",
            tag("th", _letters(row), scope="row"),
            *(sheet.well("td", taken[row, column]) if (row, column) in taken else empty for column in range(columns)),
        )
        for row in range(rows)
    ]
    return tag("table", head, *body, class_=f"plate c{columns}")


@dataclass(frozen=True, slots=True, eq=False)
class _Sheet:
    """What all wells are drawn from, as lists by well: looking into arrays one by one takes long."""

    plate: PlateFigures
    colours: list[str]  # by state
    share: list[float]  # dying and dead
    onset: list[float]
    acquired: list[float]
    cells: list[list[float]]  # by state
    plain: tuple[list[list[float]], ...]  # value, low, high: each by well and state
    behind: list[bool]  # the newest value is old
    doubt: list[bool]  # behind, or fields are missing or left out
    told: list[tuple[str, tuple[list[float], ...]]]  # title; value, low, high
    quality: list[tuple[str, list[float]]]  # title, figure
    lacking: list[tuple[str, list[float]]]  # title, number of fields
    time: Callable[[float], str]

    @classmethod
    def of(cls, plate: PlateFigures, colours: Mapping[str, str], zone: tzinfo) -> _Sheet:
        known: dict[float, str] = {}  # wells of one time point share few moments, and telling one takes long

        def time(at: float) -> str:
            return known.get(at) or known.setdefault(at, time_text(at, zone))

        response, behind = plate.response, is_behind(plate)
        return cls(
            plate,
            [colours[state] for state in plate.counts.states],
            share=dying_or_dead(plate).tolist(),
            onset=response.onset_s.tolist(),
            acquired=plate.acquired_s[:, 0].tolist(),
            cells=plate.cells[:, 0].tolist(),
            plain=_lists(response.plain),
            behind=behind.tolist(),
            doubt=(behind | (plate.missing[:, 0] > 0) | (plate.excluded[:, 0] > 0)).tolist(),
            told=[("live index", _lists(response.live_index)), ("response", _lists(response.response))],
            quality=[
                ("certainty", plate.certainty[:, 0].tolist()),
                ("focus against the first frames", plate.focus[:, 0].tolist()),
            ],
            lacking=[
                ("missing", plate.missing[:, 0].tolist()),
                ("left out of the counts", plate.excluded[:, 0].tolist()),
            ],
            time=time,
        )

    def well(self, element: str, row: int) -> Html:
        """One well: its name and marks, the share of dying and dead cells, and its states as a bar."""
        share, name, onset = self.share[row], self.plate.counts.wells[row], isfinite(self.onset[row])
        plan = self.plate.plan.wells.get(name)
        step = f"s{sum(share >= limit for limit in TINTS)}" if isfinite(share) else "none"
        marks = ("\N{BLACK UP-POINTING TRIANGLE}" if onset else "") + ("!" if self.doubt[row] else "")
        return tag(
            element,
            tag("b", name),
            tag("u", marks) if marks else _NOTHING,
            tag("span", f"{share:.0%}" if isfinite(share) else DASH),
            self._bar(self.cells[row]),
            class_=f"well {step}{' onset' if onset else ''}{' doubt' if self.doubt[row] else ''}"
            f"{_ROLE_CLASSES.get(plan.role, '') if plan else ''}",
            tabindex="-1",  # a finger's tap selects it; it is no stop for the tab key
            data_told=self._told(row),
        )

    def _bar(self, cells: list[float]) -> Html:
        total = sum(cells)
        if not total > 0:
            return tag("i")
        stops, end = [], 0.0
        for colour, count in zip(self.colours, cells, strict=True):
            if count > 0:
                begin, end = end, end + 100 * count / total
                stops.append(f"{colour} {begin:.1f}% {end:.1f}%")
        return Html(f'<i style="background:linear-gradient(90deg,{",".join(stops)})"></i>')

    def _told(self, row: int) -> str:
        """Everything about one well's newest value, in lines."""
        response, name, plan = self.plate.response, self.plate.counts.wells[row], self.plate.plan
        arm = plan.arm(name)
        role = plan.wells[name].role if name in plan.wells else ""
        whose = f"{name} ({arm}{f', {role}' if role != arm else ''})" if arm else name
        if not isfinite(self.acquired[row]):
            return f"{whose}: no value yet"
        lines = [whose, self.time(self.acquired[row]), *self._states(row)]
        for title, (value, low, high) in self.told:
            if isfinite(value[row]):
                lines.append(f"{title}: {figure_text(value[row], low[row], high[row])}")
        if isfinite(self.onset[row]):
            lines.append(f"onset: {self.time(self.onset[row])}")
        elif response.onset_why_not[row]:
            lines.append(f"no onset is looked for: {response.onset_why_not[row]}")
        lines += [f"{title}: {figures[row]:.0%}" for title, figures in self.quality if isfinite(figures[row])]
        lines += [f"{fields[row]:.0f} of its fields {title}" for title, fields in self.lacking if fields[row] > 0]
        if self.behind[row]:
            lines.append("no newer value, though other wells have one")
        return "\n".join(lines)

    def _states(self, row: int) -> list[str]:
        shares = zip(*(figures[row] for figures in self.plain), strict=True)
        return [
            f"{state}: {count:.0f}{f' = {share_text(*share)}' if isfinite(share[0]) else ''}"
            for state, count, share in zip(self.plate.counts.states, self.cells[row], shares, strict=True)
        ]


def _lists(estimate: Estimate) -> tuple[Any, ...]:
    """Value, low and high at the newest time point."""
    return tuple(figures[:, 0].tolist() for figures in (estimate.value, estimate.low, estimate.high))


def _place(well: str) -> tuple[int, int] | None:
    """Row and column of a well's name ("B3", "AF48"), from 0."""
    found = _WELL.fullmatch(well)
    if found is None or int(found[2]) < 1:
        return None
    row = 0
    for letter in found[1]:
        row = 26 * row + ord(letter) - ord("A") + 1
    return row - 1, int(found[2]) - 1


def _letters(row: int) -> str:
    return chr(ord("A") + row) if row < 26 else f"{chr(ord('A') + row // 26 - 1)}{chr(ord('A') + row % 26)}"
