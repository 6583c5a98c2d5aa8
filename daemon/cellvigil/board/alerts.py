"""What is wrong now, by the same limits and names as the rules of `dashboards/prometheus`. Pure.

The page needs no Prometheus for it: the daemon holds its own figures against `alerts.*`. Rules also know time (`for:`,
increases) and daemons that are down; this knows the present moment only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from cellvigil import config
from cellvigil.board.figures import dying_or_dead, is_running, median, newest_s, of_role, out_since
from cellvigil.board.values import Machine, Watched
from cellvigil.board.words import age_text
from cellvigil.platemap import CONTROL, TREATED
from cellvigil.response.values import Bools
from cellvigil.tally.figures import PlateFigures

CRITICAL, WARNING, INFO = SEVERITIES = ("critical", "warning", "info")

_OVER = timedelta(hours=24)  # a source without a frame for so long is done: nobody needs to be told of it
_NEWS = timedelta(hours=12)  # an onset is news for so long
_SLOW_SCAN_S = 30.0  # as in the rule
_MOST_NAMED = 8  # wells in one alert


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that a person should know now."""

    name: str  # as the rule is called, and the section of docs/runbook.md
    severity: str
    place: str  # a plate, a source, or "" = the machine
    text: str


def alerts_now(
    plates: Sequence[PlateFigures], machine: Machine, limits: config.Alerts, now: datetime
) -> tuple[Alert, ...]:
    """Everything beyond its limit at `now` (aware), the worst first."""
    found = [*_of_machine(machine, limits)]
    for source in machine.sources:
        found += _of_source(source, plates, limits, now)
    for plate in plates:
        if is_running(plate, now):
            found += (*_of_wells(plate, limits, now), *_of_plate(plate, limits))
    return tuple(sorted(found, key=lambda alert: SEVERITIES.index(alert.severity)))


def _of_machine(machine: Machine, limits: config.Alerts) -> Iterator[Alert]:
    if machine.heartbeat_age_s > limits.heartbeat_s:
        text = f"nothing has come through all stages for {age_text(timedelta(seconds=machine.heartbeat_age_s))}"
        yield Alert("CellvigilHeartbeatOld", CRITICAL, "", text)
    if machine.paused:
        yield Alert("CellvigilStoreFull", CRITICAL, "", f"writing waits ({machine.paused}): make room on the disk")
    if machine.floor_h < limits.floor_h:
        yield Alert("CellvigilStoreFilling", WARNING, "", f"the disk reaches its floor in {machine.floor_h:.0f} h")
    if machine.degraded:
        yield Alert("CellvigilGpuMissing", WARNING, "", "an encoder fell back to the CPU after its device failed")
    if machine.tally_age_s > limits.heartbeat_s:
        text = f"counts and response were last worked out {age_text(timedelta(seconds=machine.tally_age_s))} ago"
        yield Alert("CellvigilTallyOld", WARNING, "", text)
    if not machine.tally_up:
        text = "a plate's figures cannot be made; the last good ones stand, and the log says which"
        yield Alert("CellvigilTallyFailing", WARNING, "", text)
    if machine.left_out:
        text = f"{machine.left_out} wells are beyond metrics.max_wells: in the store, but not here"
        yield Alert("CellvigilWellsLeftOut", WARNING, "", text)
    if machine.to_be_deleted:
        yield Alert(
            "CellvigilRetentionAnnounced", INFO, "", "something of the store will be deleted; the log says what"
        )


def _of_source(
    source: Watched, plates: Sequence[PlateFigures], limits: config.Alerts, now: datetime
) -> Iterator[Alert]:
    if not source.up:
        yield Alert("CellvigilSourceAway", CRITICAL, source.name, "its folder is away, or hangs")
    if source.backlog > limits.backlog_frames:
        yield Alert("CellvigilBacklogGrowing", WARNING, source.name, f"{source.backlog} complete frames wait")
    if source.scan_s > _SLOW_SCAN_S:
        text = f"a look at its folder takes {source.scan_s:.0f} s: new frames are seen late"
        yield Alert("CellvigilScanSlow", WARNING, source.name, text)
    if not source.plate_map_up:
        text = "the plate map cannot be used; what was read before stands"
        yield Alert("CellvigilPlateMapWrong", WARNING, source.name, text)
    if not source.events_up:
        yield Alert("CellvigilEventsWrong", WARNING, source.name, "the events cannot be used; those from before stand")
    if source.fit_failed:
        yield Alert("CellvigilAlignmentFailed", WARNING, source.name, "its index could not be aligned")
    if source.drifted:
        text = "control wells have drifted since the alignment was fitted; a refit is asked for"
        yield Alert("CellvigilAlignmentDrift", WARNING, source.name, text)
    if source.interval_s is None or source.last_frame is None or _is_out(source, plates, now):
        return
    expected = timedelta(seconds=limits.stalled_intervals * source.interval_s)
    since = now - source.last_frame
    if timedelta(0) < since - expected < _OVER:
        text = f"no frame for {age_text(since)}; expected every {age_text(timedelta(seconds=source.interval_s))}"
        yield Alert("CellvigilFramesStalled", CRITICAL, source.name, text)


def _is_out(source: Watched, plates: Sequence[PlateFigures], now: datetime) -> bool:
    """Whether every plate that the source had frames of within a day of its newest is out of the microscope."""
    mine = [plate for plate in plates if plate.series[0] == source.name]
    newest = max(map(newest_s, mine), default=0.0)
    going = [plate for plate in mine if newest_s(plate) > newest - _OVER.total_seconds()]
    return bool(going) and all(out_since(plate, now) is not None for plate in going)


def _of_wells(plate: PlateFigures, limits: config.Alerts, now: datetime) -> Iterator[Alert]:
    response = plate.response
    with np.errstate(invalid="ignore"):
        fresh = now.timestamp() - response.onset_s < _NEWS.total_seconds()
        age_h = (plate.acquired_s[:, 0] - response.treated_s) / 3600
        waits = of_role(plate, TREATED) & (age_h >= limits.no_response_h) & np.isnan(response.onset_s)
        dead = response.dead_timepoints[:, 0] >= limits.dead_timepoints
        unknown = plate.unknown[:, 0] > limits.unknown
        unsure = plate.certainty[:, 0] < limits.certainty
        blurred = plate.focus[:, 0] < limits.focus
    for name, severity, which, text in (
        ("CellvigilResponseOnset", INFO, fresh, "the response has set in"),
        ("CellvigilNoResponse", WARNING, waits, f"no response {limits.no_response_h:g} h after treatment"),
        ("CellvigilDeadShareHigh", WARNING, dead, f"more than {limits.dead_share:.0%} dead cells"),
        ("CellvigilUnknownHigh", WARNING, unknown, "many unknown cells"),
        ("CellvigilCertaintyLow", WARNING, unsure, "the calls are uncertain"),
        ("CellvigilFocusLost", WARNING, blurred, "out of focus"),
    ):
        if which.any():
            yield Alert(name, severity, plate.plate, f"{_named(plate, which)}: {text}")


def _of_plate(plate: PlateFigures, limits: config.Alerts) -> Iterator[Alert]:
    control = of_role(plate, CONTROL)
    for name, severity, figures, over, text in (
        ("CellvigilControlWellsDying", CRITICAL, dying_or_dead(plate), limits.control_death, "dying or dead"),
        ("CellvigilDrift", WARNING, plate.novel[:, 0], limits.novel, "unlike the reference cells"),
    ):
        middle = median(figures[control])
        if middle > over:
            yield Alert(name, severity, plate.plate, f"{middle:.0%} of the cells in control wells are {text} (median)")
    if median(plate.focus[:, 0]) < limits.focus:
        yield Alert("CellvigilPlateOutOfFocus", CRITICAL, plate.plate, "half of the wells are out of focus")
    status = plate.response.correction
    if status in ("residual", "shifted"):
        text = f"corrected shares are in doubt ({status}); the plain ones stand"
        yield Alert("CellvigilCorrectionDoubtful", WARNING, plate.plate, text)


def _named(plate: PlateFigures, which: Bools) -> str:
    names = [well for well, there in zip(plate.counts.wells, which, strict=True) if there]
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{'well' if len(names) == 1 else 'wells'} {', '.join(names[:_MOST_NAMED])}{rest}"
