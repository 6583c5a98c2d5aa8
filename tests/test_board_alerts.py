"""Alerts of the page: on beyond their limits and off at them, named like the rules for Prometheus and the runbook."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from board_plates import MACHINE, WATCHED, grid, machine, plan_of, plate
from cellvigil import config
from cellvigil.board import alerts as alerts_module
from cellvigil.board.alerts import SEVERITIES, Alert, alerts_now
from cellvigil.board.figures import out_since
from cellvigil.board.values import Machine
from cellvigil.events import Event
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.tally.figures import PlateFigures
from store_records import START

ROOT = Path(__file__).resolve().parents[1]
NOW = START + timedelta(hours=12)
LIMITS = config.Alerts()


HEALTHY = plate(["A1", "A2"], PlatePlan({"A1": WellPlan("A1", "control"), "A2": WellPlan("A2", "treated")}))


def figure(name: str, value: float, well: str = "A2") -> PlateFigures:
    """A healthy plate with one figure of one well (or, "": of all) changed."""
    changed = np.array(getattr(HEALTHY, name))
    rows = slice(None) if not well else HEALTHY.counts.wells.index(well)
    changed[rows] = value
    return replace(HEALTHY, **{name: changed})


def responding(**changes: Any) -> PlateFigures:
    return replace(HEALTHY, response=replace(HEALTHY.response, **changes))


def with_shares(well: str, dead: float) -> PlateFigures:
    plain = HEALTHY.response.plain
    value = np.array(plain.value)
    value[HEALTHY.counts.wells.index(well), 0, :3] = (1 - dead, 0, dead)
    return responding(plain=replace(plain, value=value))


def onset(hours_ago: float) -> PlateFigures:
    return responding(onset_s=np.array([np.nan, (NOW - timedelta(hours=hours_ago)).timestamp()]))


def treated(hours: float, onset_s: float = np.nan) -> PlateFigures:
    """The second well was treated so long before its newest image."""
    start = float(HEALTHY.acquired_s[1, 0]) - 3600 * hours
    return responding(treated_s=np.array([np.nan, start]), onset_s=np.array([np.nan, onset_s]))


def late(hours: float) -> Machine:
    return machine(replace(WATCHED, last_frame=NOW - timedelta(hours=hours)))


def moved(*kinds: str) -> tuple[Event, ...]:
    return tuple(Event(START + timedelta(hours=place + 1), kind) for place, kind in enumerate(kinds))


# name of the alert; a plate and a machine at which it is on; the same, only just off
CASES: dict[str, tuple[str, tuple[Any, Any], tuple[Any, Any]]] = {
    "heartbeat": ("HeartbeatOld", ((), machine(heartbeat_age_s=601)), ((), machine(heartbeat_age_s=600))),
    "full": ("StoreFull", ((), machine(paused="store_full")), ((), MACHINE)),
    "filling": ("StoreFilling", ((), machine(floor_h=47.9)), ((), machine(floor_h=48))),
    "filling, not known": ("StoreFilling", ((), machine(floor_h=0)), ((), machine(floor_h=float("nan")))),
    "gpu": ("GpuMissing", ((), machine(degraded=True)), ((), MACHINE)),
    "tally old": ("TallyOld", ((), machine(tally_age_s=601)), ((), machine(tally_age_s=600))),
    "tally": ("TallyFailing", ((), machine(tally_up=False)), ((), MACHINE)),
    "left out": ("WellsLeftOut", ((), machine(left_out=1)), ((), machine(left_out=0))),
    "deletion": ("RetentionAnnounced", ((), machine(to_be_deleted=True)), ((), MACHINE)),
    "away": ("SourceAway", ((), machine(replace(WATCHED, up=False))), ((), MACHINE)),
    "backlog": (
        "BacklogGrowing",
        ((), machine(replace(WATCHED, backlog=101))),
        ((), machine(replace(WATCHED, backlog=100))),
    ),
    "slow": ("ScanSlow", ((), machine(replace(WATCHED, scan_s=31))), ((), machine(replace(WATCHED, scan_s=30)))),
    "plate map": ("PlateMapWrong", ((), machine(replace(WATCHED, plate_map_up=False))), ((), MACHINE)),
    "events": ("EventsWrong", ((), machine(replace(WATCHED, events_up=False))), ((), MACHINE)),
    "no fit": ("AlignmentFailed", ((), machine(replace(WATCHED, fit_failed=True))), ((), MACHINE)),
    "drifted": ("AlignmentDrift", ((), machine(replace(WATCHED, drifted=True))), ((), MACHINE)),
    "stalled": ("FramesStalled", ((), late(1.26)), ((), late(1.25))),
    "stalled for days": ("FramesStalled", ((), late(25)), ((), late(25.3))),
    "stalled, no interval": (
        "FramesStalled",
        ((), late(2)),
        ((), machine(replace(WATCHED, interval_s=None, last_frame=NOW - timedelta(hours=2)))),
    ),
    "stalled, never one": ("FramesStalled", ((), late(2)), ((), machine(replace(WATCHED, last_frame=None)))),
    "stalled, plate out": (
        "FramesStalled",
        ((replace(HEALTHY, events=moved("plate_out", "plate_in")),), late(2)),
        ((replace(HEALTHY, events=moved("plate_out")),), late(2)),
    ),
    "onset": ("ResponseOnset", ((onset(11.9),), MACHINE), ((onset(12.1),), MACHINE)),
    "no response": ("NoResponse", ((treated(24),), MACHINE), ((treated(23.9),), MACHINE)),
    "no response, responded": ("NoResponse", ((treated(30),), MACHINE), ((treated(30, 1.0),), MACHINE)),
    "dead": (
        "DeadShareHigh",
        ((responding(dead_timepoints=np.array([[0], [3]])),), MACHINE),
        ((responding(dead_timepoints=np.array([[2], [2]])),), MACHINE),
    ),
    "controls": ("ControlWellsDying", ((with_shares("A1", 0.16),), MACHINE), ((with_shares("A1", 0.14),), MACHINE)),
    "controls only": ("ControlWellsDying", ((with_shares("A1", 0.9),), MACHINE), ((with_shares("A2", 0.9),), MACHINE)),
    "unknown": ("UnknownHigh", ((figure("unknown", 0.31),), MACHINE), ((figure("unknown", 0.3),), MACHINE)),
    "certainty": ("CertaintyLow", ((figure("certainty", 0.59),), MACHINE), ((figure("certainty", 0.6),), MACHINE)),
    "uncalibrated": ("CertaintyLow", ((figure("certainty", 0),), MACHINE), ((figure("certainty", np.nan),), MACHINE)),
    "drift": ("Drift", ((figure("novel", 0.31, "A1"),), MACHINE), ((figure("novel", 0.9, "A2"),), MACHINE)),
    "focus": ("FocusLost", ((figure("focus", 0.49),), MACHINE), ((figure("focus", 0.5),), MACHINE)),
    "plate": ("PlateOutOfFocus", ((figure("focus", 0.4, ""),), MACHINE), ((figure("focus", 0.4),), MACHINE)),
    "residual": ("CorrectionDoubtful", ((responding(correction="residual"),), MACHINE), ((HEALTHY,), MACHINE)),
    "shifted": (
        "CorrectionDoubtful",
        ((responding(correction="shifted"),), MACHINE),
        ((responding(correction="ok"),), MACHINE),
    ),
}  # fmt: skip


def names(found: tuple[Alert, ...]) -> set[str]:
    return {alert.name for alert in found}


@pytest.mark.parametrize("case", CASES)
def test_an_alert_stands_beyond_its_limit_and_not_at_it(case: str) -> None:
    name, on, off = CASES[case]
    assert f"Cellvigil{name}" in names(alerts_now(*on, LIMITS, NOW))
    assert f"Cellvigil{name}" not in names(alerts_now(*off, LIMITS, NOW))


def test_where_all_is_well_there_is_none() -> None:
    assert alerts_now((HEALTHY,), MACHINE, LIMITS, NOW) == ()


LIMITED: dict[str, tuple[Any, float]] = {
    "dead_timepoints": (((responding(dead_timepoints=np.array([[0], [3]])),), MACHINE), 4),
    "no_response_h": (((treated(24),), MACHINE), 25.0),
    "control_death": (((with_shares("A1", 0.16),), MACHINE), 0.2),
    "unknown": (((figure("unknown", 0.31),), MACHINE), 0.4),
    "certainty": (((figure("certainty", 0.59),), MACHINE), 0.5),
    "novel": (((figure("novel", 0.31, "A1"),), MACHINE), 0.4),
    "focus": (((figure("focus", 0.49),), MACHINE), 0.4),
    "stalled_intervals": (((), late(1.26)), 3.0),
    "backlog_frames": (((), machine(replace(WATCHED, backlog=101))), 200),
    "floor_h": (((), machine(floor_h=47.9)), 24.0),
    "heartbeat_s": (((), machine(heartbeat_age_s=601)), 900.0),
}


@pytest.mark.parametrize("limit", LIMITED)
def test_the_limits_are_the_configurations(limit: str) -> None:
    state, other = LIMITED[limit]
    assert len(alerts_now(*state, LIMITS, NOW)) == 1
    assert alerts_now(*state, LIMITS.model_copy(update={limit: other}), NOW) == ()


def test_every_limit_is_looked_at() -> None:
    assert set(LIMITED) | {"dead_share"} == set(config.Alerts.model_fields)  # which the tally counts time points with


def test_a_plate_that_is_over_is_no_news() -> None:
    gone = figure("focus", 0.1, "")
    assert alerts_now((gone,), MACHINE, LIMITS, NOW)
    later = NOW + timedelta(hours=24)
    assert alerts_now((gone,), machine(replace(WATCHED, last_frame=later)), LIMITS, later) == ()


def test_the_worst_stands_first_and_wells_are_named() -> None:
    many = plate(grid(8, 12), plan_of(grid(8, 12), 12))
    found = alerts_now((many,), machine(replace(WATCHED, up=False)), LIMITS, NOW)
    assert [alert.severity for alert in found] == sorted((a.severity for a in found), key=SEVERITIES.index)
    told = next(alert for alert in found if alert.name == "CellvigilDeadShareHigh").text
    dead = [well for well, n in zip(many.counts.wells, many.response.dead_timepoints[:, 0], strict=True) if n >= 3]
    assert told == f"wells {', '.join(dead[:8])} and {len(dead) - 8} more: more than 30% dead cells"


def test_all_plates_of_a_source_must_be_out_to_silence_it() -> None:
    out = replace(HEALTHY, events=moved("plate_out"))
    inside = replace(HEALTHY, series=("scope", "240301_run", "Plate 2"))
    assert "CellvigilFramesStalled" not in names(alerts_now((out,), late(2), LIMITS, NOW))
    assert "CellvigilFramesStalled" in names(alerts_now((out, inside), late(2), LIMITS, NOW))
    elsewhere = replace(out, series=("other", "240301_run", "Plate 1"))
    assert "CellvigilFramesStalled" in names(alerts_now((elsewhere,), late(2), LIMITS, NOW))
    assert out_since(out, START) is None  # an event of the future


def rules() -> dict[str, str]:
    """Severity by alert, of the rules for Prometheus."""
    files = (ROOT / "dashboards" / "prometheus").glob("*.rules.yaml")
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_names_and_severities_are_those_of_the_rules_and_of_the_runbook() -> None:
    source = Path(alerts_module.__file__).read_text(encoding="utf-8")
    used = dict(re.findall(r'"(Cellvigil\w+)", (CRITICAL|WARNING|INFO)', source))
    assert set(used) == set(re.findall(r"Cellvigil\w+", source)) - {"CellvigilError"}
    assert {f"Cellvigil{name}" for name, _, _ in CASES.values()} == set(used)
    known = rules()
    assert {name: known.get(name) for name in used} == {name: severity.lower() for name, severity in used.items()}
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert [name for name in used if f"\n### {name}\n" not in runbook] == []
