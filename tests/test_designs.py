"""Plate maps and events while a service runs: followed, never fatal, and kept in the record."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cellvigil import config
from cellvigil.assays.added import FILE, Entry, add_event, remove_event
from cellvigil.assays.plans import Plans
from cellvigil.events import KINDS, Event
from cellvigil.journal import parse, seal
from cellvigil.ledger import Design, Ledger, design_of
from cellvigil.metrics import Metrics
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.service.designing import Designs
from cellvigil.store.reader import plate_lines, read_ledger
from cellvigil.store.repair import check
from cellvigil.store.writer import Store, open_store
from store_records import SERIES, key, record

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MAP = "well,role,compound,dose_uM\nA1,control,,\nB1,treated,X,10\n"
OTHER = "well,role,compound,dose_uM\nA1,control,,\nB1,treated,X,20\n"


def settings(root: Path, **changes: Any) -> config.Config:
    source = {"name": "scope", "kind": "plain", "path": "images", "pattern": "(?P<well>[A-H][0-9]+)", "index": "states",
              "plate_map": "plate.csv", "events": "events.csv", **changes}  # fmt: skip
    return config.parse({"sources": [source], "store": {"path": "store"}}, base=root)


def write(path: Path, text: str) -> None:
    """Save a file; it has another date than any before, as it would a moment later."""
    path.write_text(text, encoding="utf-8")
    write.moment += 1  # type: ignore[attr-defined]
    os.utime(path, ns=(write.moment, write.moment))  # type: ignore[attr-defined]


write.moment = 1_700_000_000_000_000_000  # type: ignore[attr-defined]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store", now=lambda: NOW)
    yield opened
    opened.close()


def up(metrics: Metrics, what: str = "plate_map") -> float | None:
    return metrics.registry.get_sample_value(f"cellvigil_{what}_up", {"source": "scope"})


def dose(designs: Designs | Plans) -> float | None:
    plan = designs.of(SERIES).wells.get("B1")
    return plan.dose if plan else None


def test_a_map_is_taken_up_when_it_changes_and_only_then(tmp_path: Path) -> None:
    write(tmp_path / "plate.csv", MAP)
    write(tmp_path / "events.csv", "at,kind\n2026-11-20 18:00,medium\n")
    plans = Plans(settings(tmp_path))
    assert plans.refresh() == {"scope"}
    assert plans.refresh() == frozenset()
    assert dose(plans) == 10
    assert [event.kind for event in plans.events(SERIES)] == ["medium"]
    write(tmp_path / "plate.csv", MAP)  # saved again as it was
    assert plans.refresh() == frozenset()
    write(tmp_path / "plate.csv", OTHER)
    assert plans.refresh() == {"scope"}
    assert dose(plans) == 20


def test_events_of_file_and_command_are_one_list_and_what_was_taken_back_is_not_in_it(tmp_path: Path) -> None:
    write(tmp_path / "events.csv", "at,kind\n2026-11-21 13:00Z,medium\n")
    plans = Plans(settings(tmp_path, plate_map=None))
    assert plans.refresh() == {"scope"}
    store = tmp_path / "store"
    late = add_event(store, Entry("scope", NOW + timedelta(hours=2), "plate_out"), NOW)
    add_event(store, Entry("scope", NOW, "dosed", wells="B1-B2", plate="Plate 1"), NOW)
    add_event(store, Entry("scope", NOW, "dosed", plate="Plate 2"), NOW)
    add_event(store, Entry("other", NOW, "plate_in"), NOW)
    assert plans.refresh() == {"scope"}
    assert [event.kind for event in plans.events(SERIES)] == ["dosed", "medium", "plate_out"]
    assert plans.events(SERIES)[0].wells == ("B1", "B2")
    remove_event(store, late.id, NOW)
    assert plans.refresh() == {"scope"}
    assert [event.kind for event in plans.events(SERIES)] == ["dosed", "medium"]
    add_event(store, Entry("other", NOW, "plate_out"), NOW)
    assert plans.refresh() == frozenset()


def test_a_map_that_goes_wrong_leaves_the_last_good_one_and_is_told_once(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cellvigil")
    store.append(record())
    write(tmp_path / "plate.csv", MAP)
    write(tmp_path / "events.csv", "at,kind\n")
    metrics = Metrics(CollectorRegistry())
    designs = Designs(settings(tmp_path), store, metrics)
    assert designs.follow(NOW) == {SERIES}
    assert (up(metrics), up(metrics, "events")) == (1, 1)
    for text in (MAP[:-3] + "te", "well,role\nA1,contr", ""):  # half saved, again and again
        write(tmp_path / "plate.csv", text)
        assert designs.follow(NOW) == set()
        assert designs.follow(NOW) == set()
        assert (dose(designs), up(metrics), up(metrics, "events")) == (10, 0, 1)
    (tmp_path / "plate.csv").unlink()
    assert designs.follow(NOW) == set()
    wrong = [entry for entry in caplog.records if "plate map cannot be used; the last good one" in entry.message]
    assert len(wrong) == 4  # each trouble once
    write(tmp_path / "plate.csv", OTHER)
    assert designs.follow(NOW) == {SERIES}
    assert (dose(designs), up(metrics)) == (20, 1)
    assert sum("plate map can be used again" in entry.message for entry in caplog.records) == 1


def test_events_whose_file_vanishes_stand_until_it_is_back(tmp_path: Path, store: Store) -> None:
    store.append(record())
    add_event(tmp_path / "store", Entry("scope", NOW, "dosed"), NOW)
    metrics = Metrics(CollectorRegistry())
    designs = Designs(settings(tmp_path, plate_map=None, events=None), store, metrics)
    designs.follow(NOW)
    assert up(metrics, "events") is None  # nothing is configured that could be wrong
    (tmp_path / "store" / FILE).rename(tmp_path / "away")
    assert designs.follow(NOW) == set()
    assert [event.kind for event in designs.events(SERIES)] == ["dosed"]
    assert up(metrics, "events") == 0
    (tmp_path / "away").rename(tmp_path / "store" / FILE)
    assert designs.follow(NOW) == set()
    assert up(metrics, "events") == 1


def test_a_change_is_recorded_once_and_the_record_explains_itself_without_the_files(
    tmp_path: Path, store: Store
) -> None:
    store.append(record())
    write(tmp_path / "plate.csv", MAP)
    write(tmp_path / "events.csv", "at,kind,wells\n2026-11-20 18:00,dosed,B1\n")
    designs = Designs(settings(tmp_path), store, Metrics(CollectorRegistry()))
    for _ in range(3):
        designs.follow(NOW)
    write(tmp_path / "plate.csv", OTHER)
    designs.follow(NOW)
    store.close()
    lines = [line for line in plate_lines(next((tmp_path / "store").glob("*/*/*.zarr"))) if line["kind"] == "design"]
    assert [line["plan"]["B1"]["dose"] for line in lines] == [10, 20]
    assert lines[0]["series"] == list(SERIES)
    assert len({line["sha256"] for line in lines}) == 2
    for name in ("plate.csv", "events.csv"):
        (tmp_path / name).unlink()
    known = read_ledger(tmp_path / "store").design(SERIES)
    assert known is not None
    assert known.plan.wells["B1"].dose == 20
    assert known.events == (Event(datetime(2026, 11, 20, 18, tzinfo=UTC), "dosed", ("B1",)),)
    found = check(tmp_path / "store")
    assert (found.lost, found.bad_lines) == ((), ())


def test_a_restart_without_the_files_goes_on_with_what_is_recorded(tmp_path: Path, store: Store) -> None:
    store.append(record())
    write(tmp_path / "plate.csv", MAP)
    write(tmp_path / "events.csv", "at,kind\n2026-11-20 18:00,medium\n")
    added = add_event(tmp_path / "store", Entry("scope", NOW, "dosed"), NOW)
    Designs(settings(tmp_path), store, Metrics(CollectorRegistry())).follow(NOW)
    store.close()
    for name in ("plate.csv", "events.csv"):
        (tmp_path / name).unlink()
    reopened = open_store(tmp_path / "store", now=lambda: NOW)
    metrics = Metrics(CollectorRegistry())
    designs = Designs(settings(tmp_path), reopened, metrics)
    before = reopened.ledger.design(SERIES)
    assert designs.follow(NOW) == {SERIES}
    assert (dose(designs), up(metrics), up(metrics, "events")) == (10, 0, 0)
    assert [event.kind for event in designs.events(SERIES)] == ["medium", "dosed"]
    assert reopened.ledger.design(SERIES) == before
    remove_event(tmp_path / "store", added.id, NOW)
    designs.follow(NOW)
    assert [event.kind for event in designs.events(SERIES)] == ["medium"]
    write(tmp_path / "plate.csv", OTHER)
    designs.follow(NOW)
    assert dose(designs) == 20
    reopened.close()


def test_the_next_assays_map_says_nothing_of_a_plate_that_has_ended(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "plate.csv", MAP)
    write(tmp_path / "events.csv", "at,kind\n2026-11-20 18:00,dosed\n")
    store.append(record(key()))
    designs = Designs(settings(tmp_path), store, Metrics(CollectorRegistry()))
    designs.follow(NOW)
    later = NOW + timedelta(days=2)
    write(tmp_path / "plate.csv", OTHER)
    write(tmp_path / "events.csv", "at,kind\n2026-11-23 18:00,dosed\n")
    for each in (designs, Designs(settings(tmp_path), store, Metrics(CollectorRegistry()))):
        assert each.follow(later) == (set() if each is designs else {SERIES})
        assert dose(each) == 10
        assert [event.at.day for event in each.events(SERIES)] == [20]
    assert store.ledger.design(SERIES).plan.wells["B1"].dose == 10
    named = MAP.replace("\n", f",{SERIES[1]}\n").replace(f"uM,{SERIES[1]}", "uM,experiment").replace(",10,", ",30,")
    write(tmp_path / "plate.csv", named)  # by its experiment it can be mended, however old
    assert designs.follow(later) == {SERIES}
    assert dose(designs) == store.ledger.design(SERIES).plan.wells["B1"].dose == 30
    assert [event.at.day for event in designs.events(SERIES)] == [20]


def test_a_plate_without_a_design_gets_no_line_and_one_that_loses_it_does(tmp_path: Path, store: Store) -> None:
    store.append(record())
    none = Designs(settings(tmp_path, plate_map=None, events=None), store, Metrics(CollectorRegistry()))
    assert none.follow(NOW) == {SERIES}
    assert store.ledger.design(SERIES) is None
    write(tmp_path / "plate.csv", MAP)
    Designs(settings(tmp_path, events=None), store, Metrics(CollectorRegistry())).follow(NOW)
    assert store.ledger.design(SERIES)
    none.follow(NOW)  # the configuration no longer names one
    assert store.ledger.design(SERIES) == Design()


def test_a_plate_that_begins_later_is_recorded_then(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "plate.csv", "well,role,plate\nA1,control,Plate 2\n")
    designs = Designs(settings(tmp_path, events=None), store, Metrics(CollectorRegistry()))
    store.append(record())
    assert designs.follow(NOW) == {SERIES}
    late = (*SERIES[:2], "Plate 2")
    store.append(record(key(series=late)))
    assert designs.follow(NOW) == {late}
    assert store.ledger.design(SERIES) is None
    assert store.ledger.design(late) == Design(PlatePlan({"A1": WellPlan("A1", "control")}))


def test_a_full_disk_puts_the_line_off(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(record())
    write(tmp_path / "plate.csv", MAP)
    designs = Designs(settings(tmp_path, events=None), store, Metrics(CollectorRegistry()))
    with monkeypatch.context() as full:
        full.setattr("cellvigil.journal.write_all", _no_room)
        assert designs.follow(NOW) == {SERIES}
    assert store.ledger.design(SERIES) is None
    assert dose(designs) == 10  # computed with all the same
    assert designs.follow(NOW) == set()
    assert store.ledger.design(SERIES) == Design(designs.of(SERIES))


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
TEXTS = st.text(max_size=6)
PLANS = st.builds(
    WellPlan, st.just("B3"), st.sampled_from(["control", "treated", "blank"]), TEXTS, st.none() | st.floats(0, 1e9),
    TEXTS, TEXTS, TEXTS, TEXTS, st.none() | TIMES,
)  # fmt: skip
EVENTS = st.builds(Event, TIMES, st.sampled_from(KINDS), st.lists(st.just("B3"), max_size=2).map(tuple), TEXTS)


@given(plan=st.none() | PLANS, events=st.lists(EVENTS, max_size=3))
def test_a_design_comes_back_from_its_journal_line(plan: WellPlan | None, events: list[Event]) -> None:
    design = Design(PlatePlan({plan.well: plan} if plan else {}), tuple(events))
    line = parse(seal({"seq": 1, **design.line(SERIES, NOW)})[:-1])
    assert line is not None
    assert design_of(line) == design
    assert design_of(line).sha256 == line["sha256"] == design.sha256
    ledger = Ledger()
    ledger.add(line)
    assert ledger.design(SERIES) == design
    assert ledger.series() == ()  # a design alone makes no plate


def test_the_newest_design_stands_whatever_the_order() -> None:
    ledger = Ledger()
    newest = Design(PlatePlan({"A1": WellPlan("A1", "control")}))
    for seq, design in ((2, newest), (1, Design(PlatePlan({"A1": WellPlan("A1", "blank")})))):
        ledger.add({"seq": seq, **design.line(SERIES, NOW)})
    assert ledger.design(SERIES) == newest
