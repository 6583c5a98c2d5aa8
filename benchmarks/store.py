"""What a commit costs: a 904 x 1224 two-channel u16 frame with 300 cells and one 1,280-d embedding.

    python benchmarks/store.py [--frames 40] [--dir DIR] [--fields 1]

Prints medians. `commit.py` counts the fsyncs, and holds the time against what its bytes cost anyway.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("daemon", "tests")]

from cellvigil.store.writer import open_store  # noqa: E402 - found through the path set above
from store_records import SERIES, key, record  # noqa: E402

SHAPE = (2, 904, 1224)
CELLS = 300


def frame_pixels(rng: np.random.Generator) -> np.ndarray:
    """Camera-like noise over a smooth field: compresses like synthetic microscopy (ratio about 1.4)."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    field = 2000 + 400 * np.sin(y / 90) * np.cos(x / 130)
    return (field + rng.normal(0, 60, SHAPE)).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--fields", type=int, default=1)
    parser.add_argument("--dir", type=Path, default=None)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pixels = frame_pixels(rng)
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    try:
        store = open_store(folder / "store")
        commits, publishes = [], []
        for timepoint in range(options.frames):
            for field in range(options.fields):
                one = record(key("A1", timepoint, str(field)), n=CELLS, shape=SHAPE, pixels=pixels, dimension=1280)
                began = time.perf_counter()
                store.append(one)
                commits.append(time.perf_counter() - began)
                began = time.perf_counter()
                store.publish(SERIES)
                publishes.append(time.perf_counter() - began)
        store.close()
        began = time.perf_counter()
        open_store(folder / "store").close()
        reopening = time.perf_counter() - began
    finally:
        shutil.rmtree(folder)
    rest = commits[options.fields :]
    ninth = quantiles(rest, n=10)[-1]
    print(f"commit: median {median(rest) * 1e3:.1f} ms, p90 {ninth * 1e3:.1f} ms, {len(rest)} frames")
    print(f"first frame of a field: {max(commits[: options.fields]) * 1e3:.1f} ms")
    print(f"publish: median {median(publishes) * 1e3:.2f} ms, most {max(publishes) * 1e3:.1f} ms")
    print(f"reopen: {reopening * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
