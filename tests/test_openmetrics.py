"""History at the time of acquisition: what the command writes, and what a real Prometheus makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from cellvigil import config
from cellvigil.cli import main
from cellvigil.data import Calls
from cellvigil.errors import UsageError
from cellvigil.history import Wanted, write_history
from cellvigil.ledger import Ledger
from cellvigil.metrics import Metrics
from cellvigil.service.tally import Tally
from cellvigil.store.reader import read_ledger
from cellvigil.store.writer import Store, open_store
from plate_lines import LATER
from prometheus_server import PROGRAM, prometheus_server
from store_records import SERIES, START, calls_of, key, record

OTHER = ("second", "240302_run", "Plate 1")
WELLS = ("A1", "A2", "A3", "B1", "B2", "B3")
TIMES = 5

Sample = tuple[str, frozenset[tuple[str, str]]]


TREATED = START + timedelta(minutes=40)


def fill(store: Store) -> None:
    """Two plates: one with a plate map, a treatment, an event and a frame that is left out; one without anything."""
    for timepoint in range(TIMES):
        for place, well in enumerate(WELLS):
            n = 180 + 6 * timepoint if place < 3 else 180 - 25 * timepoint
            excluded = "focus" if (well, timepoint) == ("A2", 2) else ""
            calls = mostly_live(n, seed=100 * timepoint + place)
            store.append(record(key(well, timepoint), n=n, shape=(1, 12, 18), excluded=excluded, calls=calls))
        store.append(record(key("C1", timepoint, series=OTHER), n=10, shape=(1, 12, 18)))


def mostly_live(n: int, seed: int) -> Calls:
    calls = calls_of(n, seed=seed)
    return replace(calls, best_ids=np.where(np.arange(n) % 8, 0, calls.best_ids).astype(np.int16))


def write_design(root: Path) -> None:
    """The spreadsheets beside the microscope; the service takes them into the record."""
    rows = [f"{well},,,,control,{TREATED.isoformat()},HeLa" for well in WELLS[:3]]
    rows += [f"{well},drug,3,uM,treated,{TREATED.isoformat()},HeLa" for well in WELLS[3:]]
    (root / "plate.csv").write_text("\n".join(["well,compound,dose,unit,role,treated_at,cell_line", *rows]) + "\n")
    (root / "events.csv").write_text(f"at,kind\n{TREATED.isoformat()},dosed\n")


def settings(root: Path) -> config.Config:
    common = {"kind": "gen5", "path": ".", "timezone": "UTC", "index": "i"}
    first = {"name": "scope", **common, "plate_map": "plate.csv", "events": "events.csv"}
    return config.parse({"version": 1, "sources": [first, {"name": "second", **common}]}, base=root)


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> tuple[Path, dict[Sample, float]]:
    """A folder with a store, and what the gauges of a running service show of it."""
    root = tmp_path_factory.mktemp("history")
    write_design(root)
    store = open_store(root / "store", now=lambda: START)
    try:
        fill(store)
        tally = Tally(store, settings(root), Metrics(CollectorRegistry()))
        tally.look(START + timedelta(hours=5))
    finally:
        store.close()
    families = classic(tally.snapshot.scrape.text.decode())
    return root, {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


@pytest.fixture(scope="module")
def root(service) -> Path:
    return service[0]


@pytest.fixture(scope="module")
def live(service) -> dict[Sample, float]:
    return service[1]


@pytest.fixture(scope="module")
def written(root) -> Path:
    out = root / "history.om"
    assert main(["table", "--store", str(root / "store"), "--openmetrics", "--out", str(out)]) == 0
    return out


def dated(path: Path) -> dict[Sample, list[tuple[float, float]]]:
    """Times and values of every series, in the order of the file."""
    found: dict[Sample, list[tuple[float, float]]] = {}
    for family in openmetrics(path.read_text(encoding="utf-8")):
        for sample in family.samples:
            place = (sample.name, frozenset(sample.labels.items()))
            found.setdefault(place, []).append((float(sample.timestamp), sample.value))
    return found


def of(name: str, well: str) -> Sample:
    labels = {"plate": "/".join(SERIES), "well": well}
    return (f"cellvigil_{name}", frozenset(labels.items()))


def test_every_series_stands_together_and_its_times_ascend(written):
    text = written.read_text(encoding="utf-8")
    assert text.endswith("# EOF\n")
    series = [line.rsplit(" ", 2)[0] for line in text.splitlines() if not line.startswith("#")]
    switches = [one for one, before in zip(series, [None, *series], strict=False) if one != before]
    assert len(switches) == len(set(switches))
    for times in dated(written).values():
        assert [at for at, _ in times] == sorted({at for at, _ in times})


def test_every_counted_frame_is_there_at_its_acquisition_with_the_ledgers_counts(root, written):
    ledger = read_ledger(root / "store")
    found = dated(written)
    for series in (SERIES, OTHER):
        for value in ledger.well_times(series):
            labels = {"plate": "/".join(series), "well": value.well}
            for state, cells in value.counts.items():
                samples = dict(found["cellvigil_cells", frozenset({**labels, "state": state}.items())])
                assert samples.get(value.acquired_at.timestamp()) == cells
            times = [at for at, _ in found["cellvigil_fields_missing", frozenset(labels.items())]]
            assert (value.acquired_at.timestamp() in times) == (value.fields_excluded == 0)
    assert len(found[of("fields_missing", "A2")]) == TIMES - 1
    assert len(found[of("fields_missing", "A1")]) == TIMES


def test_the_newest_values_are_those_that_the_gauges_show(live, written):
    found = dated(written)
    assert {name for name, _ in live} >= {"cellvigil_response_ratio", "cellvigil_arm_share_low", "cellvigil_well_info"}
    assert {place: found[place][-1][1] for place in live} == pytest.approx(live, rel=1e-12)


def test_nothing_is_known_of_an_onset_or_an_event_before_it(root, written):
    found = dated(written)
    event = found["cellvigil_event_timestamp_seconds", frozenset({"plate": "/".join(SERIES), "kind": "dosed"}.items())]
    assert [at >= TREATED.timestamp() for at, _ in event] == [True] * len(event)
    assert len(event) == TIMES - 2
    for place, times in found.items():
        if place[0] == "cellvigil_response_onset_timestamp_seconds":
            assert all(at >= onset - 0.001 for at, onset in times)


@pytest.mark.parametrize(
    ("options", "plates", "first"),
    [
        ({"source": "second"}, {"/".join(OTHER)}, START),
        ({"plate": "Plate 1"}, {"/".join(SERIES), "/".join(OTHER)}, START),
        ({"plate": "scope/*/Plate 1"}, {"/".join(SERIES)}, START),
        ({"plate": "Plate 2"}, set(), None),
        ({"since": START + timedelta(minutes=75)}, {"/".join(SERIES), "/".join(OTHER)}, START + timedelta(minutes=90)),
    ],
)
def test_a_part_of_the_history(root, tmp_path, options, plates, first):
    out = tmp_path / "part.om"
    told = write_history(root / "store", out, now=LATER, wanted=Wanted(**options))
    found = dated(out)
    assert {dict(labels)["plate"] for _, labels in found} == plates
    assert told.plates == len(plates)
    assert told.samples == sum(len(times) for times in found.values())
    if first is not None:
        assert min(at for times in found.values() for at, _ in times) == first.timestamp()


def test_limits_come_from_the_configuration(root, tmp_path):
    whole = settings(root)
    two = whole.model_copy(
        update={"sources": tuple(one.model_copy(update={"expect": config.Expect(fields=2)}) for one in whole.sources)}
    )
    write_history(root / "store", tmp_path / "h.om", now=LATER, settings=two)
    assert {value for _, value in dated(tmp_path / "h.om")[of("fields_missing", "A1")]} == {1.0}


def test_a_time_point_that_may_still_get_fields_is_not_there_yet(root, tmp_path):
    two = settings(root).model_copy(
        update={"sources": tuple(
            one.model_copy(update={"expect": config.Expect(fields=2)}) for one in settings(root).sources
        )}
    )  # fmt: skip
    told = write_history(root / "store", tmp_path / "h.om", now=START + timedelta(minutes=29), settings=two)
    assert told.samples == 0
    assert (tmp_path / "h.om").read_text(encoding="utf-8") == "# EOF\n"


def test_the_command_says_what_it_wrote_and_what_is_wrong(root, tmp_path, capsys):
    store, out = str(root / "store"), tmp_path / "h.om"
    options = ["--openmetrics", "--out", str(out), "--since", "2024-03-01T21:00", "--plate", "scope/*", "--json"]
    assert main(["table", "--store", store, *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["plates"] == 1
    assert said["samples"] == sum(len(times) for times in dated(out).values())
    for wrong in (["--out", "h.csv"], ["--out", str(out), "--since", "yesterday"]):
        assert main(["table", "--store", store, "--openmetrics", *wrong]) == 2
    assert main(["table", "--store", str(tmp_path / "none"), "--openmetrics", "--out", str(out)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["h.om"]  # nothing unfinished is left


def test_an_empty_store_has_no_history(tmp_path):
    open_store(tmp_path / "store").close()
    with pytest.raises(UsageError, match="no plate"):
        write_history(tmp_path / "store", tmp_path / "h.om", now=datetime.now(UTC))
    assert Ledger().places(SERIES) == []


needs = pytest.mark.skipif(
    PROGRAM is None or shutil.which("promtool") is None, reason="prometheus or promtool is not installed"
)


@pytest.fixture(scope="module")
def prometheus(written, tmp_path_factory) -> Iterator[object]:
    folder = tmp_path_factory.mktemp("prometheus")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(written), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with prometheus_server({"scrape_configs": []}, folder, "--storage.tsdb.retention.time=100y") as server:
        yield server


@needs
def test_a_prometheus_that_was_filled_with_it_answers_with_what_the_gauges_showed(prometheus, live):
    at = (START + timedelta(minutes=30 * TIMES)).timestamp()
    answer = prometheus.query('last_over_time({__name__=~"cellvigil_.*"}[1d])', at)
    found = {}
    for series in answer:
        labels = dict(series["metric"])
        found[labels.pop("__name__"), frozenset(labels.items())] = float(series["value"][1])
    shown = {(name, frozenset(pair for pair in labels if pair[1])): value for (name, labels), value in live.items()}
    assert {place: found[place] for place in shown} == pytest.approx(shown, rel=1e-12)


@needs
def test_the_page_types_what_works(root, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```sh\n(.*?)^```", page.split("## History")[1], flags=re.MULTILINE | re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "store").symlink_to(root / "store")
    subprocess.run(["bash", "-ec", block], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    assert list((tmp_path / "DATA").glob("*/index"))


@needs
def test_a_prometheus_that_was_filled_with_it_knows_the_whole_course(root, prometheus):
    end = START + timedelta(minutes=30 * (TIMES - 1))
    query = f'cellvigil_cells{{plate="{"/".join(SERIES)}",well="B1",state="live"}}'
    [series] = prometheus.query_range(query, START.timestamp(), end.timestamp(), 1800)
    values = read_ledger(root / "store").well_times(SERIES)
    expected = [float(value.counts["live"]) for value in values if value.well == "B1"]
    assert [float(value) for _, value in series["values"]] == expected
