"""What a scraper does to the frames: their delay beside a plate of 384 wells, scraped every second and not at all.

    python benchmarks/scrape_delay.py [--frames 24] [--rounds 2] [--timepoints 96]

A store with a plate of 384 wells (its later journal lines sealed without a commit) and a plate map; then rehearsed
frames are written one after another and go through the real service, a process of its own, with the real encoder. With
a scraper and without, alternating. Delay: `cellvigil_frame_delay_seconds`, which counts from the first sight of a file.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench_lab import BenchLab, bench_lab

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

from scrape import asked, plan_of, wells_of  # noqa: E402

from cellvigil.journal import read, seal  # noqa: E402 - found through the path set above
from cellvigil.rehearse.assay import Assay  # noqa: E402
from cellvigil.rehearse.run import run as film  # noqa: E402
from cellvigil.store.writer import open_store  # noqa: E402
from lab import Lab, Service  # noqa: E402
from store_records import key, record  # noqa: E402

SERIES = ("bench", "240301_run", "Plate 1")
QUIET = {"wells": ("A1", "B1"), "treated": ("B1",), "shape": (400, 500), "defocus_rate": 0.0, "bubble_rate": 0.0}
PACE_S = 1.5  # from one time point to the next: two frames


def make_store(path: Path, timepoints: int) -> None:
    """A plate of 384 wells whose newest frames came just now."""
    begun = datetime.now(UTC) - timedelta(minutes=30 * timepoints)
    with_clock = open_store(path, now=lambda: begun)
    for well in wells_of(384):
        with_clock.append(record(key(well, series=SERIES), n=60, shape=(1, 12, 18)))
    with_clock.close()
    journal = path.joinpath(*SERIES[:2], f"{SERIES[2]}.zarr", "journal.jsonl")
    lines = read(journal)
    first, seq = [line for line in lines if line["kind"] == "frame"], max(line["seq"] for line in lines)
    with journal.open("ab") as out:
        for t in range(1, timepoints):
            at = (begun + timedelta(minutes=30 * t)).isoformat()
            for line in first:
                seq += 1
                named = [[f"{line['path']} {t}", 1, seq, f"{seq:064x}"]]
                times = {"acquired_at": at, "committed_at": at, "files": named, "number": -1, "t": t}
                out.write(seal({**line, "seq": seq, "key": [*line["key"][:5], t], **times}))


def write_plan(path: Path) -> None:
    rows = ["well,role,compound,dose,unit,treated_at,experiment"]
    for plan in plan_of(wells_of(384)).wells.values():
        at = (datetime.now(UTC) - timedelta(hours=20)).isoformat()
        rows.append(f"{plan.well},{plan.role},{plan.compound},{plan.dose or ''},{plan.unit},{at},{SERIES[1]}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def one_run(bench: BenchLab, frames: int, timepoints: int, *, scraped: bool) -> dict[str, Any]:
    """Mean delay of the frames of one run, and the scrapes' own times."""
    root = bench.root / "run"
    shutil.rmtree(root, ignore_errors=True)
    (root / "images").mkdir(parents=True)
    make_store(root / "store", timepoints)
    write_plan(root / "map.csv")
    lab = Lab(root, bench.root / "indexes", bench.encoders)
    source = {"name": "bench", "scan_interval_s": 0.3, "plate_map": str(root / "map.csv")}
    with lab.service(source=source) as service:
        times: list[float] = []
        stop = threading.Event()
        scraper = threading.Thread(target=hammer, args=(service, stop, times))
        if scraped:
            scraper.start()
        film(Assay(seed=7, timepoints=frames // 2, **QUIET), root, pace_s=PACE_S)
        service.wait_for(lambda: service.committed() >= frames, 600, every=2.0)
        stop.set()
        if scraped:
            scraper.join()
        samples = service.samples()
        service.terminate()
    total, count = (samples[f"cellvigil_frame_delay_seconds_{name}", frozenset()] for name in ("sum", "count"))
    return {"delay_s": total / count, "scrapes_ms": [each * 1000 for each in times], "series": len(samples)}


def hammer(service: Service, stop: threading.Event, times: list[float]) -> None:
    address = f"{service.address}/metrics"
    while not stop.wait(1.0):
        times.append(asked(address)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timepoints", type=int, default=96)
    options = parser.parse_args()
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with bench_lab() as bench:
        for _ in range(options.rounds):
            for scraped, runs in found.items():
                runs.append(one_run(bench, 2 * (options.frames // 2), options.timepoints, scraped=scraped))
    scrapes = sorted(each for run in found[True] for each in run["scrapes_ms"])
    answer = {
        "frames": options.frames,
        "series": found[True][0]["series"],
        "delay_s": [round(run["delay_s"], 3) for run in found[False]],
        "delay_scraped_s": [round(run["delay_s"], 3) for run in found[True]],
        "scrapes": len(scrapes),
        "scrape_ms": round(median(scrapes), 1),
        "scrape_worst_ms": round(scrapes[-1], 1),
    }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
