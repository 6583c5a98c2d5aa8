"""The tally over a real store: what is committed is shown, what fails costs only itself, a restart shows the same."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from cellvigil import config
from cellvigil.data import UNKNOWN, FrameKey
from cellvigil.ledger import Series
from cellvigil.metrics import Metrics
from cellvigil.service import tally as tallies
from cellvigil.service.tally import NAME, Tally, tallied
from cellvigil.store.writer import Store, open_store
from cellvigil.tally.sheet import Sheet
from store_records import CLASSES, SERIES, START, calls_of, key, record

MINUTE = timedelta(minutes=1)
OTHER: Series = ("scope", "240302_run", "Plate 1")


class Bench:
    """A store with a clock, and a tally over it."""

    def __init__(self, root: Path, **changes: object) -> None:
        self.now = START
        self.root = root
        (root / "images").mkdir(exist_ok=True)
        self.settings = settings_of(root, **changes)
        self.store = open_store(root / "store", now=lambda: self.now)
        self.begin()

    def begin(self) -> None:
        """A tally that knows nothing yet."""
        self.registry = CollectorRegistry()
        self.tally = Tally(self.store, self.settings, Metrics(self.registry))

    def commit(self, well: str = "A1", timepoint: int = 0, field: str = "1", **other: object) -> None:
        series = other.pop("series", SERIES)
        self.store.append(record(key(well, timepoint, field, series), **other))

    def look(self, minutes: float = 0) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample after a look, so much later."""
        self.now += minutes * MINUTE
        self.tally.look(self.now)
        return self.samples()

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        families = text_string_to_metric_families(self.tally.snapshot.scrape.text.decode())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def wells(self) -> set[tuple[str, str]]:
        """Plate and well of everything that shows."""
        every = (dict(labels) for _, labels in self.samples())
        return {(labels["plate"], labels["well"]) for labels in every if "well" in labels}

    def up(self) -> float | None:
        return self.registry.get_sample_value("cellvigil_tally_up")

    def close(self) -> None:
        self.store.close()


def settings_of(root: Path, **changes: object) -> config.Config:
    source = {"name": "scope", "kind": "gen5", "path": "images", "timezone": "UTC", "index": "i"}
    source |= {"frame_timeout_s": 600, **changes.pop("source", {})}
    return config.parse({"version": 1, "sources": [source], **changes}, base=root)


@pytest.fixture
def bench(tmp_path):
    with closing(Bench(tmp_path)) as one:
        yield one


def plate(series: Series = SERIES) -> str:
    return "/".join(series)


def cells(samples, well: str = "A1", series: Series = SERIES) -> dict[str, float]:
    found = {
        dict(labels)["state"]: value
        for (name, labels), value in samples.items()
        if name == "cellvigil_cells" and dict(labels)["well"] == well and dict(labels)["plate"] == plate(series)
    }
    return {state: value for state, value in found.items() if value}  # fmt: skip


def counted(store: Store, frame_key: FrameKey) -> dict[str, int]:
    _, counts = store.ledger.calls(frame_key, store.ledger.revision(frame_key))
    return {state: n for state, n in counts.items() if n}


def test_what_is_committed_shows_at_the_next_look_and_only_then_is_there_something_to_do(bench: Bench):
    assert bench.look() == {}
    assert bench.up() == 1
    assert not bench.tally.is_behind
    bench.commit("A1", n=30)
    assert bench.tally.is_behind
    assert cells(bench.look()) == counted(bench.store, key("A1"))
    assert not bench.tally.is_behind
    bench.commit("A1", 1, n=50)
    bench.commit("B2", 0, n=20)
    samples = bench.look()
    assert cells(samples) == counted(bench.store, key("A1", 1))
    assert cells(samples, "B2") == counted(bench.store, key("B2"))
    assert [figures.plate for figures in bench.tally.snapshot.plates] == [plate()]


def test_nothing_new_makes_no_new_text(bench: Bench):
    bench.commit(n=30)
    bench.look()
    before = bench.tally.snapshot
    bench.look(1)
    assert bench.tally.snapshot.scrape is before.scrape
    assert bench.tally.snapshot.plates[0] is before.plates[0]
    assert bench.tally.snapshot.at == before.at + MINUTE
    assert bench.registry.get_sample_value("cellvigil_tally_timestamp_seconds") == bench.now.timestamp()


def test_a_value_waits_for_its_fields_and_settles_by_the_clock_alone(tmp_path):
    with closing(Bench(tmp_path, source={"expect": {"fields": 2}})) as bench:
        bench.commit(n=30)
        assert cells(bench.look(9)) == {}
        assert cells(bench.look(1)) == counted(bench.store, key())
        missing = frozenset({"plate": plate(), "well": "A1"}.items())
        assert bench.samples()["cellvigil_fields_missing", missing] == 1
        bench.commit(field="2", n=10)
        both = [counted(bench.store, key(field=field)) for field in "12"]
        whole = {state: both[0].get(state, 0) + both[1].get(state, 0) for state in {*both[0], *both[1]}}
        assert cells(bench.look()) == whole


def test_a_restart_shows_the_very_same_text(bench: Bench):
    for timepoint in range(4):
        for well in ("A1", "A2", "B1"):
            bench.commit(well, timepoint, n=40 + timepoint)
        bench.look(30)
    before = bench.tally.snapshot.scrape.text
    bench.store.close()
    bench.store = open_store(bench.root / "store", now=lambda: bench.now)
    bench.begin()
    bench.look()
    assert bench.tally.snapshot.scrape.text == before


def test_a_rewritten_frame_and_another_indexs_calls_replace_what_showed(bench: Bench):
    bench.commit(n=30)
    bench.look()
    bench.commit(n=20, revision=1)
    assert cells(bench.look()) == counted(bench.store, key())
    groups = {"intact": "alive", "broken": "dead"}
    frame = bench.store.ledger.frame(key())
    bench.store.append_calls(frame, calls_of(20, bundle="12" * 32, classes=2), tuple(groups), groups)
    samples = bench.look()
    assert cells(samples) == counted(bench.store, key())
    assert set(cells(samples)) <= {*groups, UNKNOWN}
    assert not any(dict(labels).get("state") in CLASSES for _, labels in samples)


def test_a_plate_leaves_when_it_is_old_or_deleted_and_comes_back_with_its_next_frame(bench: Bench):
    bench.commit(n=30)
    bench.commit(n=30, series=OTHER)
    bench.look()
    assert bench.wells() == {(plate(), "A1"), (plate(OTHER), "A1")}
    hours = bench.settings.metrics.keep_hours
    bench.look(60 * (hours - 1))
    bench.commit("A1", 1, n=30, series=OTHER)
    bench.look(120)
    assert bench.wells() == {(plate(OTHER), "A1")}
    bench.commit("A1", 1, n=30)
    bench.look()
    assert bench.wells() == {(plate(), "A1"), (plate(OTHER), "A1")}
    assert bench.store.leave(SERIES)
    bench.look()
    assert bench.wells() == {(plate(OTHER), "A1")}


def test_plates_of_sources_that_are_no_longer_configured_do_not_show(bench: Bench):
    bench.commit(n=30)
    bench.commit(n=30, series=("gone", "run", "Plate 1"))
    bench.look()
    assert bench.wells() == {(plate(), "A1")}


def test_beyond_the_most_wells_the_plates_that_began_last_show_unless_they_ended(tmp_path):
    with closing(Bench(tmp_path, metrics={"max_wells": 3})) as bench:
        for well in ("A1", "A2"):
            bench.commit(well, n=20)
        bench.now += MINUTE
        for well in ("A1", "A2"):
            bench.commit(well, n=20, series=OTHER)
        bench.look()
        assert bench.wells() == {(plate(OTHER), "A1"), (plate(OTHER), "A2"), (plate(), "A1")}
        assert bench.registry.get_sample_value("cellvigil_wells_left_out") == 1
        before = bench.wells()
        for timepoint in range(1, 4):  # round after round, nothing comes and goes
            for series in (OTHER, SERIES):
                bench.commit("A1", timepoint, n=20, series=series)
                bench.look(30)
                assert bench.wells() == before
        bench.now += timedelta(days=1)
        bench.commit("A1", 9, n=20)
        bench.look()
        assert bench.wells() == {(plate(), "A1"), (plate(), "A2"), (plate(OTHER), "A1")}


def failing_for(series: Series, real):
    def make(ledger, asked, *rest, **more):
        if asked == series:
            raise ValueError("a singular matrix")
        return real(ledger, asked, *rest, **more)

    return make


def test_a_plate_that_fails_costs_only_its_own_news_and_is_tried_again(bench: Bench, monkeypatch, caplog):
    bench.commit(n=30)
    bench.commit(n=30, series=OTHER)
    first = cells(bench.look())
    real = tallies.figures_of
    monkeypatch.setattr(tallies, "figures_of", failing_for(SERIES, real))
    bench.commit("A1", 1, n=50)
    bench.commit("A1", 1, n=50, series=OTHER)
    with caplog.at_level(logging.ERROR):
        samples = bench.look()
        bench.look()
    assert cells(samples) == first  # the last good figures stand
    assert cells(samples, series=OTHER) == counted(bench.store, key("A1", 1, series=OTHER))
    assert bench.up() == 0
    assert len([one for one in caplog.records if "figures cannot be made" in one.message]) == 1
    monkeypatch.setattr(tallies, "figures_of", real)
    assert cells(bench.look()) == counted(bench.store, key("A1", 1))
    assert bench.up() == 1


def test_a_plate_whose_lines_cannot_be_made_costs_only_its_own_news(bench: Bench, monkeypatch):
    def failing(figures, *most):
        if figures.series == SERIES:
            raise ValueError("no such label")
        return real(figures, *most)

    real = tallies.blocks
    bench.commit(n=30)
    bench.commit(n=30, series=OTHER)
    first = cells(bench.look())
    monkeypatch.setattr(tallies, "blocks", failing)
    bench.commit("A1", 1, n=50)
    bench.commit("A1", 1, n=50, series=OTHER)
    samples = bench.look()
    assert cells(samples) == first
    assert cells(samples, series=OTHER) == counted(bench.store, key("A1", 1, series=OTHER))
    assert bench.up() == 0
    monkeypatch.undo()
    assert cells(bench.look()) == counted(bench.store, key("A1", 1))


def test_what_failed_while_it_was_folded_is_folded_anew(bench: Bench, monkeypatch):
    bench.commit(n=30)
    first = cells(bench.look())
    known = bench.registry.get_sample_value("cellvigil_tally_timestamp_seconds")
    monkeypatch.setattr(Sheet, "take", lambda *_: 1 / 0)
    bench.commit("A1", 1, n=50)
    bench.commit("A2", 1, n=40)
    assert cells(bench.look(1)) == first
    assert bench.up() == 0
    assert bench.registry.get_sample_value("cellvigil_tally_timestamp_seconds") == known
    monkeypatch.undo()
    samples = bench.look(1)
    assert cells(samples) == counted(bench.store, key("A1", 1))
    assert cells(samples, "A2") == counted(bench.store, key("A2", 1))
    assert bench.up() == 1


def test_the_limits_of_alerts_are_published(tmp_path):
    with closing(Bench(tmp_path, alerts={"dead_share": 0.42})) as bench:

        def limit(name: str) -> float | None:
            return bench.registry.get_sample_value("cellvigil_alert_threshold", {"alert": name})

        assert limit("dead_share") == 0.42
        assert {limit(name) for name in config.Alerts.model_fields} == set(bench.settings.alerts.model_dump().values())


def test_a_plate_map_is_taken_up_while_it_runs(tmp_path):
    path = tmp_path / "plate.csv"
    with closing(Bench(tmp_path, source={"plate_map": str(path)})) as bench:
        for well in ("A1", "B1"):
            bench.commit(well, n=30)
        bench.look()
        assert not any(name == "cellvigil_well_info" for name, _ in bench.samples())
        path.write_text("well,compound,dose,unit,role\nA1,,,,control\nB1,drug,10,uM,treated\n", encoding="utf-8")
        bench.look()
        arms = {
            dict(labels)["well"]: dict(labels)["arm"] for name, labels in bench.samples() if name.endswith("well_info")
        }
        assert arms == {"A1": "control", "B1": "drug 10 uM"}


def wait_for(what, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_thread_shows_all_there_is_before_it_lets_go_and_then_what_comes(bench: Bench):
    bench.now = datetime.now(tz=START.tzinfo)
    bench.commit(n=30)
    left: list[str] = []
    metrics = Metrics(CollectorRegistry())
    with tallied(bench.store, bench.settings, metrics, stopping=threading.Event(), left=left) as tally:
        bench.tally = tally
        assert cells(bench.samples()) == counted(bench.store, key())
        bench.commit("A1", 1, n=50)
        wait_for(lambda: cells(bench.samples()) == counted(bench.store, key("A1", 1)))
        before = tally.snapshot.at
        known = metrics.registry.get_sample_value("cellvigil_tally_timestamp_seconds")
        wait_for(lambda: metrics.registry.get_sample_value("cellvigil_tally_timestamp_seconds") > known)
        assert tally.snapshot.at == before  # nothing new: no look, and yet it is known to be up to date
    assert left == []
    assert NAME not in {thread.name for thread in threading.enumerate()}
