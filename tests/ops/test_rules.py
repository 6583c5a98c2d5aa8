"""The committed rules: fresh, valid, each with cases that fire and that do not, and a place in the runbook."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from cellvigil import config
from cellvigil.metrics import AlignmentMetrics, Metrics, StoreMetrics, TallyMetrics
from cellvigil.metrics.families import FAMILIES

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "dashboards" / "prometheus"
ALERTMANAGER = ROOT / "dashboards" / "alertmanager" / "alertmanager.example.yaml"
RULE_FILES = sorted(PROMETHEUS.glob("*.rules.yaml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
RULES = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = [
    case
    for path in RULE_TESTS
    for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
    for case in test["alert_rule_test"]
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def tool(name: str, *arguments: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    program = sys.executable if name == "python" else shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed (Debian: prometheus, prometheus-alertmanager)")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_committed_rules_are_those_that_the_generator_makes(tmp_path: Path):
    fresh = tool("python", "-m", "dashboards.rules", "--check")
    assert fresh.returncode == 0, fresh.stderr
    assert tool("python", "-m", "dashboards.rules", "--out", tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in RULE_FILES]
    changed = tmp_path / "machine.rules.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("5m", "6m"), encoding="utf-8")
    stale = tool("python", "-m", "dashboards.rules", "--out", tmp_path, "--check")
    assert stale.returncode == 1
    assert stale.stderr.startswith(str(changed))


def test_a_pace_scales_every_duration_and_nothing_else(tmp_path: Path):
    assert tool("python", "-m", "dashboards.rules", "--pace", "0.01", "--out", tmp_path).returncode == 0
    normal, quick = ([*_rules_of(folder)] for folder in (PROMETHEUS, tmp_path))
    times = re.compile(r"\d+(?:ms|[smhd])\b")
    for before, after in zip(normal, quick, strict=True):
        for key in ("expr", "for", "keep_firing_for", "interval"):
            found = [_ms(text) for text in times.findall(before.get(key, ""))]
            assert [_ms(text) for text in times.findall(after.get(key, ""))] == pytest.approx(
                [0.01 * ms for ms in found]
            )
        bare, scaled = (re.sub(r"[\d.]+(?:ms|[smhd])?\b", "", rule.get("expr", "")) for rule in (before, after))
        assert scaled == bare
    assert "< 432)" in (tmp_path / "assay.rules.yaml").read_text(encoding="utf-8")  # the 12 hours of an onset's news
    checked = tool("promtool", "check", "rules", *tmp_path.glob("*.yaml"))
    assert checked.returncode == 0, checked.stderr


def test_the_runbooks_address_can_be_the_labs_own(tmp_path: Path):
    tool("python", "-m", "dashboards.rules", "--runbook", "https://wiki.example.org/cellvigil", "--out", tmp_path)
    urls = {rule["annotations"]["runbook_url"] for rule in _rules_of(tmp_path) if "alert" in rule}
    assert "https://wiki.example.org/cellvigil#cellvigildown" in urls


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path: Path):
    checked = tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_the_rules_cases_hold(path: Path):
    done = tool("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(name: str):
    expected = [bool(case.get("exp_alerts")) for case in CASES if case["alertname"] == name]
    assert set(expected) == {True, False}


def test_every_case_is_of_an_alert_that_there_is():
    assert {case["alertname"] for case in CASES} == set(ALERTS)


def test_every_series_that_is_recorded_is_used():
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    texts = "\n".join(str(rule) for rule in RULES)
    assert recorded == {name for name in recorded if texts.count(name) > 1 + _mentions_of_itself(name)}


@pytest.mark.parametrize("case", [case for case in CASES if case.get("exp_alerts")], ids=lambda case: case["alertname"])
def test_an_alert_names_what_it_is_about(case):
    for alert in case["exp_alerts"]:
        labels, texts = alert["exp_labels"], alert["exp_annotations"]
        for label in ("plate", "well", "source"):
            assert labels.get(label, "") in texts["summary"]
        if "plate" not in labels and "instance" in labels:
            assert labels["instance"] in texts["summary"]
        assert not re.search(r"error expanding|NaN|%!|<no value>|\{\{|<\d", str(texts))


@pytest.mark.parametrize(("name", "rule"), ALERTS.items(), ids=list(ALERTS))
def test_every_alert_says_how_urgent_it_is_and_what_to_do(name, rule):
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["labels"]["area"] in ("assay", "machine")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_every_alert_has_its_anchor_in_the_runbook_and_every_anchor_its_alert():
    assert re.findall(r"^### (Cellvigil\w+)", RUNBOOK, flags=re.MULTILINE) == sorted(ALERTS, key=_place_in_runbook)
    for name in ALERTS:
        section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", RUNBOOK, flags=re.MULTILINE | re.DOTALL)[1]
        assert {"Means", "May be wrong", "Do"} <= set(
            re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\*", section, flags=re.MULTILINE)
        ), name


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_into_the_runbook_lead_to_an_alert(page: Path):
    here = r"|\]\(#(cellvigil\w+)\)" if page.name == "runbook.md" else ""
    linked = re.findall(r"runbook\.md#(\w+)" + here, page.read_text(encoding="utf-8"))
    anchors = {"".join(found) for found in linked}
    assert anchors <= {name.lower() for name in ALERTS}


def test_the_runbooks_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", RUNBOOK):
        assert (ROOT / "docs" / target).exists(), target


def test_every_limit_is_one_of_the_configurations_and_every_one_of_these_is_used():
    texts = "\n".join(path.read_text(encoding="utf-8") for path in RULE_FILES)
    used = set(re.findall(r'cellvigil_alert_threshold\{alert="(\w+)"', texts))
    assert used == set(config.Alerts.model_fields)


def test_the_rules_ask_only_for_what_is_published():
    registry = CollectorRegistry()
    for make in (Metrics, StoreMetrics, TallyMetrics, AlignmentMetrics):
        make(registry)
    published = {family.name for family in FAMILIES}
    for family in registry.collect():
        published |= {family.name, f"{family.name}_total"}
    texts = "\n".join(path.read_text(encoding="utf-8") for path in RULE_FILES)
    asked = set(re.findall(r"(?<![\w:])cellvigil_\w+(?![\w:])", texts))
    assert len(asked) > 30
    assert asked <= published


def test_nothing_asks_for_a_rate():
    """Frames come minutes to hours apart."""
    assert not [rule for rule in RULES if re.search(r"\bi?rate\(", rule["expr"])]


def test_the_examples_are_valid():
    for done in (
        tool("promtool", "check", "config", PROMETHEUS / "prometheus.example.yaml"),
        tool("amtool", "check-config", ALERTMANAGER),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=CellvigilResponseOnset severity=info area=assay", "results"),
        ("alertname=CellvigilControlWellsDying severity=critical area=assay", "on-call"),
        ("alertname=CellvigilDown severity=critical area=machine", "on-call"),
        ("alertname=CellvigilFocusLost severity=warning area=assay", "lab"),
        ("alertname=CellvigilQuarantine severity=warning area=machine", "lab"),
        ("alertname=CellvigilRetentionAnnounced severity=info area=machine", "lab"),
    ],
)
def test_who_hears_of_what(labels: str, receiver: str):
    done = tool("amtool", "config", "routes", "test", "--config.file", ALERTMANAGER, *labels.split())
    assert done.stdout.split() == [receiver]


def test_the_e_mail_says_what_where_and_what_to_do(tmp_path: Path):
    labels = {"alertname": "CellvigilFocusLost", "plate": "scope/run/Plate 1"}
    texts = {
        "summary": "scope/run/Plate 1, well A1: out of focus",
        "description": "Sharpness 30%.",
        "runbook_url": "x#y",
    }
    alert = {"status": "firing", "labels": labels, "annotations": texts, "startsAt": "2026-11-21T19:00:00Z"}
    data = {"status": "firing", "alerts": [alert, alert], "groupLabels": labels, "commonLabels": labels}
    (tmp_path / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "none.tmpl").touch()
    receivers = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["receivers"]
    for mail in (mail for receiver in receivers for mail in receiver["email_configs"]):
        subject, body = (_rendered(text, tmp_path) for text in (mail["headers"]["subject"], mail["html"]))
        assert subject.strip() == "FIRING CellvigilFocusLost scope/run/Plate 1 (2)"
        for text in (*texts.values(), "2026-11-21 19:00"):
            assert body.count(text) == 2


def test_the_inhibitions_name_alerts_that_there_are():
    text = ALERTMANAGER.read_text(encoding="utf-8")
    assert set(re.findall(r"Cellvigil[A-Z]\w+", text)) <= set(ALERTS)


def _rendered(template: str, folder: Path) -> str:
    done = tool("amtool", "template", "render", "--template.glob", "none.tmpl", "--template.data", "data.json",
                "--template.text", template, cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _rules_of(folder: Path):
    for path in sorted(folder.glob("*.rules.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield {"interval": group["interval"]}
            yield from group["rules"]


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|[smhd])", text).groups()
    return float(number) * {"ms": 1, "s": 1e3, "m": 60e3, "h": 3600e3, "d": 86400e3}[unit]


def _mentions_of_itself(name: str) -> int:
    """A rule that goes on from its own past."""
    return sum(rule["expr"].count(name) for rule in RULES if rule.get("record") == name)


def _place_in_runbook(name: str) -> int:
    return RUNBOOK.find(f"### {name}\n")
