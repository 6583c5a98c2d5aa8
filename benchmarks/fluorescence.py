"""What the fluorescence signal costs: a plane measured, a frame kept, a plate's history asked for; and how it agrees.

    python benchmarks/fluorescence.py [--rounds 20]

Planes of 904 x 1224, u16: the stain of a rehearsal, plain noise, and every value equally often (the worst there is). A
plate of 96 wells and 100 time points with one stained frame each. `area`: the share that glows by the histogram, less
the share by the pixels themselves at the same threshold, the largest difference. Prints JSON; times are medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "daemon")]

import numpy as np  # noqa: E402 - found through the path set above

from cellvigil import histogram  # noqa: E402
from cellvigil.data import Histogram  # noqa: E402
from cellvigil.ledger import Ledger  # noqa: E402
from cellvigil.rehearse import optics  # noqa: E402
from cellvigil.rehearse.assay import Assay, simulate  # noqa: E402
from cellvigil.response.fluorescence import fluorescence, ground  # noqa: E402

SHAPE = (904, 1224)
SERIES = ("scope", "run", "Plate 1")
WELLS = tuple(f"{row}{column}" for row in "ABCDEFGH" for column in range(1, 13))
TIMES = 100


def planes() -> dict[str, list[np.ndarray]]:
    """What is measured, by what it is."""
    assay = Assay(shape=SHAPE, wells=("A1", "B1"), treated=("B1",), timepoints=8, dosed_at=0, stain_every=1,
                  minutes=240)  # fmt: skip
    rng = np.random.default_rng(0)
    return {
        "stain": [optics.dead_stain(scene, assay.optics) for scene in simulate(assay)],
        "noise": [rng.normal(1000, 60, SHAPE).astype(np.uint16)],
        "worst": [rng.integers(0, 65536, SHAPE, dtype=np.uint16)],
        "8 bits": [rng.integers(0, 256, SHAPE, dtype=np.uint8)],
        "float": [rng.gamma(2, 100, SHAPE).astype(np.float32)],
    }


def worst(plane: np.ndarray, one: Histogram) -> float:
    """The largest difference of the area at a few thresholds, and at Otsu's."""
    bins = histogram.spread(one)
    thresholds = [float(value) + one.step / 2 for value in np.quantile(plane, (0.05, 0.5, 0.9, 0.99, 0.999))]
    return max(
        abs(1 - float(bins.below(value)) / one.pixels - float((plane > value).mean()))
        for value in (*thresholds, one.otsu)
    )


def median_ms(work: Callable[[], object], rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return round(float(np.median(spent)) * 1e3, 2)


def frame_line(seq: int, well: str, timepoint: int, signals: dict[str, object]) -> dict[str, object]:
    at = "2026-01-01T00:00:00+00:00"
    return {
        "seq": seq, "kind": "frame", "key": [*SERIES, well, "1", timepoint], "t": timepoint, "revision": 0,
        "path": f"{well[0]}/{well[1:]}/0", "acquired_at": at, "committed_at": at, "files": [], "bytes": {},
        "n_cells": 300, "edge": 9, "counts": {"live": 280}, "quality": {"focus": 1.0}, "tables": [], "bundle": "b",
        "outcome": "counted", "signals": signals,
    }  # fmt: skip


def ledger_of(signal: Callable[[int], dict[str, object]]) -> tuple[Ledger, float]:
    """A plate's ledger, and the bytes that each of its frames takes."""
    tracemalloc.start()
    ledger = Ledger()
    for number in range(TIMES * len(WELLS)):
        ledger.add(frame_line(number, WELLS[number % len(WELLS)], number // len(WELLS), signal(number)))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return ledger, taken / (TIMES * len(WELLS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    found: dict[str, object] = {}
    taken = planes()
    for name, some in taken.items():
        made = [histogram.measure(plane) for plane in some]
        off = [worst(plane, one) for plane, one in zip(some, made, strict=True)]
        found[name] = {
            "ms": median_ms(lambda some=some: histogram.measure(some[0]), args.rounds),
            "packed bytes": round(float(np.mean([len(histogram.packed(one)) for one in made]))),
            "journal bytes": round(float(np.mean([len(json.dumps(histogram.line(one))) for one in made]))),
            "area": float(f"{max(off):.2g}"),
        }
    stains = [histogram.measure(plane) for plane in taken["stain"]]

    def signal(number: int) -> dict[str, object]:
        one = stains[number % len(stains)]
        return {"GFP": histogram.line(replace(one, otsu=one.otsu + number * 1e-6))}  # each a value of its own

    ledger, with_signal = ledger_of(signal)
    _, without = ledger_of(lambda _: {})
    signals = ledger.signals(SERIES)
    plate = {"controls": WELLS[:24], "start": [5] * len(WELLS)}
    start = time.perf_counter()
    fluorescence(signals, WELLS, range(TIMES), **plate)
    first = round((time.perf_counter() - start) * 1e3)
    found["plate of 9,600 stained frames"] = {
        "ledger bytes a frame for it": round(with_signal - without),
        "Ledger.signals ms": median_ms(lambda: ledger.signals(SERIES), 5),
        "first time ms": first,
        "again ms": median_ms(lambda: fluorescence(signals, WELLS, range(TIMES), **plate), 5),
        "background ms": median_ms(lambda: ground(signals, WELLS, range(TIMES), **plate), 5),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
