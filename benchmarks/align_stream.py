"""What an alignment's fit costs the stream: frame delay with and without one running, at half of the capacity.

    .venv/bin/python benchmarks/align_stream.py [--rounds 4] [--cells 2000] [--mode states]

A service as users run it, of an index with real encoder weights, watches a folder into which frames are dropped at half
of the pace that it was measured to keep. Rounds alternate: in one nothing else runs, in the next a fit on `--cells`
stored cells of control wells, begun as the service begins it (one thread, nice 19) and begun again whenever it ends;
with `--mode types` it is the whole of a transport, whether or not it is accepted in the end.
Asked of the figures: the 95th percentile of the frames' delay rises by no more than 20 %.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from bench_lab import BenchLab, bench_lab

from cellvigil.bundle.index import open_index
from cellvigil.rehearse.assay import Assay
from cellvigil.service.fit_basis import arguments
from cellvigil.service.fits import Fits
from cellvigil.service.fitting import Fitting
from cellvigil.service.serve import once
from cellvigil.service.warmup import control_frames
from cellvigil.store.reader import read_ledger

REFUSED = ("not accepted", "hardly any of these cells")  # at its end, when all of the work was done
FRAME: dict[str, Any] = {
    "shape": (904, 1224),
    "wells": ("A1", "A2", "B1", "B2"),
    "treated": ("B1", "B2"),
    "cells": 60.0,
}


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=4, help="pairs of rounds, without and with a fit")
    asked.add_argument("--frames", type=int, default=40, help="frames a round")
    asked.add_argument("--cells", type=int, default=2000, help="cells of the fit")
    asked.add_argument("--mode", choices=("states", "types"), default="states", help="of the fit")
    args = asked.parse_args()
    with bench_lab(frames=40) as lab:
        print(json.dumps(measure(lab, args.rounds, args.frames, args.cells, args.mode), indent=1))


def measure(lab: BenchLab, rounds: int, frames: int, cells: int, mode: str) -> dict[str, Any]:
    """Delays of rounds with and without a fit."""
    wanted = frames * (2 * rounds + 1)
    points = -(-wanted // len(FRAME["wells"]))
    lab.film(Assay(seed=5, timepoints=points, defocus_rate=0.0, bubble_rate=0.0, **FRAME))
    (lab.root / "images").rename(lab.root / "filmed")
    (lab.root / "images").mkdir()
    waiting = iter(sorted((lab.root / "filmed").rglob("*.tif"), key=_turn))
    drop(lab, waiting, frames, 0.0)
    pace = 2 * (_seconds_of_once(lab) - _seconds_of_once(lab)) / frames  # half of the capacity, without the start
    with service(lab) as watched:
        delays: dict[str, list[float]] = {"without": [], "with": []}
        p95: dict[str, list[float]] = {"without": [], "with": []}
        fits = 0
        for _ in range(rounds):
            for name in delays:
                with Fitted(lab, cells, mode) if name == "with" else Idle() as fitting:
                    found = watched.delays_of(drop(lab, waiting, frames, pace))
                fits += fitting.done
                delays[name] += found
                p95[name].append(round(statistics.quantiles(found, n=20)[-1], 3))
    whole = {name: statistics.quantiles(found, n=20)[-1] for name, found in delays.items()}
    return {
        "pace_s": round(pace, 3), "frames": {name: len(found) for name, found in delays.items()},
        "median_s": {name: round(statistics.median(found), 3) for name, found in delays.items()},
        "p95_s": {name: round(value, 3) for name, value in whole.items()}, "p95_of_rounds_s": p95,
        "fits_ended": fits, "p95_rise": round(whole["with"] / whole["without"] - 1, 3), "asked": "<= 0.2",
    }  # fmt: skip


def _seconds_of_once(lab: BenchLab) -> float:
    began = time.perf_counter()
    once(lab.config(plate_map="plate.csv"))
    return time.perf_counter() - began


def _turn(path: Path) -> tuple[str, str]:
    """Time point first: as the microscope goes round."""
    return path.stem.rpartition("_")[2], path.name


def drop(lab: BenchLab, waiting: Iterator[Path], frames: int, pace: float) -> dict[str, float]:
    """Put frames into the watched folder, one each `pace` seconds; when each came, by its name."""
    came: dict[str, float] = {}
    due = time.monotonic()
    for path in (next(waiting) for _ in range(frames)):
        there = lab.root / "images" / path.relative_to(lab.root / "filmed")
        there.parent.mkdir(parents=True, exist_ok=True)
        path.rename(there)
        well, number = path.stem.split("_")[0], int(path.stem.rpartition("_")[2])
        came[f"{well}/1/t{number - 1}"] = time.time()
        due += pace
        time.sleep(max(0.0, due - time.monotonic()))
    return came


class Watched:
    """The running service and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._seen: dict[str, float] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stderr is None:
            return
        for line in self._process.stderr:
            told = json.loads(line)
            if "frame committed" in line:
                self._seen["/".join(told["frame"].split("/")[-3:])] = time.time()

    def delays_of(self, came: dict[str, float]) -> list[float]:
        """Seconds from each frame's coming to its commit; waits for the last."""
        until = time.monotonic() + 120
        while not came.keys() <= self._seen.keys():
            if time.monotonic() > until or self._process.poll() is not None:
                sys.exit(f"{len(came.keys() - self._seen.keys())} frames were not committed")
            time.sleep(0.05)
        return [self._seen[name] - at for name, at in came.items()]


class service:  # noqa: N801 - used as `with service(...)`
    """`cellvigil run` as a process of its own."""

    def __init__(self, lab: BenchLab) -> None:
        path = lab.root / "config.yaml"
        align = {"mode": "states", "warm_up_cells": 10**9}  # its thread counts all the time, and fits never
        settings = {**lab.settings(plate_map="plate.csv", align=align), "log": {"format": "json"}}
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [sys.executable, "-m", "cellvigil", "run", "--config", str(path)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Watched:
        return Watched(self._process)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


class Idle:
    """Nothing runs beside the stream."""

    done = 0

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Fitted:
    """A fit runs beside the stream, again and again."""

    def __init__(self, lab: BenchLab, cells: int, mode: str) -> None:
        self.done = 0
        self._basis = {"mode": mode, "present": ["live"] if mode == "states" else []}
        self._index = open_index(lab.root / "indexes" / "states")
        self._store = lab.root / "store"
        self._fits = Fits(lab.root / "bench-state", "bench")
        ledger, chosen, found = read_ledger(self._store), [], 0
        for frame in control_frames(ledger, "bench", 10_000):
            chosen.append((frame.key, frame.revision))
            found += frame.n_cells - frame.edge
            if found >= cells:
                break
        self._chosen = chosen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Fitted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            number = self._fits.prepare(self._chosen)
            words = arguments(self._basis, self._index, self._store, self._fits, number)
            fitting = Fitting.begin(words, self._fits.log(number))
            while fitting.poll() is None and not self._stop.wait(0.1):
                pass
            if (code := fitting.poll()) is None:
                fitting.stop()
                return
            self.done += 1
            if code and not any(words in fitting.why() for words in REFUSED):
                sys.exit(f"the fit failed: {fitting.why()}")
            shutil.rmtree(self._fits.bundle(number), ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
