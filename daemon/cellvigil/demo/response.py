"""What the service made of the demo's counts: arms with their intervals, response, onset; read back from the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from cellvigil.data import UNKNOWN
from cellvigil.ledger import Design, Ledger
from cellvigil.response.arms import arm_shares
from cellvigil.response.values import PlateCounts
from cellvigil.tally.figures import Limits, PlateFigures, figures_of, index_of
from cellvigil.tally.sheet import Sheet

_GONE = "dying or dead"


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """An arm's share of dying and dead cells over time, the wells being the unit."""

    hours: list[float]  # since the first frame
    share: list[float]
    low: list[float]  # ends of the 95 % interval
    high: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Of the one plate of a demo."""

    figures: PlateFigures  # at every time point
    arms: Mapping[str, Course]  # by arm
    drug_h: float  # hours from the first frame to the treatment
    onset_h: Mapping[str, float]  # well -> hours from treatment to the onset that was found
    treated: tuple[str, ...]  # wells with a treatment that are no controls


def response_of(ledger: Ledger) -> Response | None:
    """The response that the record of one plate tells; None before an index called, or without a plate map."""
    series = next(iter(ledger.series()), None)
    index = None if series is None else index_of(ledger, series)
    design = None if series is None else ledger.design(series)
    if series is None or index is None or design is None:
        return None
    return _response(ledger, series, Sheet(index, 1), design)


def _response(ledger: Ledger, series: tuple[str, str, str], sheet: Sheet, design: Design) -> Response:
    sheet.take(ledger.well_times(series))
    settled = sheet.settled(datetime.now(UTC).timestamp(), 0.0)  # the demo is over: nothing more will come
    figures = figures_of(ledger, series, sheet, design, Limits(), settled=settled, every=True)
    wells, found = figures.counts.wells, figures.response
    delay_h = (found.onset_s - found.treated_s) / 3600
    onset_h = {well: float(hours) for well, hours in zip(wells, delay_h, strict=True) if np.isfinite(hours)}
    treated = tuple(well for well in wells if (plan := design.plan.wells.get(well)) and plan.role == "treated")
    drug_h = float(np.nanmedian(found.treated_s) - np.nanmin(figures.counts.acquired_s)) / 3600
    return Response(figures, _courses(figures), drug_h, onset_h, treated)


def _courses(figures: PlateFigures) -> dict[str, Course]:
    counts = _together(figures.counts)
    names, _, shares, _ = arm_shares(counts, [figures.plan.arm(well) for well in counts.wells], None)
    start = float(np.nanmin(counts.acquired_s))
    hours = (np.nanmean(counts.acquired_s, axis=0) - start) / 3600
    gone = counts.states.index(_GONE)
    courses = {}
    for place, name in enumerate(names):
        value, low, high = (each[place, :, gone] for each in (shares.value, shares.low, shares.high))
        known = np.isfinite(value)
        courses[name] = Course(*(part[known].tolist() for part in (hours, value, low, high)))
    return courses


def _together(counts: PlateCounts) -> PlateCounts:
    """The same counts with dying and dead cells as one state: its interval is not the sum of theirs."""
    parts = [counts.counts[..., counts.columns(*groups)].sum(axis=3) for groups in (("alive",), ("dying", "dead"))]
    return replace(
        counts,
        states=("alive", _GONE, UNKNOWN),
        groups={"alive": "alive", _GONE: "dying"},
        counts=np.stack([*parts, np.zeros_like(parts[0])], axis=3).astype(np.int32),
    )


def response_lines(told: Response) -> Iterator[str]:
    """What a biologist reads of it."""
    response = told.figures.response
    treated = {told.figures.plan.arm(well) for well in told.treated}
    for place, arm in enumerate(response.arms):
        if arm not in treated:  # the controls are what a response is held against: theirs is 0 by itself
            continue
        told_of = response.arm_response
        value, low, high = (float(each[place, -1]) for each in (told_of.value, told_of.low, told_of.high))
        if np.isfinite((value, low, high)).all():
            yield f"     response of {arm} at the end: {value:z.0%} (95 % interval {low:z.0%} to {high:z.0%})"
    onsets = ", ".join(f"{well} {hours:.1f} h" for well, hours in told.onset_h.items()) or "none"
    yield f"     onset of the response told, after the drug: {onsets} ({len(told.treated)} treated wells)"
    yield "     (told once it is beyond chance for the whole plate: rather late than wrong; docs/response.md)"
