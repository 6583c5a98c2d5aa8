"""How fast a folder of known files is looked at, what a known frame costs in memory, and a burst of new files.

    python benchmarks/watching.py known [--files 100000] [--folders 10] [--new 200] [--dir DIR]
    python benchmarks/watching.py burst [--files 20000] [--dir DIR]

`known`: real files of no bytes under Gen5's names, all of them committed in a ledger; five looks settle them, then 200
new ones come. `burst`: small PNGs of a plain source, written at once; each is decoded, at most 8 frames are inside at a
time, and the journal's line of each goes into the ledger. Warm page cache. Prints JSON. TRACE=1: bytes by tracemalloc.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "daemon"), str(_ROOT / "tests")]

import cv2  # noqa: E402 - found through the path set above
import numpy as np  # noqa: E402
import tifffile  # noqa: E402

from cellvigil import config  # noqa: E402
from cellvigil.data import FileStat, FrameFiles, FrameKey, Slice  # noqa: E402
from cellvigil.ledger import Ledger  # noqa: E402
from cellvigil.quarantine import Quarantine  # noqa: E402
from cellvigil.service.feed import Feed  # noqa: E402
from cellvigil.sources.registry import format_of  # noqa: E402
from feed_lab import FeedLab, frame_line  # noqa: E402

DEPTH = 8  # frames inside at a time: `workers + 4` of the service
WELLS = [f"{row}{column}" for row in "ABCDEFGH" for column in range(1, 13)]


def resident_mb() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_known(root: Path, count: int, folders: int) -> list[tuple[str, str, int]]:
    """`count` empty files in `folders` plates; returns (path, well, number) of each."""
    made = []
    for i in range(count):
        plate, rest = i % folders, i // folders
        well, number = WELLS[rest % 96], rest // 96 + 1
        path = f"240301_180000_Exp/240301_180005_Plate {plate + 1}/{well}_02_1_1_Bright Field_{number:03d}.tif"
        made.append((path, well, number))
    for path, _, _ in made:
        full = root / path
        if not full.parent.is_dir():
            full.parent.mkdir(parents=True)
        full.touch()
    return made


def book(root: Path, made: list[tuple[str, str, int]]) -> Ledger:
    """A ledger in which all of these are committed."""
    ledger = Ledger()
    for seq, (path, well, number) in enumerate(made, 1):
        stat = (root / path).stat()
        folder, plate = path.rsplit("/", 1)[0], path.split("/")[1].split("_", 2)[2]
        key = FrameKey("scope", "240301_180000_Exp", plate, well, "1", number - 1)
        item = Slice("Bright Field", None, FileStat(path, stat.st_size, stat.st_mtime_ns))
        ledger.add(frame_line(FrameFiles(key, (item,), folder=folder, number=number), 0, seq, {}))
    return ledger


def known(root: Path, files: int, folders: int, new: int) -> dict[str, Any]:
    """Looks at a folder of known files, then with `new` files more."""
    made = write_known(root / "images", files, folders)
    ledger = book(root / "images", made)
    source = config.Source(
        name="scope", kind="gen5", path=root / "images", index="i", timezone="UTC",
        channels={"segment": "Bright Field"}, scan_interval_s=1.0,
    )  # fmt: skip
    gc.collect()
    traced, resident = tracemalloc_start(), resident_mb()
    began = time.perf_counter()
    feed = Feed(source, format_of(source, config.Limits()), ledger, Quarantine(root / "quarantine.jsonl"))
    opening = time.perf_counter() - began
    looks = []
    for now in range(6):
        began = time.perf_counter()
        feed.look(float(now))
        looks.append(round(time.perf_counter() - began, 3))
    gc.collect()
    grown = resident_mb() - resident
    current = tracemalloc.get_traced_memory()[0] if traced else 0
    folder = (root / "images" / made[0][0]).parent
    for i in range(new):
        tifffile.imwrite(folder / f"{WELLS[i % 96]}_02_1_2_Bright Field_{90000 + i // 96}.tif", np.zeros((8, 8), "u1"))
    needed = []
    for now in range(6, 12):
        began = time.perf_counter()
        feed.look(float(now))
        needed.append((feed.backlog, round(time.perf_counter() - began, 3)))
    return {
        "files": files, "feed_s": round(opening, 3), "look_s": looks, "resident_mb": round(grown, 1),
        "bytes_a_file": round(current / files) if traced else None,
        "resident_bytes_a_file": round(grown * 2**20 / files), "new": new, "backlog_and_look_s": needed,
    }  # fmt: skip


def tracemalloc_start() -> bool:
    """Trace allocations where TRACE is set; it makes everything several times slower."""
    if os.environ.get("TRACE"):
        tracemalloc.start()
    return bool(os.environ.get("TRACE"))


def burst(root: Path, files: int) -> dict[str, Any]:
    """Write `files` small images at once and take them all, `DEPTH` at a time."""
    lab = FeedLab(root, "plain", pattern=r"(?P<plate>P)_(?P<well>[A-H]\d+)_t(?P<time>\d+)\.png", pixel_size_um=0.3)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    for i in range(files):
        cv2.imwrite(str(lab.folder / f"P_{WELLS[i % 96]}_t{i // 96:05d}.png"), noise)
    gc.collect()
    before, peak, inside, most_inside = resident_mb(), 0.0, [], 0
    began = time.perf_counter()
    lab.look(lab.source.settle_scans)
    looked = time.perf_counter() - began
    began = time.perf_counter()
    while True:
        ticket = lab.feed.peek() if len(inside) < DEPTH else None
        if ticket is not None:
            lab.feed.claim(ticket.files.key)
            inside.append(ticket)
            most_inside = max(most_inside, len(inside))
        elif inside:
            lab.finish(inside.pop(0))
            if len(lab.committed) % 500 == 0:
                lab.look()  # the folder is looked at all the while
                peak = max(peak, resident_mb())
        else:
            break
    worked = time.perf_counter() - began
    times = [timepoint for _, timepoint, _ in lab.times()]
    return {
        "files": files, "committed": len(lab.committed), "keys": len({key for key, _, _ in lab.committed}),
        "in_order": times == sorted(times), "quarantined": len(lab.refused), "backlog": lab.feed.backlog,
        "most_inside": most_inside, "looks_s": round(looked, 2), "work_s": round(worked, 2),
        "resident_mb_before": round(before, 1), "resident_mb_peak": round(peak, 1),
        "resident_mb_after": round(resident_mb(), 1),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="known", choices=("known", "burst"))
    parser.add_argument("--files", type=int)
    parser.add_argument("--folders", type=int, default=10)
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        root = Path(folder)
        (root / "images").mkdir()
        if options.what == "known":
            result = known(root, options.files or 100_000, options.folders, options.new)
        else:
            result = burst(root, options.files or 20_000)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
