"""What a scrape shows and costs: series, bytes and milliseconds, on 96 and 384 wells, with and without a plate map.

    python benchmarks/scrape.py [--timepoints 144] [--rounds 30]

Counts are drawn, five states and one field of view a well; the ledger, the figures, the text and the door are the real
ones, and the scrape goes through HTTP with gzip, as Prometheus asks. What it does to frames: scrape_delay.py.
Prints JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

_ROOT = Path(os.environ.get("CELLVIGIL_ROOT", Path(__file__).resolve().parents[1]))
sys.path[:0] = [str(_ROOT / part) for part in ("daemon", "indexes", "tests", "benchmarks")]

import numpy as np  # noqa: E402 - found through the path set above
from prometheus_client import CollectorRegistry  # noqa: E402

from cellvigil import page  # noqa: E402
from cellvigil.ledger import Design, Ledger  # noqa: E402
from cellvigil.metrics import Metrics, StoreMetrics, TallyMetrics  # noqa: E402
from cellvigil.metrics.exposition import Part, part, scrape  # noqa: E402
from cellvigil.metrics.rendering import scrape_lines, scrape_text  # noqa: E402
from cellvigil.platemap import NO_PLAN, PlatePlan, WellPlan  # noqa: E402
from cellvigil.tally.blocks import blocks  # noqa: E402
from cellvigil.tally.figures import Limits, figures_of  # noqa: E402
from plate_lines import GROUPS, LATER, STATES, baseline_line, bundle_line, frame_line, ledger_of, sheet_of  # noqa: E402
from store_records import SERIES, START  # noqa: E402

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"
CONFUSION = {"live": [170, 12, 2, 2, 14], "apoptotic": [14, 160, 12, 4, 10], "necrotic": [2, 14, 170, 6, 8]}
CONFUSION["debris"] = [2, 2, 8, 180, 8]
DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def wells_of(count: int) -> list[str]:
    rows, columns = {96: ("ABCDEFGH", 12), 384: ("ABCDEFGHIJKLMNOP", 24)}[count]
    return [f"{row}{column}" for row in rows for column in range(1, columns + 1)]


def plan_of(wells: list[str]) -> PlatePlan:
    """A third controls, the rest two compounds in six doses."""
    found = {}
    for place, well in enumerate(wells):
        if place % 3 == 0:
            found[well] = WellPlan(well, "control", vehicle="DMSO", cell_line="HeLa")
        else:
            dose = DOSES[place // 3 % len(DOSES)]
            compound = ("raptinal", "staurosporine")[place % 3 - 1]
            at = START + timedelta(hours=3)
            found[well] = WellPlan(well, "treated", compound, dose, "uM", "DMSO", cell_line="HeLa", treated_at=at)
    return PlatePlan(found)


def ledger(wells: list[str], timepoints: int) -> Ledger:
    rng = np.random.default_rng(5)
    counts = [CONFUSION[state] for state in GROUPS]
    confusion = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
    index = bundle_line() | {"confusion": {"counts": counts, "effects": [1.0] * 4}}
    lines: list[dict[str, Any]] = [index, baseline_line()]
    for t in range(timepoints):
        for place, well in enumerate(wells):
            dead = 0.03 if place % 3 == 0 else min(0.6, 0.03 + 0.01 * max(0, t - 6))
            called = np.array([0.93 - dead, 0.04, dead, 0.03]) @ confusion
            cells = rng.multinomial(rng.poisson(200), called)
            lines.append(frame_line(well, t, counts=dict(zip((*STATES, "unknown"), map(int, cells), strict=True))))
    return ledger_of(lines)


def asked(address: str, accept: str = OPENMETRICS) -> tuple[float, bytes, int]:
    """One scrape: seconds, the text, and the bytes that travelled."""
    request = urllib.request.Request(address, headers={"Accept": accept, "Accept-Encoding": "gzip"})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = answer.read()
    return time.perf_counter() - began, gzip.decompress(body), len(body)


def measured(count: int, timepoints: int, rounds: int, *, with_plan: bool) -> dict[str, Any]:
    wells = wells_of(count)
    book = ledger(wells, timepoints)
    design = Design(plan_of(wells) if with_plan else NO_PLAN)
    began = time.perf_counter()
    sheet = sheet_of(book)
    folded = time.perf_counter() - began
    times: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        figures = figures_of(book, SERIES, sheet, design, Limits(), settled=sheet.settled(LATER.timestamp(), 1.0))
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    text = scrape_text([scrape_lines(blocks(figures))])
    rendered = time.perf_counter() - began
    began = time.perf_counter()
    ready = part(text)
    squeezed = time.perf_counter() - began
    return {
        "wells": count,
        "plate_map": with_plan,
        "timepoints": timepoints,
        "series": sum(not line.startswith(b"#") for line in text.splitlines()),
        "correction": figures.response.correction,
        "fold_all_s": round(folded, 3),
        "figures_s": round(median(times), 3),
        "render_ms": round(rendered * 1000, 1),
        "compress_ms": round(squeezed * 1000, 1),
        **scraped(ready, rounds),
    }


def scraped(ready: Part, rounds: int) -> dict[str, Any]:
    registry = CollectorRegistry()
    for make in (Metrics, StoreMetrics, TallyMetrics):
        make(registry)
    app = page.application(scrape(registry, lambda: ready), lambda: (True, {}))
    with page.served(app, listen="127.0.0.1", port=0) as port:
        address = f"http://127.0.0.1:{port}/metrics"
        every = [asked(address) for _ in range(rounds + 3)][3:]
    seconds = [one[0] for one in every]
    return {
        "text_kb": round(len(every[0][1]) / 1000),
        "gzip_kb": round(every[0][2] / 1000, 1),
        "scrape_ms": round(median(seconds) * 1000, 2),
        "scrape_p95_ms": round(quantiles(seconds, n=20)[-1] * 1000, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timepoints", type=int, default=144)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    answer: dict[str, Any] = {
        "plates": [
            measured(count, options.timepoints, options.rounds, with_plan=with_plan)
            for count in (96, 384)
            for with_plan in (False, True)
        ]
    }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
