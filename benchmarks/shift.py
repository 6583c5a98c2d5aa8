"""How surely a field of view is found again after its plate came back: `shift.measure` on cells that live meanwhile.

    python benchmarks/shift.py [--plates 4]

Rehearsed fields of 452 x 612 cut from ground of twice the side (so that a move brings new cells into view), without a
speck of dirt on the ground, under a lamp that does not move with the plate; one of two wells dosed at the start; the
reduced level, as the service compares it. Moves of 0 to a whole side. Unrelated: the other well at the same time.
Prints JSON: shares of the pairs that are told at all, that are told right (to 0.02 of the side), and that are wrongly
told as nearer than 0.2.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "daemon")]

import cv2  # noqa: E402 - found through the path set above
import numpy as np  # noqa: E402

from cellvigil.rehearse import optics  # noqa: E402
from cellvigil.rehearse.assay import Assay, simulate  # noqa: E402
from cellvigil.shift import measure  # noqa: E402

HEIGHT, WIDTH = 452, 612
MOVES = (0, 0, 0.05, 0.15, 0.19, 0.22, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
QUARTERS = (1, 3, 4, 8, 16, 24)  # of an hour, after the frame before
NEAR = 0.2


def views(plane: np.ndarray, dy: int, dx: int, lamp: np.ndarray) -> np.ndarray:
    """The reduced picture of the field that stands so far off the middle."""
    y, x = (HEIGHT + dy) // 2, (WIDTH + dx) // 2
    return cv2.resize(plane[y : y + HEIGHT, x : x + WIDTH] * lamp, (WIDTH // 4, HEIGHT // 4),
                      interpolation=cv2.INTER_AREA)  # fmt: skip


def plate(seed: int, cells: int) -> dict[tuple[str, int], np.ndarray]:
    """Both wells at each time, four fields of view large."""
    assay = Assay(seed=seed, shape=(2 * HEIGHT, 2 * WIDTH), cells=4 * cells, wells=("A1", "B1"), treated=("B1",),
                  timepoints=max(QUARTERS) + 2, dosed_at=1, minutes=15, bubble_rate=0, defocus_rate=0)  # fmt: skip
    wanted = {1, *(1 + quarter for quarter in QUARTERS)}
    return {
        (scene.well.name, scene.timepoint - 1): optics.bright_field(scene, assay.optics).astype(np.float32)
        for scene in simulate(assay)
        if scene.timepoint in wanted
    }


def compared(plates: int, cells: int) -> tuple[list[tuple[int, float, float, float]], list[tuple[float, float]]]:
    """(quarters, move, share, peak) of each pair of the same field, and (share, peak) of each unrelated one."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    lamp = (1.1 - 0.15 * (y**2 + x**2)).astype(np.float32)
    rng = np.random.default_rng(cells)
    same, unrelated = [], []
    for seed in range(plates):
        ground = plate(seed, cells)
        for well, other in (("A1", "B1"), ("B1", "A1")):
            for move in MOVES:
                axes = rng.integers(3)
                dy = round(HEIGHT * move * (axes != 1) * rng.choice([-1, 1]))
                dx = round(WIDTH * move * (axes != 0) * rng.choice([-1, 1]))
                before = views(ground[well, 0], -dy, -dx, lamp)
                for quarters in QUARTERS:
                    same.append((quarters, move, *measure(before, views(ground[well, quarters], dy, dx, lamp))))
                    unrelated.append(measure(before, views(ground[other, quarters], dy, dx, lamp)))
    return same, unrelated


def summary(plates: int, cells: int) -> dict[str, object]:
    """The figures of one density."""
    same, unrelated = compared(plates, cells)
    found: dict[str, object] = {}
    for quarters in QUARTERS:
        mine = [one for one in same if one[0] == quarters]
        few = [one for one in mine if one[1] <= 0.3]
        far = [one for one in mine if one[1] > 0.3]
        found[f"{quarters / 4:g} h"] = {
            "moved by 0.3 at most: told": round(float(np.mean([math.isfinite(one[2]) for one in few])), 2),
            "right": round(float(np.mean([abs(one[2] - one[1]) < 0.02 for one in few])), 2),
            "moved by more: told as near": sum(one[2] < NEAR for one in far),
            "of": len(far),
        }
    peaks = [one[1] for one in unrelated]
    found["unrelated"] = {
        "peak 50, 95, 99, 100 %": [round(float(one), 3) for one in np.quantile(peaks, (0.5, 0.95, 0.99, 1))],
        "told as near": round(float(np.mean([one[0] < NEAR for one in unrelated])), 4),
        "pairs": len(unrelated),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=4, help="rehearsed plates a density")
    args = parser.parse_args()
    print(json.dumps({f"{cells} cells a field": summary(args.plates, cells) for cells in (10, 40, 100)}, indent=1))


if __name__ == "__main__":
    main()
