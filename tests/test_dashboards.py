"""The committed dashboards: up to date, valid for Grafana's own schema, and fit to be looked at."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as sdk

from cellvigil.config import Alerts
from cellvigil.metrics.families import FAMILIES
from dashboard_files import FILES, FOLDER, chosen, filled, load, panels, queries, used, variables

ROOT = FOLDER.parents[1]
OF_PROMETHEUS = {"step", "tagKeys", "textFormat", "titleFormat", "useValueForTime"}
"""Keys of an annotation that Grafana's Prometheus data source reads, and the SDK's schema does not name."""
OF_GRAFANA = {"__interval", "__range"}
of_each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, cls=JSONEncoder))


def differences(found: Any, wanted: Any, place: str = "") -> list[str]:
    """Where two plain values differ: a field that the schema does not know is lost on the way through it."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [
            one
            for key in keys
            for one in (
                differences(found[key], wanted[key], f"{place}.{key}")
                if key in found and key in wanted
                else [f"{place}.{key}"]
            )
        ]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [
            d for i, pair in enumerate(zip(found, wanted, strict=True)) for d in differences(*pair, f"{place}[{i}]")
        ]
    return [] if found == wanted else [place]


def through_schema(dashboard: dict[str, Any]) -> Any:
    register_default_plugins()
    return plain(sdk.Dashboard.from_json(dashboard))


def test_there_are_three():
    assert [path.stem for path in FILES] == ["cellvigil-experiment", "cellvigil-fleet", "cellvigil-microscope"]
    assert [load(path)["uid"] for path in FILES] == [path.stem for path in FILES]


def test_files_are_what_the_code_makes(tmp_path: Path):
    make = [sys.executable, "-m", "dashboards.grafana.make"]
    done = subprocess.run([*make, "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    subprocess.run([*make, "--out", str(tmp_path)], cwd=ROOT, check=True)
    changed = tmp_path / FILES[0].name
    changed.write_text(changed.read_text(encoding="utf-8").replace("dead", "death"), encoding="utf-8")
    done = subprocess.run(
        [*make, "--check", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("stale")) == (1, 1)


@of_each
def test_schema_of_the_sdk_holds_every_field(path: Path):
    dashboard = load(path)
    lost = differences(through_schema(dashboard), dashboard)
    known = [
        f".annotations.list[{i}].{key}" for i in range(len(dashboard["annotations"]["list"])) for key in OF_PROMETHEUS
    ]
    assert sorted(lost) == sorted(known)


def test_schema_finds_a_field_that_does_not_exist():
    dashboard = load(FILES[0])
    panel = next(panels(dashboard))
    panel["fieldConfig"]["defaults"]["colour"] = "red"
    assert any(place.endswith(".colour") for place in differences(through_schema(dashboard), dashboard))


@of_each
def test_panels_are_numbered_and_do_not_overlap(path: Path):
    dashboard = load(path)
    every = [*dashboard["panels"], *(one for row in dashboard["panels"] for one in row.get("panels", []))]
    assert len({one["id"] for one in every}) == len(every)
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in every)
    for level in (dashboard["panels"], *(row["panels"] for row in dashboard["panels"] if row.get("panels"))):
        places = [[(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])]
                  for g in (one["gridPos"] for one in level)]  # fmt: skip
        cells = list(itertools.chain.from_iterable(places))
        assert len(set(cells)) == len(cells)


@of_each
def test_every_panel_says_what_it_shows_and_asks_the_chosen_prometheus(path: Path):
    dashboard = load(path)
    for panel in panels(dashboard):
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert letters == sorted(set(letters))
        assert all(
            target["expr"].strip() and target["datasource"] == panel["datasource"] for target in panel["targets"]
        )
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)
    assert all(mark["datasource"]["uid"] == "${datasource}" for mark in dashboard["annotations"]["list"])


@of_each
def test_variables_are_there_where_they_are_used(path: Path):
    dashboard = load(path)
    names = [one["name"] for one in variables(dashboard)]
    assert names[0] == "datasource"
    for place, one in enumerate(variables(dashboard)):
        if one["type"] == "query":
            assert used(one["query"]) <= set(names[:place]), one["name"]
            assert not one["includeAll"] or one["allValue"] == ".*"
    asked = set().union(*(used(one.expr) for one in queries(path)))
    assert asked <= {*names, *OF_GRAFANA}
    repeated = {panel["repeat"] for panel in panels(dashboard) if "repeat" in panel}
    assert repeated <= set(names)
    in_titles = set().union(*(used(panel["title"]) for panel in panels(dashboard)))
    assert set(names) - {"datasource"} <= asked | in_titles | repeated, "a variable that changes nothing"


@of_each
def test_counters_are_never_read_over_minutes(path: Path):
    for asked in queries(path):
        assert "rate(" not in asked.expr, asked
        assert "$__rate_interval" not in asked.expr, asked
        for window in re.findall(r"increase\([^\[]+\[([^\]]+)\]", asked.expr):
            assert window in ("1h", "$__range") or (window == "$__interval" and asked.step == "1h"), asked


@of_each
def test_metrics_and_alerts_are_ours(path: Path):
    """Names of the daemon's code: those of wells, arms and plates, those of the counters, and the keys of `alerts`."""
    text = path.read_text(encoding="utf-8")
    counters = (ROOT / "daemon/cellvigil/metrics/counters.py").read_text(encoding="utf-8")
    known = {family.name for family in FAMILIES} | set(re.findall(r'"(cellvigil_\w+)"', counters))
    found = set(re.findall(r"cellvigil_\w+", text))
    assert {re.sub(r"_(total|bucket|sum|count|created|info)$", "", name) for name in found - known} <= known | {
        "cellvigil_build"
    }
    assert set(re.findall(r'alert=\\"(\w+)\\"', text)) <= set(Alerts.model_fields)


@of_each
def test_links_lead_to_dashboards_that_exist_with_variables_that_they_have(path: Path):
    others = {load(one)["uid"]: {v["name"] for v in variables(load(one))} for one in FILES}
    links = re.findall(r'"url": "(/d/[^"]+)"', path.read_text(encoding="utf-8"))
    for link in links:
        uid, _, arguments = link.removeprefix("/d/").partition("?")
        assert set(re.findall(r"&var-(\w+)=", arguments)) <= others[uid]
    assert links or path.stem != "cellvigil-fleet"


def test_values_are_filled_in_as_grafana_does():
    many, one = {"multi": True, "includeAll": True, "allValue": ".*"}, {"multi": False, "includeAll": False}
    assert chosen(many, None) == ".*"
    assert chosen(many, ["B1", "B2"]) == "(B1|B2)"
    assert chosen(many, ["Raptinal 2.5 uM"]) == r"Raptinal 2\\.5 uM"
    assert chosen(one, ['a/b "c"']) == r"a/b \"c\""
    assert filled('x{well=~"$well"}[${hold}]', {"well": "(B1|B2)", "hold": "1h"}) == 'x{well=~"(B1|B2)"}[1h]'
    with pytest.raises(KeyError):
        filled("$nothing", {})


@pytest.mark.parametrize("path", sorted((FOLDER / "provisioning").glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_provisioning_files_are_what_grafana_reads(path: Path):
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert told["apiVersion"] == 1
    if path.parent.name == "datasources":
        (source,) = told["datasources"]
        assert (source["type"], source["access"]) == ("prometheus", "proxy")
        assert {"name", "uid", "url"} <= set(source)
    else:
        (provider,) = told["providers"]
        assert (provider["type"], provider["options"]["path"]) == ("file", "$CELLVIGIL_DASHBOARDS")


def test_there_is_a_provisioning_file_of_each_kind():
    assert {path.parent.name for path in (FOLDER / "provisioning").glob("*/*.yaml")} == {"dashboards", "datasources"}
