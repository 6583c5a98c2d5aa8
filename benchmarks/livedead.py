"""The whole service on real label-free images: counting-chamber fields that a writer drops into the watched folder.

    python benchmarks/livedead.py [--keep DIR]

An index from the batches `b` and `cell`; the batch `image` (60 fields) written file by file, in pieces, into a folder
that `cellvigil run` watches. Reports recall and precision of the segmentation against the annotated boxes (a mask's
centre inside a box, one to one) and the balanced accuracy of the calls on matched cells. Nominal scale 0.75 um a pixel.
EfficientNet-Lite0 with its real ImageNet weights. A good score proves little here: one brightness figure nearly solves
this set.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench_lab import ENCODER, ROOT, encoder_folder, index_command

from cellvigil import table

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", ROOT.parent / "shared" / "data")) / "livedead"
PIXEL_UM = 0.75
CROP_UM = 30.0  # a cell of about 15 um and as much around it

# Every field is a sample of its own: no time course, and two fields differ in size or depth, so each is its own plate.
SOURCE = {
    "name": "chamber", "kind": "plain", "path": "images", "index": "livedead", "pixel_size_um": PIXEL_UM,
    "pattern": r"(?P<plate>image_image\d+)\.png", "experiment_rule": "source", "scan_interval_s": 0.2,
}  # fmt: skip
SEGMENT = {"cell_diameter_um": 15.0, "min_area_um2": 40.0, "max_area_um2": 1200.0}


def build(root: Path, encoders: Path) -> None:
    """The index `livedead` of the batches b and cell."""
    arguments = ["build", "livedead", "--coco", str(DATA / "annotations.coco.json"), "--image-root",
                 str(DATA / "images"), "--only", "b_*", "--only", "cell_*", "--pixel-size", str(PIXEL_UM), "--crop-um",
                 str(CROP_UM), "--encoder", ENCODER, "--encoders", str(encoders), "--states", "live=alive,dead=dead",
                 "--colour", "grey", "--out", str(root / "indexes")]  # fmt: skip
    if index_command(arguments):
        raise SystemExit("the index could not be built")


def configure(root: Path, encoders: Path) -> Path:
    """The service's configuration, written."""
    path = root / "config.yaml"
    settings = {"version": 1, "sources": [SOURCE], "segment": SEGMENT, "encoder": {"path": str(encoders)},
                "classify": {"indexes": str(root / "indexes")}, "metrics": {"port": 0}}  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return path


def write_in_pieces(folder: Path) -> int:
    """Drop every field of the batch into the folder, each under its final name and growing; returns how many."""
    files = sorted((DATA / "images").glob("image_*.png"))
    for file in files:
        content = file.read_bytes()
        with (folder / file.name).open("wb", buffering=0) as out:
            for start in range(0, len(content), len(content) // 3 + 1):
                out.write(content[start : start + len(content) // 3 + 1])
                time.sleep(0.005)
    return len(files)


def serve(root: Path, config: Path) -> dict[str, float]:
    """Run the service while the files are written, until all are committed; returns cells by state from /metrics."""
    log = root / "service.log"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "cellvigil", "run", "--config", str(config)], stderr=out)
        files = write_in_pieces(root / "images")
        samples: dict[str, float] = {}
        until, done = time.monotonic() + 120, math.inf  # when the last frame was seen to be committed
        # The figures of wells follow a moment later: a thread of their own makes them.
        while samples.get("cellvigil_tally_timestamp_seconds", 0) < done:
            if sum(v for k, v in samples.items() if k.startswith("cellvigil_frames_total{")) >= files:
                done = min(done, time.time())
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(log.read_text())
            time.sleep(0.2)
            if address := re.search(r"http://[\d.:]+", log.read_text()):
                with urllib.request.urlopen(f"{address.group()}/metrics", timeout=30) as answer:
                    lines = [line for line in answer.read().decode().splitlines() if line[:1] not in ("#", "")]
                samples = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
        process.terminate()
        if process.wait(60):
            raise SystemExit(log.read_text())
    counts: Counter[str] = Counter()
    for name, value in samples.items():
        if name.startswith("cellvigil_cells{"):
            counts[re.search(r'state="(\w+)"', name).group(1)] += value
    return dict(counts)


def boxes_by_image() -> dict[str, list[tuple[str, tuple[float, float, float, float]]]]:
    """(state, (x, y, w, h)) of every annotated box, by image stem."""
    notes = json.loads((DATA / "annotations.coco.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in notes["images"]}
    states = {category["id"]: category["name"] for category in notes["categories"]}
    boxes: dict[str, list[Any]] = {name: [] for name in names.values()}
    for note in notes["annotations"]:
        boxes[names[note["image_id"]]].append((states[note["category_id"]], tuple(note["bbox"])))
    return boxes


def score(store: Path) -> dict[str, float]:
    """Figures of the committed record against the boxes."""
    boxes = boxes_by_image()
    found = spurious = spurious_counted = 0
    expected = sum(len(boxes[row["plate"]]) for batch in table.frame_rows(store) for row in batch.to_pylist())
    confusion: Counter[tuple[str, str]] = Counter()
    for batch in table.rows(store):
        rows = batch.to_pylist()
        free = list(boxes[rows[0]["plate"]])
        for row in rows:
            y, x = row["centroid_y_px"], row["centroid_x_px"]
            inside = [b for b in free if b[1][0] <= x < b[1][0] + b[1][2] and b[1][1] <= y < b[1][1] + b[1][3]]
            if not inside:
                spurious += 1
                spurious_counted += row["counted"]  # masks at the border are kept, but stand in no count
                continue
            centre = [np.hypot(b[1][0] + b[1][2] / 2 - x, b[1][1] + b[1][3] / 2 - y) for b in inside]
            mine = inside[int(np.argmin(centre))]
            free.remove(mine)
            found += 1
            confusion[mine[0], row["state"]] += 1
    recalls = {
        state: confusion[state, state] / max(1, sum(n for (true, _), n in confusion.items() if true == state))
        for state in ("live", "dead")
    }
    return {
        "expected": expected,
        "recall": found / expected,
        "precision": found / (found + spurious),
        "precision_off_the_border": found / (found + spurious_counted),
        "balanced_accuracy": sum(recalls.values()) / 2,
        **{f"{state}_recall": value for state, value in recalls.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, default=None, help="a new folder that keeps the store")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no {DATA}; set CELLVIGIL_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as place:
        root = options.keep or Path(place)
        (root / "images").mkdir(parents=True)
        encoders = encoder_folder(root)
        build(root, encoders)
        counts = serve(root, configure(root, encoders))
        print("cells in /metrics:", ", ".join(f"{state} {count:.0f}" for state, count in sorted(counts.items())))
        print(", ".join(f"{name} {value:.3f}" for name, value in score(root / "store").items()))


if __name__ == "__main__":
    main()
