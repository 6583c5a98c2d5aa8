"""Every query of every dashboard, asked of a real Prometheus that scrapes a real daemon while it counts a rehearsal.

What a healthy rehearsal has no sample of is listed below with the reason, and is asked of the same Prometheus' second
target: a door that shows what the daemon's own metrics classes and texts make of a bad day.
"""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bad_day import PLATE as BAD_PLATE
from bad_day import bad_day

from cellvigil import page
from cellvigil.metrics.exposition import part, scrape
from cellvigil.rehearse.cells import Biology
from cellvigil.rehearse.reference import write_reference
from cellvigil_indexes.cli import main as index_command
from dashboard_files import FILES, Asked, chosen, filled, load, queries, variables
from lab import STATES, Lab, small_assay
from prometheus_server import PROGRAM, Prometheus, prometheus_server

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed (the Debian package of this name)"),
    pytest.mark.timeout(600),
]

WELLS = ("A1", "A2", "A3", "B1", "B2", "B3", "B4", "B5")
DOSES_UM = (0.3, 1.0, 2.5, 6.0, 20.0)
GROUND = {"shape": (480, 620), "cells": 34.0, "biology": Biology(kill_per_h=0.6, kill_lag_h=1.0, doubling_h=16.0)}
STARTED = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(hours=18)
SOURCE = {
    "plate_map": "plate.csv",
    "events": "events.csv",
    "interval_s": 2.0,  # of a rehearsal whose files are all there at once: it is soon late, and an alert fires
    "channels": {"segment": "Bright Field", "optional": ["GFP"]},
}
DAY_S = 86400.0

NOT_ON_A_GOOD_DAY = {
    "Experiment: GRmax B": "the interval of GRmax needs several wells a dose",
    "Experiment: GRmax C": "the interval of GRmax needs several wells a dose",
    "Microscope: Deletion announced A": "nothing is old or large enough to be deleted",
}
"""By query: why a healthy rehearsal has no sample of it. `bad_day` shows that it has one when it should."""


@dataclass(frozen=True)
class Seen:
    """A Prometheus that has seen both, and what it saw."""

    prometheus: Prometheus
    lab: Lab
    daemon: str  # its instance
    bad: str  # the other target's
    plate: str


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, lite0: Path) -> Iterator[Seen]:
    root = tmp_path_factory.mktemp("dashboards")
    lab = Lab(root, index_of(root / "indexes", lite0), lite0.parent)
    lab.images.mkdir()
    frames = lab.film(wells=WELLS, treated=WELLS[3:], doses_um=DOSES_UM, timepoints=6, minutes=180.0, dosed_at=1,
                      stain_every=1, started_at=STARTED, **GROUND)  # fmt: skip
    rules = root / "rules"
    subprocess.run([sys.executable, "-m", "dashboards.rules", "--pace", "0.01", "--out", str(rules)],
                   cwd=Path(__file__).parents[2], check=True)  # fmt: skip
    with lab.service(source=SOURCE) as service, bad_day_door() as bad:
        daemon = service.address.partition("//")[2]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"},
            "rule_files": [str(rules / "*.rules.yaml")],
            "scrape_configs": [{"job_name": "cellvigil", "static_configs": [{"targets": [daemon, bad]}]}],
        }
        with prometheus_server(config, root / "prometheus") as prometheus:
            service.wait_for(lambda: service.committed() >= frames, 400, every=1)
            service.tallied()
            answers = f'time() - timestamp(cellvigil_tally_up{{instance="{daemon}"}}) < 5'
            since = time.time()
            prometheus.wait_for(lambda: prometheus.query(answers) and time.time() > since + 4)
            firing = f'ALERTS{{alertstate="firing",instance="{daemon}",plate="PLATE"}}'
            (plate,) = {one["metric"]["plate"] for one in prometheus.query(f'cellvigil_cells{{instance="{daemon}"}}')}
            for where in (plate, ""):
                prometheus.wait_for(lambda: prometheus.query(firing.replace("PLATE", where)))  # noqa: B023 - asked now
            yield Seen(prometheus, lab, daemon, bad, plate)


def index_of(out: Path, encoder: Path) -> Path:
    """An index `states` that knows how sure it is and what it mistakes."""
    reference = write_reference(out / "reference", small_assay(**GROUND), 16)
    arguments = ["build", "states", "--coco", str(reference.annotations), "--encoder", encoder.name, "--encoders",
                 str(encoder.parent), "--states", STATES, "--crop-um", "28", "--mask", "--k-max", "12",
                 "--scale", "discriminant", "--out", str(out)]  # fmt: skip
    assert index_command(arguments) == 0
    return out


@contextlib.contextmanager
def bad_day_door() -> Iterator[str]:
    """`bad_day` behind the daemon's own door, on loopback; its address."""
    registry, text = bad_day(time.time())
    with page.served(scrape(registry, lambda: part(text)), listen="127.0.0.1", port=0, tls=None) as port:
        yield f"127.0.0.1:{port}"


def offered(prometheus: Prometheus, query: str) -> list[str]:
    """The values of a variable: what Grafana asks for `label_values(selector, label)`."""
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
    return list(prometheus.ask(f"label/{label}/values", **{"match[]": selector}))


def choices(
    prometheus: Prometheus, path: Path, *, every: bool, bare: Sequence[str] = (), **fixed: str
) -> dict[str, str]:
    """What stands for each variable, as if chosen one after the other: "All" (or the first), or `every` one by name.

    `bare`: variables that offer only "All".
    """
    values: dict[str, str] = {"__range": f"{DAY_S:.0f}s"}
    for one in variables(load(path)):
        if one["type"] == "custom":
            values[one["name"]] = one["current"]["value"]
        elif one["type"] == "query":
            found = offered(prometheus, filled(one["query"], values))
            assert bool(found) != (one["name"] in bare), f"{path.stem}: {one['name']} offers {found}"
            first = fixed.get(one["name"], found[0] if found else "")
            assert not found or first in found, (one["name"], found)
            some = found if one["multi"] else [first]
            everything = one["includeAll"] and not every and one["name"] not in fixed
            values[one["name"]] = chosen(one, None if everything else [first] if one["name"] in fixed else some)
    return values


def has_data(prometheus: Prometheus, asked: Asked, values: dict[str, str]) -> bool:
    """Whether the query has a value that is a number, over a day as Grafana asks for it, or now."""
    step = {"1h": 3600.0, "10m": 600.0}.get(asked.step, 30.0)
    expr, now = filled(asked.expr, {**values, "__interval": f"{step:.0f}s"}), time.time()
    if asked.instant:
        found = [one["value"] for one in prometheus.query(expr, now)]
    else:  # Grafana asks at whole steps; whether one of those falls into the minute of a test would be luck
        found = [each for one in prometheus.query_range(expr, now - 20 * step, now, step) for each in one["values"]]
    return any(not math.isnan(float(value)) for _, value in found)


ASKED = [(path, one) for path in FILES for one in queries(path)]


def of_plate(path: Path, plate: str) -> dict[str, str]:
    return {"plate": plate} if path.stem == "cellvigil-experiment" else {}


def test_every_query_has_data(seen: Seen):
    empty = set()
    for every in (False, True):
        values = {
            path: choices(seen.prometheus, path, every=every, instance=seen.daemon, **of_plate(path, seen.plate))
            for path in FILES
        }
        empty |= {str(one) for path, one in ASKED if not has_data(seen.prometheus, one, values[path])}
    assert "\n".join(sorted(empty)) == "\n".join(sorted(NOT_ON_A_GOOD_DAY))


def test_what_a_good_day_lacks_is_there_on_a_bad_one(seen: Seen):
    fixed = {"instance": seen.bad, "estimate": "corrected"}
    values = {path: choices(seen.prometheus, path, every=False, **fixed, **of_plate(path, BAD_PLATE)) for path in FILES}
    wanted = [(path, one) for path, one in ASKED if str(one) in NOT_ON_A_GOOD_DAY or "$estimate" in one.expr]
    assert len(wanted) > len(NOT_ON_A_GOOD_DAY)
    assert [str(one) for path, one in wanted if not has_data(seen.prometheus, one, values[path])] == []


def test_all_daemons_and_all_plates_at_once(seen: Seen):
    """As the dashboards open: "All" daemons, though one has a plate of its own."""
    for path in FILES:
        values = choices(seen.prometheus, path, every=False, **of_plate(path, seen.plate))
        broken = [str(one) for asked, one in ASKED if asked == path and not has_data(seen.prometheus, one, values)]
        assert set(broken) <= set(NOT_ON_A_GOOD_DAY)


def test_history_that_was_back_filled_shows_without_gaps(seen: Seen, tmp_path: Path):
    """Nobody scraped when the plate was taken; `table --openmetrics` dates its values, three hours apart."""
    history, store = (
        tmp_path / "history.om",
        ["--store", str(seen.lab.store), "--config", str(seen.lab.root / "config.yaml")],
    )
    table = ["table", *store, "--openmetrics", "--out", str(history)]
    subprocess.run([sys.executable, "-m", "cellvigil", *table], check=True, capture_output=True)
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(history), str(tmp_path / "data")]
    subprocess.run(blocks, check=True, capture_output=True)
    path = next(path for path in FILES if path.stem == "cellvigil-experiment")
    began = STARTED.replace(tzinfo=UTC).timestamp()
    with prometheus_server({"global": {}}, tmp_path) as prometheus:
        values = {**choices(prometheus, path, every=False, bare=["instance"]), "hold": "4h"}
        held = [one for one in queries(path) if "$hold" in one.expr and str(one) not in NOT_ON_A_GOOD_DAY]
        assert len(held) > 40
        assert [str(one) for one in held if not has_data(prometheus, one, values)] == []
        share = next(one for one in held if one.place == "Share of $state by arm A")
        for arm in prometheus.query_range(filled(share.expr, values), began + 600, began + 15 * 3600, 600):
            assert len(arm["values"]) == 15 * 6, arm["metric"]
