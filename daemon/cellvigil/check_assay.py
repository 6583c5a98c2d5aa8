"""What `cellvigil check` finds out about plate maps and events: are they right, and what will they not allow?

Reads the spreadsheets and the events added by command; writes nothing. `docs/response.md` says why each counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from cellvigil import config
from cellvigil.assays.added import read_added
from cellvigil.assays.event_list import read_events
from cellvigil.assays.plate_map import read_plate_map
from cellvigil.assays.sheet import WrongCells
from cellvigil.assays.wells import row_and_column
from cellvigil.errors import CellvigilError
from cellvigil.events import DOSED, Event, EventRow
from cellvigil.platemap import BLANK, CONTROL, TREATED, PlatePlan, WellPlan, plan_of
from cellvigil.plates import covers
from cellvigil.response.dose import FEWEST
from cellvigil.response.onset import MIN_CONTROLS

OK, WARN, FAIL = "ok", "warn", "fail"
Findings = Iterator[tuple[str, str]]

_FORMATS = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}
"""Rows and columns of the usual plates, by their wells."""
_FEW_CONTROLS = 3  # fewer say little of how control wells differ
_NAMED = 6  # wells or plates named in one line


def assay_findings(source: config.Source, settings: config.Config) -> Findings:
    """Level ("ok", "warn" or "fail") and text of each finding about one source's plate map, events and alerts."""
    if source.interval_s is None:
        yield WARN, "interval_s is not set: no alert will say that the microscope has stalled"
    try:
        rows = read_plate_map(source.plate_map, timezone=source.timezone) if source.plate_map else None
    except CellvigilError as error:
        yield from _wrong("plate_map", error)
        rows = None
    try:
        events = [*_listed(source), *_added(source, settings.store.path)]
    except CellvigilError as error:
        yield from _wrong("events", error)
        events = []
    if events:
        yield OK, f"{_several(len(events), 'event')} known"
    by_controls = source.align.mode == "states" and source.align.wells == "controls"
    if by_controls and not any(row.plan.role == CONTROL for row in rows or ()):
        yield WARN, "align.wells is controls, and no plate_map tells of a control well: no fit will ever be taken"
    if source.plate_map is None:
        yield OK, "no plate_map: shares are counted, but there are no arms and no response (docs/response.md)"
    for place in dict.fromkeys((row.experiment, row.plate) for row in rows or ()):
        # What a row calls its plate covers itself, so that it can stand for a plate of that name.
        plan = plan_of(rows or (), *place)
        yield from (
            (level, f"{_where(source.plate_map, place)}: {text}")
            for level, text in _plan(plan, _concerning(events, place), source, settings.alerts)
        )


def _wrong(key: str, error: CellvigilError) -> Findings:
    """What is wrong with a file, each cell on a line of its own."""
    if isinstance(error, WrongCells):
        yield from ((FAIL, f"{key}: {Path(error.where).name}, {told}") for told in error.told)
    else:
        yield FAIL, f"{key}: {error}"


def _listed(source: config.Source) -> tuple[EventRow, ...]:
    return read_events(source.events, timezone=source.timezone) if source.events else ()


def _added(source: config.Source, store: Path) -> list[EventRow]:
    return [one.row for one in read_added(store) if one.source == source.name and one.removed_at is None]


def _concerning(events: Iterable[EventRow], place: tuple[str, str]) -> list[Event]:
    """The events that may be of a plate that the rows of a map call `place`: each may be a pattern, or say nothing."""

    def agree(one: str, other: str) -> bool:
        return not other or covers((one, ""), other, "") or covers((other, ""), one, "")

    return [row.event for row in events if agree(row.experiment, place[0]) and agree(row.plate, place[1])]


def _plan(plan: PlatePlan, events: Iterable[Event], source: config.Source, alerts: config.Alerts) -> Findings:
    wells = plan.wells.values()
    counts = {role: sum(well.role == role for well in wells) for role in (CONTROL, TREATED)}
    arms = {plan.arm(well.well) for well in wells if well.role != BLANK}
    told = f"{_several(len(wells), 'well')}, {counts[TREATED]} treated, {counts[CONTROL]} control"
    yield OK, f"{told}, {_several(len(arms), 'arm')}"
    yield from _beyond(wells, source.expect.wells)
    yield from _spellings(wells)
    if counts[TREATED]:
        yield from _controls(wells)
        yield from _times(wells, list(events), alerts)
        yield from _doses(wells)


def _beyond(wells: Iterable[WellPlan], expected: int) -> Findings:
    """Wells that the plate cannot have."""
    size = next((size for size in _FORMATS if size >= expected), max(_FORMATS))
    rows, columns = _FORMATS[size]
    places = {well.well: row_and_column(well.well) for well in wells}
    wrong = [well for well, (row, column) in places.items() if row > rows or column > columns]
    if wrong:
        yield (
            WARN,
            f"{_names(wrong)} beyond a plate of {size}, as sources[].expect.wells suggests: right if it is larger",
        )


def _spellings(wells: Iterable[WellPlan]) -> Findings:
    """Names that differ only in capitals, blanks or hyphens make arms of their own, which hardly anybody means."""
    for column in ("compound", "vehicle", "cell_line", "group"):
        spelt: dict[str, set[str]] = defaultdict(set)
        for name in filter(None, (getattr(well, column) for well in wells)):
            spelt["".join(letter for letter in name.casefold() if letter not in " -_")].add(name)
        for names in spelt.values():
            if len(names) > 1:
                told = " and ".join(repr(name) for name in sorted(names))
                yield WARN, f"{column} {told} are taken for different ones: spell them alike if they are the same"


def _controls(wells: Iterable[WellPlan]) -> Findings:
    """Each cell line that is treated needs controls of its own."""
    controls: dict[str, int] = defaultdict(int)
    for well in wells:
        controls[well.cell_line] += well.role == CONTROL
    for line in sorted({well.cell_line for well in wells if well.role == TREATED}):
        of = f" of {line}" if line else ""
        if not controls[line]:
            yield WARN, f"no control well{of}: no response can be computed"
        elif controls[line] < max(_FEW_CONTROLS, MIN_CONTROLS):
            few = max(_FEW_CONTROLS, MIN_CONTROLS)
            lacks = (
                f"no onset is told (that takes {MIN_CONTROLS}, better {few})"
                if controls[line] < MIN_CONTROLS
                else f"with fewer than {few}, their spread is hardly known: onsets come late"
            )
            yield WARN, f"{_several(controls[line], 'control well')}{of}: {lacks}"


def _times(wells: Iterable[WellPlan], events: Iterable[Event], alerts: config.Alerts) -> Findings:
    """A response counts from the time of treatment."""
    dosed = [event for event in events if event.kind == DOSED]
    open_ = [
        well.well
        for well in wells
        if well.role == TREATED and well.treated_at is None and not any(event.touches(well.well) for event in dosed)
    ]
    if open_:
        hint = "fill in treated_at, or `cellvigil event add --kind dosed` when the drug goes in"
        alert = f"nor can the alert of no response after {alerts.no_response_h:g} h fire"
        yield WARN, f"{_names(open_)} treated at no known time: no response can be computed, {alert}; {hint}"


def _doses(wells: Iterable[WellPlan]) -> Findings:
    """What a dose-response curve needs of each compound (and cell line)."""
    found: dict[tuple[str, str], dict[str, set[float]]] = defaultdict(lambda: defaultdict(set))
    for well in wells:
        if well.role == TREATED and well.dose:
            found[(well.compound, well.cell_line)][well.unit].add(well.dose)
    for (compound, line), units in sorted(found.items()):
        name = f"{compound} on {line}" if line else compound
        if len(units) > 1:
            told = " and ".join(repr(unit or "no unit") for unit in sorted(units))
            yield WARN, f"{name} has doses in {told}: use one unit, else they cannot stand on one curve"
            continue
        doses = len(next(iter(units.values())))
        if doses < FEWEST:
            level = OK if doses == 1 else WARN
            text = f"{name} has {_several(doses, 'dose')}: no half-maximal dose (that takes {FEWEST})"
            yield level, text


def _where(path: Path | None, place: tuple[str, str]) -> str:
    told = "/".join(part or "*" for part in place) if any(place) else ""
    return f"{path.name if path else ''}{f' ({told})' if told else ''}"


def _names(wells: Iterable[str]) -> str:
    names = sorted(wells, key=row_and_column)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
