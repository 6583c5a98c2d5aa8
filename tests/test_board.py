"""The page as text and pixels: alerts on and off, plates of any format, names that mean harm, outlines in colours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from board_plates import MACHINE, TREATED, WATCHED, grid, machine, plan_of, plate
from cellvigil import config
from cellvigil.board import alerts as alerts_module
from cellvigil.board import style
from cellvigil.board.alerts import SEVERITIES, Alert, alerts_now
from cellvigil.board.figures import dying_or_dead, out_since
from cellvigil.board.page import MOST_PLATES, page
from cellvigil.board.picture import drawn
from cellvigil.board.plate import plate_body
from cellvigil.board.values import GROUP_COLOURS, UNKNOWN_COLOUR, LastFrame, Machine, colours_of
from cellvigil.board.words import age_text, natural, time_text
from cellvigil.events import Event
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.tally.figures import PlateFigures
from plate_lines import GROUPS
from store_records import START, key

ROOT = Path(__file__).resolve().parents[1]
NOW = START + timedelta(hours=12)
LIMITS = config.Alerts()
SMALL = grid(2, 3)


def body(figures: PlateFigures) -> Any:
    return plate_body(figures, UTC)


def small(**changes: Any) -> PlateFigures:
    """Two controls in front and at the end of each row, a treated well between, as `changes` say."""
    return plate(SMALL, plan_of(SMALL, 3), **changes)


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


# Plates


class Parsed(HTMLParser):
    """Elements with their attributes, text, and whether all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def wells(self) -> dict[str, dict[str, str | None]]:
        told = [attributes for _, attributes in self.elements if "data-told" in attributes]
        return {re.split(r"( \(|:|\n)", str(each["data-told"]))[0]: each for each in told}


def classes(figures: PlateFigures) -> dict[str, set[str]]:
    return {well: set(str(each["class"]).split()) for well, each in Parsed(body(figures)).wells().items()}


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48)])
def test_a_plate_of_any_format_is_a_grid(rows: int, columns: int) -> None:
    wells = grid(rows, columns)
    parsed = Parsed(body(plate(wells, timepoints=1)))
    assert f"plate c{columns}" in [attributes.get("class") for _, attributes in parsed.elements]
    assert list(parsed.wells()) == wells
    assert sum(element == "tr" for element, _ in parsed.elements) == rows + 1
    assert parsed.open == []


def test_wells_that_are_missing_leave_gaps() -> None:
    parsed = Parsed(body(plate(["A1", "H12", "C07"], timepoints=1)))
    assert set(parsed.wells()) == {"A1", "H12", "C07"}
    assert sum(element == "td" for element, _ in parsed.elements) == 96


@pytest.mark.parametrize(
    "odd", ["slide-2", "a1", "A0", "A100", "AG1", "ZZ99", "A1 ", "\N{ARABIC-INDIC DIGIT ONE}", "A01"]
)
def test_wells_with_other_names_stand_in_a_row(odd: str) -> None:
    parsed = Parsed(body(plate(["A1", "B10", odd, "B2"], timepoints=1)))
    assert ("div", {"class": "wells"}) in parsed.elements
    assert set(parsed.wells()) == {"A1", "B2", "B10", odd}
    order = list(parsed.wells())
    assert order.index("B2") < order.index("B10")


def test_a_wells_tint_follows_its_dying_and_dead_cells() -> None:
    shown = plate(grid(8, 12), plan_of(grid(8, 12), 12))
    shares = dict(zip(shown.counts.wells, dying_or_dead(shown).tolist(), strict=True))
    steps = {
        well: next(int(name[1]) for name in found if re.fullmatch("s[0-5]", name))
        for well, found in classes(shown).items()
    }
    assert len(set(steps.values())) >= 3
    for one, share in shares.items():
        assert steps[one] == sum(share >= limit for limit in (0.05, 0.1, 0.2, 0.4, 0.6))


def test_wells_are_marked() -> None:
    wells = grid(8, 12)
    shown = plate(wells, plan_of(wells, 12), left_out=("C5",))
    found = classes(shown)
    assert {well for well, mine in found.items() if "control" in mine} == {
        f"{row}{c}" for row in "ABCDEFGH" for c in (1, 12)
    } - {"H12"}
    assert {well for well, mine in found.items() if "blank" in mine} == {"H12"}
    assert {well for well, mine in found.items() if "doubt" in mine} == {"C5"}
    responded = {well for well, at in zip(wells, shown.response.onset_s, strict=True) if np.isfinite(at)}
    assert {well for well, mine in found.items() if "onset" in mine} == responded != set()
    told = str(Parsed(body(shown)).wells()["C5"]["data-told"])
    assert "no newer value, though other wells have one" in told


def test_all_of_a_well_is_told_with_intervals_and_in_the_microscopes_time() -> None:
    shown = plate(grid(8, 12), plan_of(grid(8, 12), 12))
    text = plate_body(shown, ZoneInfo("Europe/Berlin"))
    told = str(Parsed(text).wells()["A5"]["data-told"]).split("\n")
    row = shown.counts.wells.index("A5")
    plain = shown.response.plain
    value, low, high = (each[row, 0, 2] for each in (plain.value, plain.low, plain.high))
    assert told[:2] == ["A5 (Raptinal 16 uM, treated)", "2024-03-02 08:30 CET (07:30 UTC)"] or told[0].startswith(
        "A5 ("
    )
    assert f"necrotic: {shown.cells[row, 0, 2]:.0f} = {value:.1%} ({low:.1%} to {high:.1%})" in told
    assert any(line.startswith("onset: ") for line in told)
    assert any(line.startswith("response: 0.9") for line in told)
    assert "certainty: 75%" in told


def test_without_a_plan_or_dying_classes_or_cells_it_stands() -> None:
    for figures in (
        plate(["A1"], timepoints=1),
        plate(["A1"], timepoints=1, groups=dict.fromkeys(GROUPS, "none")),
        plate(["A1"], plan_of(["A1"], 1), timepoints=1, groups=dict.fromkeys(GROUPS, "none")),
        plate(["A1"], timepoints=1, counts={}),
        plate(["A1"], timepoints=1, left_out=("A1",)),
    ):
        parsed = Parsed(body(figures))
        assert parsed.open == []
        assert "nan" not in "".join(parsed.text)
        assert "nan" not in str(parsed.wells()["A1"]["data-told"])
    assert "none" in classes(plate(["A1"], timepoints=1, groups=dict.fromkeys(GROUPS, "none")))["A1"]
    assert (
        str(Parsed(body(plate(["A1"], timepoints=1, left_out=("A1",)))).wells()["A1"]["data-told"])
        == "A1: no value yet"
    )


def arms(figures: PlateFigures) -> list[str]:
    table = body(figures).rsplit("<table", 1)[1]
    return [unescape(re.sub("<.*?>", "", row.split("</td>")[0])) for row in table.split("<tr>")[2:]]


def test_arms_stand_in_the_order_of_their_doses() -> None:
    doses = [("A1", None, ""), ("A2", 16.0, "uM"), ("A3", 2.0, "uM"), ("A4", 300.0, "nM"), ("B1", 0.1, "mg/mL")]
    plans = {well: WellPlan(well, "treated", "Raptinal", dose, unit) for well, dose, unit in doses}
    plans |= {"B2": WellPlan("B2", "control"), "B3": WellPlan("B3", "blank"), "B4": WellPlan("B4", "treated", "A 10")}
    plans |= {"C1": WellPlan("C1", "treated", "A 9")}
    found = arms(plate(list(plans), PlatePlan(plans), timepoints=1))
    assert found == ["control", "A 9", "A 10", "Raptinal", "Raptinal 300 nM", "Raptinal 2 uM", "Raptinal 16 uM",
                     "Raptinal 0.1 mg/mL", "blank"]  # fmt: skip


EVIL = "</td></style><script>alert(1)</script>\"'&<b onmouseover=x>"


def whole(*plates: PlateFigures, alerts: tuple[Alert, ...] = (), last: LastFrame | None = None, **other: Any) -> str:
    return page(plates, other.pop("machine", MACHINE), alerts, last, NOW, body=body, **other)


def test_names_that_mean_harm_are_text() -> None:
    plan = PlatePlan({EVIL: WellPlan(EVIL, "treated", EVIL, 1.0, EVIL, EVIL, cell_line=EVIL, treated_at=TREATED)})
    groups = {EVIL: "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}
    hostile = plate([EVIL], plan, series=(EVIL, EVIL, EVIL), groups=groups, timepoints=2)
    last = LastFrame(key(EVIL, 0, EVIL, (EVIL, EVIL, EVIL)), NOW, EVIL, groups, {EVIL: 3}, 0)
    alert = Alert("CellvigilSourceAway", "critical", EVIL, EVIL)
    watched = replace(WATCHED, name=EVIL)
    text = whole(hostile, alerts=(alert,), last=last, machine=machine(watched, device=EVIL, paused=EVIL, version=EVIL))
    parsed = Parsed(text)
    assert parsed.open == []
    assert not {"script", "onmouseover"} & {element for element, _ in parsed.elements}
    assert all(not name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert sum(element == "style" for element, _ in parsed.elements) == 1
    assert "".join(parsed.text).count(EVIL) > 9
    assert EVIL in str(parsed.wells()) or any(EVIL in str(a.get("data-told")) for _, a in parsed.elements)
    image = next(attributes for element, attributes in parsed.elements if element == "img")
    assert re.fullmatch(r"frame\.jpg\?[\w.~%-]+", str(image["src"]))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_comes_through_as_it_is(name: str, other: str) -> None:
    alert = Alert("CellvigilSourceAway", "critical", name, other)
    text = "".join(Parsed(whole(alerts=(alert,))).text)
    clean = f"{name}{': ' if name else ''}{other}".replace("\r\n", "\n").replace("\r", "\n")
    assert clean in text.replace("\r\n", "\n").replace("\r", "\n")


def test_the_page_says_in_a_word_how_it_is() -> None:
    def word(**changes: Any) -> str:
        return str(re.search(r"<title>(.*): Cellvigil</title>", whole(**changes)).group(1))

    assert word() == "working"
    assert word(alerts=(Alert("x", "info", "", ""),)) == "working"
    assert word(alerts=(Alert("x", "warning", "", ""),)) == "look here"
    assert word(alerts=(Alert("x", "critical", "", ""),)) == "in trouble"
    assert word(machine=machine(paused="store_full")) == "paused"


def test_plates_are_linked_and_too_many_are_counted() -> None:
    plates = [replace(HEALTHY, series=("scope", "e", str(number))) for number in range(MOST_PLATES + 2)]
    alert = Alert("CellvigilPlateOutOfFocus", "critical", "scope/e/3", "blurred")
    parsed = Parsed(whole(*plates, alerts=(alert,)))
    targets = {str(attributes["href"]) for element, attributes in parsed.elements if element == "a"}
    anchors = {f"#{attributes['id']}" for _, attributes in parsed.elements if "id" in attributes}
    assert {target for target in targets if target.startswith("#")} <= anchors
    assert "#plate-3" in targets
    assert "2 older plates are not shown here." in parsed.text
    assert targets - anchors == {"metrics", "healthz"}  # without a slash: behind a proxy it may lie deeper


def test_a_plate_that_is_out_is_told() -> None:
    assert "out of the microscope for 11 h" in whole(replace(HEALTHY, events=moved("plate_out")))
    assert "out of the microscope" not in whole(replace(HEALTHY, events=moved("plate_out", "plate_in")))


def test_the_last_frame_in_words() -> None:
    last = LastFrame(key("B3", 7, "2"), NOW - timedelta(minutes=20), "counted", GROUPS, {"live": 9, "unknown": 2}, 4)
    text = "".join(Parsed(whole(last=last)).text)
    assert (
        "scope/240301_run/Plate 1, well B3, field 2: 9 live, 2 unknown (4 more at the border are not counted)." in text
    )
    assert "Taken 20 min ago, 2024-03-02 07:40 UTC." in text
    assert "Left out of the counts." not in text
    assert "Left out of the counts." in whole(last=replace(last, outcome="excluded"))
    assert "no cells" in whole(last=replace(last, cells={}, edge=0))
    assert "<img" not in whole(last=last, has_picture=False)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "2 h"), (172_800, "2 days")]
)
def test_ages_are_said_as_people_do(seconds: float, text: str) -> None:
    assert age_text(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2024-03-01 23:30 UTC"),
        ("Europe/London", "2024-03-01 23:30 UTC"),
        ("Europe/Berlin", "2024-03-02 00:30 CET (2024-03-01 23:30 UTC)"),
        ("America/New_York", "2024-03-01 18:30 EST (23:30 UTC)"),
    ],
)
def test_times_are_those_of_the_microscope_and_utc(zone: str, text: str) -> None:
    at = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
    assert time_text(at, ZoneInfo(zone)) == time_text(at.timestamp(), ZoneInfo(zone)) == text


@given(st.lists(st.text("ab09 ", max_size=6), max_size=8))
def test_any_names_can_be_sorted(texts: list[str]) -> None:
    keys = [natural(text) for text in texts]
    assert sorted(keys) == sorted(reversed(keys))
    assert sorted(["B10", "B2", "A1"], key=natural) == ["A1", "B2", "B10"]


# Colours and pixels


def luminance(colour: str) -> float:
    """WCAG 2.1's relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "tints, inks", [(style.TINTS_LIGHT, style.INKS_LIGHT), (style.TINTS_DARK, style.INKS_DARK)], ids=["light", "dark"]
)
def test_tints_are_a_scale_and_their_text_can_be_read(tints: tuple[str, ...], inks: tuple[str, ...]) -> None:
    assert all(contrast(tint, ink) >= 4.5 for tint, ink in zip(tints, inks, strict=True))
    steps = [luminance(tint) for tint in tints]
    assert steps in (sorted(steps), sorted(steps, reverse=True))  # lightness alone tells them apart, also in grey


def test_states_have_colours_by_group() -> None:
    groups = {"live": "alive", "early": "dying", "late": "dying", "odd": "?"}
    found = colours_of((*groups, "unknown"), groups)
    assert found["live"] == GROUP_COLOURS["alive"][0]
    assert [found["early"], found["late"]] == list(GROUP_COLOURS["dying"])
    assert found["odd"] == found["unknown"] == UNKNOWN_COLOUR


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1].astype(int)


def squares(shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.int32)
    labels[20:60, 20:60], labels[20:60, 90:130], labels[70:110, 20:60] = 1, 2, 3
    return labels


PLANES: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {
    "u8": lambda shape: np.full(shape, 90, np.uint8),
    "u16": lambda shape: np.full(shape, 40_000, np.uint16),
    "f32": lambda shape: np.full(shape, 0.5, np.float32),
    "nan": lambda shape: np.full(shape, np.nan, np.float32),
    "inf": lambda shape: np.full(shape, np.inf, np.float32),
    "noise": lambda shape: np.random.default_rng(1).integers(0, 65_535, shape, dtype=np.uint16),
}


@pytest.mark.parametrize("kind", PLANES)
def test_cells_are_outlined_in_their_states_colours(kind: str) -> None:
    colours = colours_of(("live", "necrotic", "unknown"), GROUPS)
    image = decoded(drawn(PLANES[kind]((120, 160)), squares(), {1: "live", 2: "necrotic"}, colours))
    assert image.shape == (120, 160, 3)
    for top, left, colour in ((20, 20, colours["live"]), (20, 90, colours["necrotic"]), (70, 20, UNKNOWN_COLOUR)):
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        edge = image[top + 1, left + 5 : left + 35]
        assert np.abs(np.median(edge, axis=0) - wanted).max() < 30
    if kind != "noise":
        inside = image[30:50, 30:50]
        assert np.ptp(inside, axis=2).max() < 12  # grey: the cell itself can be seen


def test_a_frame_without_cells_is_grey() -> None:
    image = decoded(drawn(PLANES["noise"]((50, 70)), np.zeros((50, 70), np.int32), {}, {}))
    assert image.shape == (50, 70, 3)
    assert np.ptp(image, axis=2).max() <= 2
    assert image.min() < 20 < 235 < image.max()  # the whole range is used


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2000), (2400, 2400)])
def test_pictures_of_any_size(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    labels.flat[0] = 1
    image = decoded(drawn(np.zeros(shape, np.uint16), labels, {1: "live"}, {}))
    assert max(image.shape) <= 1200
    assert min(image.shape) >= 1


def test_masks_beyond_the_calls_cost_nothing() -> None:
    decoded(drawn(PLANES["u8"]((120, 160)), squares(), {1: "live", 900: "live"}, {"live": "#009E73"}))
