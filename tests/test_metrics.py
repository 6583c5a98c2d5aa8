"""What a scrape shows: names, labels, and nothing that is not there; health, and the log."""

import json
import logging
import urllib.error
import urllib.request
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from cellvigil import config, page
from cellvigil.errors import UsageError
from cellvigil.events import Event
from cellvigil.ledger import Design
from cellvigil.metrics import Metrics
from cellvigil.metrics.exposition import part, scrape
from cellvigil.metrics.families import FAMILIES
from cellvigil.metrics.rendering import label_text, number, scrape_lines, scrape_text
from cellvigil.platemap import WellPlan
from cellvigil.service.log import LOGGER, set_up
from cellvigil.tally.blocks import blocks
from cellvigil.tally.figures import PlateFigures
from plate_lines import GROUPS, baseline_line, bundle_line, figures, frame_line, ledger_of, plan_of
from store_records import START

PLATE = "scope/240301_run/Plate 1"
CONTROL = WellPlan("A1", "control", vehicle="DMSO", cell_line="HeLa")
TREATED = WellPlan("B1", "treated", "drug", 10.0, "uM", "DMSO", cell_line="HeLa", treated_at=START)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(s.name, frozenset(s.labels.items())): s.value for family in classic(text) for s in family.samples}


def shown(found: PlateFigures, most: int | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return samples(scrape_text([scrape_lines(blocks(found, most))]).decode())


def value(found: PlateFigures, name: str, **labels: str) -> float | None:
    return shown(found).get((f"cellvigil_{name}", frozenset({"plate": PLATE, **labels}.items())))


def plate(*lines, design: Design = Design()) -> PlateFigures:  # noqa: B008 - a frozen value
    return figures(ledger_of([bundle_line(), baseline_line(focus=2.0), *lines]), design)


CELLS = {"live": 6, "necrotic": 2, "debris": 5, "unknown": 1}


def test_a_wells_value_is_published_under_the_designs_names():
    found = plate(frame_line("A1", 0, counts=CELLS))
    assert value(found, "cells", well="A1", state="live") == 6
    assert value(found, "cells", well="A1", state="apoptotic") == 0
    assert value(found, "cells", well="A1", state="unknown") == 1
    assert value(found, "state_share", well="A1", state="necrotic", estimate="plain") == 0.25
    low = value(found, "state_share_low", well="A1", state="necrotic", estimate="plain")
    assert 0 < low < 0.25 < value(found, "state_share_high", well="A1", state="necrotic", estimate="plain") < 1
    assert value(found, "state_share", well="A1", state="debris", estimate="plain") is None
    assert value(found, "unknown_ratio", well="A1") == pytest.approx(1 / 14)
    assert value(found, "debris_ratio", well="A1") == pytest.approx(5 / 14)
    assert value(found, "focus_ratio", well="A1") == 0.75
    assert value(found, "certainty_ratio", well="A1") == 0.75
    assert value(found, "novel_ratio", well="A1") == pytest.approx(1 / 14)
    assert value(found, "well_acquired_timestamp_seconds", well="A1") == START.timestamp()
    assert value(found, "fields_missing", well="A1") == value(found, "fields_excluded", well="A1") == 0
    assert value(found, "state_info", state="necrotic", group="dead") == 1


def test_what_is_not_known_has_no_sample_and_never_a_zero():
    found = plate(frame_line("A1", 0, counts={}, quality={"focus": None}, certainty={}))
    assert value(found, "cells", well="A1", state="live") == 0
    names = {name for name, _ in shown(found)}
    for name in ("state_share", "unknown_ratio", "focus_ratio", "certainty_ratio", "novel_ratio", "debris_ratio"):
        assert f"cellvigil_{name}" not in names
    without_plan = ("well_info", "treated_timestamp_seconds", "response_ratio", "response_onset_timestamp_seconds")
    for name in (*without_plan, "growth_rate_ratio", "arm_wells", "event_timestamp_seconds", "fluorescence_intensity"):
        assert f"cellvigil_{name}" not in names
    assert not any(value != value for value in shown(found).values())


def test_the_plate_map_joins_by_well_and_an_excluded_field_is_told():
    lines = [
        frame_line("A1", 0, counts=CELLS),
        frame_line("B1", 0, "1", counts=CELLS),
        frame_line("B1", 0, "2", counts={"debris": 9}, excluded=True),
        frame_line("C1", 0, counts=CELLS),
    ]
    found = plate(*lines, design=Design(plan_of(CONTROL, TREATED), (Event(START + timedelta(days=1), "plate_out"),)))
    told = {"arm": "drug 10 uM", "role": "treated", "compound": "drug", "dose": "10 uM", "cell_line": "HeLa"}
    assert value(found, "well_info", well="B1", **told) == 1
    assert value(found, "treated_timestamp_seconds", well="B1") == START.timestamp()
    assert value(found, "treated_timestamp_seconds", well="C1") is None
    assert value(found, "fields_excluded", well="B1") == 1
    assert value(found, "cells", well="B1", state="debris") == 5
    assert value(found, "debris_ratio", well="B1") == pytest.approx(14 / 23)
    assert value(found, "arm_wells", arm="drug 10 uM") == 1
    assert value(found, "arm_share", arm="control", state="live", estimate="plain") == 0.75
    assert value(found, "event_timestamp_seconds", kind="plate_out") == (START + timedelta(days=1)).timestamp()
    wells_with_info = {dict(labels)["well"] for name, labels in shown(found) if name == "cellvigil_well_info"}
    assert wells_with_info == {"A1", "B1"}  # C1 is in no map


@pytest.mark.parametrize(
    ("events", "paused"),
    [
        ([], 0),
        ([(1.5, "plate_out")], 1),  # nobody films a plate that is out: its newest value is from before
        ([(1.5, "plate_out"), (2, "plate_in")], 0),
        ([(2, "plate_in"), (2, "plate_out")], 0),
        ([(1.5, "plate_out"), (2, "plate_in"), (3, "plate_out")], 1),
    ],
)
def test_a_plate_that_is_out_is_paused_though_its_value_is_older(events, paused):
    told = tuple(sorted(Event(START + timedelta(hours=hours), kind) for hours, kind in events))
    lines = [frame_line(well, t, counts=CELLS) for well in ("A1", "B1") for t in range(3)]
    found = plate(*lines, design=Design(plan_of(CONTROL, TREATED), told))
    assert value(found, "response_paused", well="A1") == value(found, "response_paused", well="B1") == paused


def test_no_more_wells_show_than_asked_for():
    found = plate(*(frame_line(well, 0, counts=CELLS) for well in ("A1", "A2", "B1")))
    wells = {dict(labels).get("well") for _, labels in shown(found, 2)}
    assert wells == {"A1", "A2", None}


def test_a_correction_shows_beside_the_plain_share_and_says_its_state():
    called = {"counts": [[90, 5, 5, 0, 0], [5, 90, 5, 0, 0], [5, 5, 90, 0, 0], [0, 0, 0, 100, 0]], "effects": [1.0] * 4}
    lines = [bundle_line() | {"confusion": called}, baseline_line()]
    lines += [frame_line("A1", t, counts={"live": 85, "apoptotic": 6, "necrotic": 9}) for t in range(3)]
    found = figures(ledger_of(lines))
    assert value(found, "correction_info", status="ok") == 1
    plain, corrected = (
        value(found, "state_share", well="A1", state="live", estimate=one) for one in ("plain", "corrected")
    )
    assert plain == pytest.approx(0.85)
    assert corrected > 0.9


LABELS = ["Plate 1", 'say "hi"', "back\\slash", "two\nlines", "grün", "{a,b}", "lone \udc80"]


@pytest.mark.parametrize("text", LABELS)
def test_labels_read_back_as_they_were(text):
    line = f"a{label_text(('plate', 'well'), (text, 'A1'))} 1.0\n"
    line.encode()
    [family] = classic(line)
    expected = text.replace("\udc80", "\\udc80")
    assert family.samples[0].labels == {"plate": expected, "well": "A1"}
    [family] = openmetrics(f"# TYPE a gauge\n{line}# EOF\n")
    assert family.samples[0].labels == {"plate": expected, "well": "A1"}


@pytest.mark.parametrize("figure", [0.0, 1 / 3, 1e-9, 1.7e9, float("inf"), float("-inf"), 5e-324])
def test_numbers_read_back_as_they_were(figure):
    [family] = classic(f"a {number(figure)}\n")
    assert family.samples[0].value == figure
    assert "inf" not in number(figure)


def test_help_texts_need_no_escaping_and_names_are_unique():
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert not set(family.text) & set('"\\\n'), family
        assert family.text.endswith("."), family


@pytest.fixture
def door():
    registry = CollectorRegistry()
    Metrics(registry)
    text = part(scrape_text([scrape_lines(blocks(plate(frame_line("A1", 0, counts=CELLS))))]))
    state = {"well": True}
    app = page.application(scrape(registry, lambda: text), lambda: (state["well"], {"backlog_frames": 3}))
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
    families = {family.name: family for family in openmetrics(text)}
    assert len(families["cellvigil_cells"].samples) == len(GROUPS) + 1
    assert families["cellvigil_frame_delay_seconds"].type == "histogram"


def test_health_is_told_by_status_and_figures(door):
    url, state, *_ = door
    assert get(f"{url}/healthz") == (200, json.dumps({"ok": True, "backlog_frames": 3}))
    state["well"] = False
    assert get(f"{url}/healthz")[0] == 503


def test_other_addresses_are_not_there_and_say_where_to_look(door):
    status, text = get(door[0] + "/etc/passwd")
    assert status == 404
    assert "/metrics" in text


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
