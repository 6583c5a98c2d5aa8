"""What a scrape shows: names, labels, and nothing that is not there."""

import json
import logging
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cellvigil import config, page
from cellvigil.errors import UsageError
from cellvigil.metrics import Metrics, WellGauges
from cellvigil.service.log import LOGGER, set_up

GROUPS = {"live": "alive", "dead": "dead", "debris": "artefact"}


def gauges(well: str = "A1", **changes) -> WellGauges:
    values = {
        "plate": "scope/run/Plate 1", "well": well, "acquired_at": datetime(2024, 3, 1, tzinfo=UTC),
        "cells": {"live": 6, "dead": 2, "debris": 5, "unknown": 1}, "shares": {"live": 0.75, "dead": 0.25},
        "unknown_ratio": 1 / 14, "fields_missing": 0, "focus_ratio": 1.1, "groups": GROUPS, **changes,
    }  # fmt: skip
    return WellGauges(**values)


def test_a_wells_value_is_published_under_the_designs_names():
    registry = CollectorRegistry()
    Metrics(registry).watch_wells(lambda: [gauges()])
    at = {"plate": "scope/run/Plate 1", "well": "A1"}
    assert registry.get_sample_value("cellvigil_cells", {**at, "state": "live"}) == 6
    assert registry.get_sample_value("cellvigil_cells", {**at, "state": "unknown"}) == 1
    assert registry.get_sample_value("cellvigil_state_share", {**at, "state": "dead", "estimate": "plain"}) == 0.25
    assert registry.get_sample_value("cellvigil_state_share", {**at, "state": "debris", "estimate": "plain"}) is None
    assert registry.get_sample_value("cellvigil_unknown_ratio", at) == pytest.approx(1 / 14)
    assert registry.get_sample_value("cellvigil_focus_ratio", at) == 1.1
    assert registry.get_sample_value("cellvigil_well_acquired_timestamp_seconds", at) == 1709251200
    info = {"plate": at["plate"], "state": "dead", "group": "dead"}
    assert registry.get_sample_value("cellvigil_state_info", info) == 1


def test_a_well_that_vanished_leaves_no_series_behind():
    registry = CollectorRegistry()
    wells = [gauges("A1"), gauges("A2")]
    Metrics(registry).watch_wells(lambda: wells)
    at = {"plate": "scope/run/Plate 1", "well": "A2", "state": "live"}
    assert registry.get_sample_value("cellvigil_cells", at) == 6
    wells.pop()
    assert registry.get_sample_value("cellvigil_cells", at) is None


def test_a_well_without_cells_has_counts_of_zero_and_no_shares():
    registry = CollectorRegistry()
    Metrics(registry).watch_wells(lambda: [gauges(cells={"live": 0}, shares={}, unknown_ratio=None, focus_ratio=None)])
    at = {"plate": "scope/run/Plate 1", "well": "A1"}
    assert registry.get_sample_value("cellvigil_cells", {**at, "state": "live"}) == 0
    assert registry.get_sample_value("cellvigil_unknown_ratio", at) is None
    assert registry.get_sample_value("cellvigil_state_share", {**at, "state": "live", "estimate": "plain"}) is None


@pytest.fixture
def door():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.watch_wells(lambda: [gauges()])
    state = {"well": True}
    app = page.application(registry, lambda: (state["well"], {"backlog_frames": 3}))
    with page.served(app, listen="127.0.0.1", port=0) as port:
        yield f"http://127.0.0.1:{port}", state, port, app


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_scrape_parses_as_openmetrics(door):
    _, text = get(f"{door[0]}/metrics", Accept="application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families["cellvigil_cells"].samples) == 4
    assert families["cellvigil_frame_delay_seconds"].type == "histogram"


def test_health_is_told_by_status_and_figures(door):
    url, state, *_ = door
    assert get(f"{url}/healthz") == (200, json.dumps({"ok": True, "backlog_frames": 3}))
    state["well"] = False
    assert get(f"{url}/healthz")[0] == 503


def test_a_person_finds_the_way_and_other_addresses_are_not_there(door):
    assert '<a href="/metrics">' in get(door[0] + "/")[1]
    assert get(door[0] + "/etc/passwd")[0] == 404


def test_the_same_port_cannot_be_had_twice(door):
    with pytest.raises(UsageError, match=r"metrics\.port"), page.served(door[3], listen="127.0.0.1", port=door[2]):
        pytest.fail("it was served twice")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_says_what_and_where_in_both_forms(form, capsys):
    before = LOGGER.handlers[:], LOGGER.propagate, LOGGER.level
    try:
        set_up(config.Log(format=form))
        LOGGER.info("quarantined", extra={"path": "a b.tif", "reason": "empty"})
        try:
            raise ValueError("the cause")
        except ValueError:
            logging.getLogger("cellvigil.watch").exception("failed")
    finally:
        LOGGER.handlers[:], LOGGER.propagate, LOGGER.level = before
    said = capsys.readouterr().err
    assert "quarantined" in said
    assert "the cause" in said
    if form == "json":
        line = json.loads(said.splitlines()[0])
        assert (line["event"], line["level"], line["path"], line["reason"]) == (
            "quarantined",
            "info",
            "a b.tif",
            "empty",
        )
        assert "the cause" in json.loads(said.splitlines()[1])["traceback"]
    else:
        assert "path=a b.tif reason=empty" in said.splitlines()[0]
