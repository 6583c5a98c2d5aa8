"""The text of a scrape as a whole: both formats, gzip, what promtool says of it, and that the documentation is true."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from cellvigil.events import Event
from cellvigil.ledger import Design
from cellvigil.metrics import AlignmentMetrics, Metrics, StoreMetrics, TallyMetrics
from cellvigil.metrics.exposition import NOTHING, gzipped, part, scrape
from cellvigil.metrics.families import FAMILIES, WITH_INTERVAL
from cellvigil.metrics.rendering import scrape_lines, scrape_text
from cellvigil.platemap import WellPlan
from cellvigil.tally.blocks import blocks
from plate_lines import STATES, baseline_line, bundle_line, figures, frame_line, ledger_of, plan_of
from store_records import START

OM = "application/openmetrics-text;version=1.0.0"
DOC = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
WELLS = [f"{row}{column}" for row in "ABC" for column in range(1, 5)]
DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def plate():
    """Two compounds, six doses, a control row, a correction, an event: most figures exist."""
    confusion = [[90, 5, 5, 0, 0], [5, 90, 5, 0, 0], [5, 5, 90, 0, 0], [0, 0, 0, 100, 0]]
    lines: list[dict[str, Any]] = [bundle_line() | {"confusion": {"counts": confusion, "effects": [1.0] * 4}}]
    lines.append(baseline_line())
    plans = []
    for place, well in enumerate(WELLS):
        drug = place >= 4
        dose = DOSES[place % 6]
        plans.append(WellPlan(well, "treated", f"drug {place % 2}", dose, "uM", treated_at=START) if drug
                     else WellPlan(well, "control", treated_at=START))  # fmt: skip
        for t in range(6):
            live = 200 + 20 * t if not drug else round(200 + 20 * t * (1 - 2 * dose / (dose + 2)))
            dead = 12 if not drug else round(12 + t * 10 * dose / (dose + 2))
            counts = {"live": live, "apoptotic": 12, "necrotic": dead, "debris": 5, "unknown": 3}
            lines.append(frame_line(well, t, counts=counts))
    return figures(ledger_of(lines), Design(plan_of(*plans), (Event(START, "dosed"),)))


@pytest.fixture(scope="module")
def text() -> bytes:
    return scrape_text([scrape_lines(blocks(plate()))])


def registry() -> CollectorRegistry:
    every = CollectorRegistry()
    for make in (Metrics, StoreMetrics, TallyMetrics, AlignmentMetrics):
        make(every)
    return every


def ask(app: Any, *, method: str = "GET", query: str = "", **headers: str) -> tuple[str, dict[str, str], bytes]:
    """One request through the WSGI validator."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": query,
    }
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    said: list[Any] = []
    answer = validator(app)(environ, lambda status, headers, exc_info=None: said.extend((status, dict(headers))))
    try:
        body = b"".join(answer)
    finally:
        answer.close()
    return said[0], said[1], body


def test_both_formats_hold_the_same_and_each_metric_once(text):
    app = scrape(registry(), lambda: part(text))
    _, headers, plain = ask(app)
    _, headers_om, modern = ask(app, accept=OM)
    assert headers["Content-Type"].startswith("text/plain")
    assert headers_om["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.endswith(b"# EOF\n")
    assert modern.count(b"# EOF") == 1
    assert b"# EOF" not in plain
    found = []
    for families in (list(classic(plain.decode())), list(openmetrics(modern.decode()))):
        names = [family.name for family in families]
        assert len(set(names)) == len(names)
        found.append({
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families for sample in family.samples
            if sample.name.startswith("cellvigil_") and not sample.name.endswith("_created")
        })  # fmt: skip
    ours = {family.name for family in FAMILIES}
    assert {key: value for key, value in found[0].items() if key[0] in ours} == {
        key: value for key, value in found[1].items() if key[0] in ours
    }
    assert sum(key[0] in ours for key in found[0]) == sum(not line.startswith(b"#") for line in text.splitlines())
    for line in (b"# HELP ", b"# TYPE "):
        headings = [each.split(b" ")[2] for each in plain.splitlines() if each.startswith(line)]
        assert len(set(headings)) == len(headings)


@pytest.mark.parametrize("accept", ["", OM])
def test_gzip_holds_the_very_same_in_one_stream(text, accept):
    app = scrape(registry(), lambda: part(text))
    _, headers, plain = ask(app, accept=accept)
    assert int(headers["Content-Length"]) == len(plain)
    _, headers, squeezed = ask(app, accept=accept, accept_encoding="gzip, deflate")
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) == len(squeezed) < len(plain) / 3
    whole = zlib.decompressobj(wbits=31)
    unpacked = whole.decompress(squeezed)
    assert whole.eof
    assert whole.unused_data == b""
    assert strip_clock(unpacked) == strip_clock(plain)


def strip_clock(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if b"_created" not in line]


@given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(0, 9))
def test_parts_put_together_are_a_gzip_file_of_their_texts(texts, level):
    assert gzip.decompress(gzipped(part(text, level) for text in texts)) == b"".join(texts)


def test_a_scrape_of_some_metrics_only(text):
    app = scrape(registry(), lambda: part(text))
    query = "name[]=cellvigil_cells&name[]=cellvigil_tally_up"
    for accept, parse in (("", classic), (OM, openmetrics)):
        _, _, body = ask(app, accept=accept, query=query)
        assert {family.name for family in parse(body.decode())} == {"cellvigil_cells", "cellvigil_tally_up"}


def test_other_methods_and_no_wells_at_all():
    own = CollectorRegistry()
    Gauge("a", "A.", registry=own).set(1)
    app = scrape(own)
    assert ask(app)[2] == b"# HELP a A.\n# TYPE a gauge\na 1.0\n"
    assert ask(app, accept=OM)[2] == b"# HELP a A.\n# TYPE a gauge\na 1.0\n# EOF\n"
    assert ask(app, method="POST")[0].startswith("405")
    assert ask(app, method="OPTIONS")[0].startswith("200")
    assert NOTHING.text == NOTHING.deflated == b""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_of(text):
    _, _, body = ask(scrape(registry(), lambda: part(text)))
    done = subprocess.run(["promtool", "check", "metrics"], check=False, input=body, capture_output=True, timeout=60)
    assert done.stdout == b""
    assert done.stderr == b""


ROW = re.compile(r"^\| `(cellvigil_\w+)`(?P<ends> ±)? \|(?P<cells>.*)\|$", re.MULTILINE)


def documented() -> dict[str, tuple[bool, list[str]]]:
    """Of each metric in the documentation whether it has an interval, and its other columns."""
    found = {}
    for match in ROW.finditer(DOC.read_text(encoding="utf-8")):
        assert match[1] not in found
        found[match[1]] = (match["ends"] is not None, [cell.strip() for cell in match["cells"].split(" | ")])
    return found


def test_the_documentation_names_every_metric_with_its_labels_and_no_other():
    said = documented()
    ours = {family.name: family for family in FAMILIES if not family.name.endswith(("_low", "_high"))}
    names = {f"{one.name}{ {'counter': '_total', 'info': '_info'}.get(one.type, '') }" for one in registry().collect()}
    assert set(said) == {*ours, *names}
    for name, family in ours.items():
        ends, cells = said[name]
        assert tuple(cells[0].split(", ")) == family.labels, name
        assert ends == (family in WITH_INTERVAL), name


def test_no_metric_has_more_series_than_the_documentation_says(text):
    numbers = {"W": len(WELLS), "S": len(STATES) + 1, "L": 3, "A": 13, "D": 2, "F": 0}
    shown: dict[str, int] = {}
    for line in text.decode().splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0]
            base = re.sub(r"_(low|high)$", "", name)
            shown[base] = shown.get(base, 0) + 1
    for name, (_, cells) in documented().items():
        if name in shown:
            most = eval(cells[2], {"__builtins__": {}}, numbers)
            assert shown[name] <= most, name
    for name, most in (("cells", "W*S"), ("state_share", "3*2*W*L"), ("well_info", "W"), ("response_ratio", "3*W")):
        assert shown[f"cellvigil_{name}"] == eval(most, {"__builtins__": {}}, numbers)
