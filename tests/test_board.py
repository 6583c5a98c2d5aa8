"""The page as text: plates of any format, marks, arms in order, names that mean harm, words for times and ages."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from board_plates import MACHINE, TREATED, WATCHED, grid, machine, plan_of, plate
from cellvigil.board.alerts import Alert
from cellvigil.board.figures import dying_or_dead
from cellvigil.board.page import MOST_PLATES, RENEWED_S, page
from cellvigil.board.plate import plate_body
from cellvigil.board.plate_map import TINTS
from cellvigil.board.values import LastFrame
from cellvigil.board.words import DASH, age_text, natural, time_text
from cellvigil.events import Event
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.tally.figures import PlateFigures
from plate_lines import GROUPS
from store_records import START, key

ROOT = Path(__file__).resolve().parents[1]
NOW = START + timedelta(hours=12)


def body(figures: PlateFigures) -> Any:
    return plate_body(figures, UTC)


HEALTHY = plate(["A1", "A2"], PlatePlan({"A1": WellPlan("A1", "control"), "A2": WellPlan("A2", "treated")}))


def moved(*kinds: str) -> tuple[Event, ...]:
    return tuple(Event(START + timedelta(hours=place + 1), kind) for place, kind in enumerate(kinds))


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
    assert told[:2] == [f"A5 ({shown.plan.arm('A5')}, treated)", "2024-03-02 08:30 CET (07:30 UTC)"]
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


def arms(figures: PlateFigures, column: int = 0) -> list[str]:
    table = body(figures).rsplit("<table", 1)[1]
    return [unescape(re.sub("<.*?>", "", row.split("</td>")[column])) for row in table.split("<tr>")[2:]]


def test_arms_stand_in_the_order_of_their_doses() -> None:
    doses = [("A1", None, ""), ("A2", 16.0, "uM"), ("A3", 2.0, "uM"), ("A4", 300.0, "nM"), ("B1", 0.1, "mg/mL")]
    plans = {well: WellPlan(well, "treated", "Raptinal", dose, unit) for well, dose, unit in doses}
    plans |= {"B2": WellPlan("B2", "control"), "B3": WellPlan("B3", "blank"), "B4": WellPlan("B4", "treated", "A 10")}
    plans |= {"C1": WellPlan("C1", "treated", "A 9")}
    found = arms(plate(list(plans), PlatePlan(plans), timepoints=1))
    assert found == ["control", "A 9", "A 10", "Raptinal", "Raptinal 300 nM", "Raptinal 2 uM", "Raptinal 16 uM",
                     "Raptinal 0.1 mg/mL", "blank"]  # fmt: skip


def test_onsets_are_told_of_arms_that_are_tested_for_one() -> None:
    plans = {"A1": WellPlan("A1", "control"), "A2": WellPlan("A2", "treated", "A"), "A3": WellPlan("A3", "blank")}
    assert arms(plate(list(plans), PlatePlan(plans), timepoints=1), -2) == [DASH, "0 of 1", DASH]


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
    assert any(EVIL in str(attributes.get("data-told")) for _, attributes in parsed.elements)
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
    ("seconds", "text"),
    [(-5, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "2 h"), (172_800, "2 days")],
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
    keys = sorted(natural(text) for text in texts)
    assert all(one <= other for one, other in itertools.pairwise(keys))
    assert sorted(["B10", "B2", "A1"], key=natural) == ["A1", "B2", "B10"]


def test_the_documentation_says_what_is_so() -> None:
    text = " ".join((ROOT / "docs" / "page.md").read_text(encoding="utf-8").split())
    *steps, last = (f"{limit:.0%}".rstrip("%") for limit in TINTS)
    assert f"at {', '.join(steps)} and {last} %" in text
    assert f"renews itself every {RENEWED_S} s" in text
    assert f"(the {MOST_PLATES} that began last)" in text
    assert all((ROOT / "docs" / target).exists() for target in re.findall(r"\]\(([^)#]+)", text))
