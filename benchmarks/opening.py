"""How long a start takes on a large store, and what a committed frame costs in memory.

    python benchmarks/opening.py [--frames 100000] [--dir DIR] [--rounds 3] [--keep DIR]

Makes a store of 96 wells x 4 fields by committing the first time point for real; the later ones are faked: journal
lines sealed as the writer seals them, and chunks that are hard links to the first ones. Then measures, each in a fresh
process and with a warm page cache: opening after a clean and an unclean end, building the service's feed over the
ledger, reading the ledger alone, and asking what the page of metrics asks. Prints JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

_ROOT = Path(os.environ.get("CELLVIGIL_ROOT", Path(__file__).resolve().parents[1]))
sys.path[:0] = [str(_ROOT / part) for part in ("daemon", "tests")]

from cellvigil import config  # noqa: E402 - found through the path set above
from cellvigil.journal import read, seal  # noqa: E402
from cellvigil.quarantine import Quarantine  # noqa: E402
from cellvigil.service.feed import Feed  # noqa: E402
from cellvigil.sources.registry import format_of  # noqa: E402
from cellvigil.store.reader import read_ledger  # noqa: E402
from cellvigil.store.writer import open_store  # noqa: E402
from store_records import SERIES, START, key, record  # noqa: E402

ROWS, COLUMNS, FIELDS = "ABCDEFGH", range(1, 13), range(1, 5)
PLATE = Path(*SERIES[:2], f"{SERIES[2]}.zarr")
FAKED = (
    "the first time point was committed; the journal lines of the later ones were sealed without a commit, and their "
    "chunks are hard links to the first one's (12 x 18 pixels, 5 cells)"
)


def make_store(path: Path, frames: int) -> None:
    """A store of about `frames` committed frames, closed; see FAKED."""
    store = open_store(path)
    for row in ROWS:
        for column in COLUMNS:
            for field in FIELDS:
                store.append(record(key(f"{row}{column}", 0, str(field))), folder="240301_run/Plate 1", number=1)
    store.publish(SERIES)
    store.close()
    journal = path / PLATE / "journal.jsonl"
    lines = read(journal)
    first = [line for line in lines if line["kind"] == "frame"]
    times = -(-frames // len(first))
    seq = max(line["seq"] for line in lines)
    with journal.open("ab") as out:
        for t in range(1, times):
            for line in first:
                seq += 1
                out.write(seal(later_line(line, t, seq)))
    for line in first:
        for chunk in (path / PLATE / line["path"]).rglob("c.0.0*"):
            tail = chunk.name.removeprefix("c.0")
            for t in range(1, times):
                os.link(chunk, chunk.with_name(f"c.{t}{tail}"))
    open_store(path).close()  # its documents now show every time point


def later_line(line: dict[str, Any], t: int, seq: int) -> dict[str, Any]:
    """The line of a field's time point `t`, from that of its first."""
    source, experiment, plate, well, field, _ = line["key"]
    at = START + timedelta(minutes=30 * t, microseconds=seq)
    name = f"240301_run/Plate 1/{well}_02_1_{field}_Bright Field_{t + 1:03d}.tif"
    return {
        **line,
        "seq": seq,
        "key": [source, experiment, plate, well, field, t],
        "t": t,
        "number": t + 1,
        "acquired_at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "committed_at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "files": [[name, 2_212_992 + seq, 1_700_000_000_000_000_000 + seq, f"{seq * 2654435761:064x}"]],
    }


def resident_kb() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def measure_opening(store: Path) -> dict[str, float]:
    """Seconds of opening and of the feed, and resident memory that the open store keeps."""
    gc.collect()
    before, began, worked = resident_kb(), time.perf_counter(), time.process_time()
    opened = open_store(store)
    opening, worked = time.perf_counter() - began, time.process_time() - worked
    kept = resident_kb() - before
    source = config.Source(
        name=SERIES[0], kind="gen5", path=store, timezone="UTC", index="none", channels={"segment": "Bright Field"}
    )
    began = time.perf_counter()
    Feed(source, format_of(source, config.Limits()), opened.ledger, Quarantine(store.parent / "quarantine.jsonl"))
    feed = time.perf_counter() - began
    began = time.perf_counter()
    opened.ledger.latest(SERIES, len(FIELDS), now=START, timeout=timedelta(hours=1))
    latest = time.perf_counter() - began
    began = time.perf_counter()
    opened.close()
    closing = time.perf_counter() - began
    times = {"open_s": opening, "open_cpu_s": worked, "feed_s": feed, "latest_s": latest, "close_s": closing}
    return {**times, "kept_kb": kept}


def measure_ledger(store: Path) -> dict[str, float]:
    """Bytes that a ledger keeps a frame: by tracemalloc, with nothing else held."""
    gc.collect()
    tracemalloc.start()
    ledger = read_ledger(store)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"traced": kept, "frames": len(ledger.frames(SERIES))}


def measure_reading(store: Path) -> dict[str, float]:
    """Seconds of reading the ledger without the lock, and the resident memory that it keeps."""
    gc.collect()
    before, began = resident_kb(), time.perf_counter()
    ledger = read_ledger(store)
    seconds = time.perf_counter() - began
    return {"read_s": seconds, "kept_kb": resident_kb() - before, "series": len(ledger.series())}


def apart(what: str, store: Path) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--only", what, "--keep", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def report(store: Path, rounds: int) -> dict[str, Any]:
    """Everything, by median over `rounds`."""
    apart("opening", store)  # warms the page cache
    clean = [apart("opening", store) for _ in range(rounds)]
    unclean = []
    for _ in range(rounds):
        (store / ".lock").write_text("1\n")  # as a killed process leaves it
        unclean.append(apart("opening", store))
    reading = [apart("reading", store) for _ in range(rounds)]
    ledger = apart("ledger", store)
    frames = ledger["frames"]
    return {
        "frames": frames,
        "faked": FAKED,
        "journal_mb": round((store / PLATE / "journal.jsonl").stat().st_size / 1e6, 1),
        **{name: round(median(one[name] for one in clean), 4) for name in clean[0] if name.endswith("_s")},
        "open_unclean_s": round(median(one["open_s"] for one in unclean), 4),
        "open_unclean_cpu_s": round(median(one["open_cpu_s"] for one in unclean), 4),
        "read_ledger_s": round(median(one["read_s"] for one in reading), 4),
        "ledger_bytes_a_frame": round(ledger["traced"] / frames),
        "ledger_rss_bytes_a_frame": round(median(one["kept_kb"] for one in reading) * 1024 / frames),
        "open_store_rss_bytes_a_frame": round(median(one["kept_kb"] for one in clean) * 1024 / frames),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None, help="where the store is made; default: the temporary folder")
    parser.add_argument("--keep", type=Path, default=None, help="a store to use, made there if absent, and kept")
    parser.add_argument("--only", choices=("opening", "reading", "ledger"), default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure = {"opening": measure_opening, "reading": measure_reading, "ledger": measure_ledger}[options.only]
        print(json.dumps(measure(options.keep)))
        return
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    try:
        store = options.keep or folder / "store"
        if not (store / PLATE).is_dir():
            make_store(store, options.frames)
        print(json.dumps(report(store, options.rounds), indent=2))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
