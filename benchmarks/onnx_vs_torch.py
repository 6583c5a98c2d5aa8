"""Is the exported model no slower on the CPU than torch itself, in eager mode, on the same crops?

    python benchmarks/onnx_vs_torch.py [dinov2-small dinov2-base convnextv2-large swinv2-large] [--cpu-time] [--smoke]

The ONNX side runs as the daemon runs it: a lane a core, each with its own batches of one or two pictures. Torch gets
all cores and its best batch size of 1, 2, 8 and 16, found before. Both take the same drawn pictures, in turns (A B A B)
in one process; the ratio is the median of the rounds' ratios. Target: <= 1.05. Seeded random weights on the real
architectures: time does not depend on them. On a machine that is busy otherwise, --cpu-time compares the processor's
seconds on one thread instead. Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cellvigil.bundle.encoder import INPUT_NAME, MODEL, OUTPUT_NAME
from cellvigil.encoder import BUCKETS, RUN_COST, batch_plan
from cellvigil_export import golden, parity
from cellvigil_export.zoo import declared

NAMES = ("dinov2-small", "dinov2-base", "convnextv2-large", "swinv2-large")
BATCHES = (1, 2, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="processor's seconds, one thread, not the clock's")
    parser.add_argument("--smoke", action="store_true", help="dinov2-small, two pictures, one round")
    args = parser.parse_args()
    if args.smoke:
        args.names, args.pictures, args.rounds = ("dinov2-small",), 2, 1
    clock = time.process_time if args.cpu_time else time.perf_counter
    threads = 1 if args.cpu_time else args.threads
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, onnxruntime {importlib.import_module('onnxruntime').__version__}, ", end="")
    print(f"{threads} threads, {args.pictures} pictures, {args.rounds} rounds")
    for name in args.names:
        with tempfile.TemporaryDirectory(prefix="onnx-vs-torch-") as folder:
            compare(name, Path(folder), args.pictures, args.rounds, threads, clock)


def compare(name: str, folder: Path, count: int, rounds: int, threads: int, clock: Callable[[], float]) -> None:
    """Print one encoder's figures."""
    script = Path(__file__).with_name("seeded_checkpoint.py")
    command = [sys.executable, str(script), name, str(folder / "checkpoint")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    declaration = declared(name)
    module, _, function = declaration.family.partition(":")
    made = getattr(importlib.import_module(module), function)(declaration, folder / "checkpoint", folder / MODEL)
    pixels = golden.pictures(count, declaration.input_size, declaration.channels, seed=5)
    onnx, close = lanes(folder / MODEL, threads)
    timed = partial(seconds, clock)
    best = min((timed(lambda b=batch: made.reference(pixels, b)), batch) for batch in BATCHES if batch <= count)[1]
    onnx(pixels)
    pairs = [(timed(lambda: onnx(pixels)), timed(lambda: made.reference(pixels, best))) for _ in range(rounds)]
    close()
    ours, theirs = (statistics.median(column) / count * 1e3 for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"{name}: onnx {ours:.0f} ms a picture, torch {theirs:.0f} (batches of {best}), ratio {ratio:.2f} (target 1.05)"
    )


def lanes(model: Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[], None]]:
    """Runs pictures as `cellvigil.encoder` does on the CPU, and what ends it."""
    session = parity.opened(model, threads=1)
    pool = ThreadPoolExecutor(threads)

    def run(pixels: np.ndarray) -> np.ndarray:
        plan = batch_plan(len(pixels), BUCKETS["cpu"], RUN_COST["cpu"])
        starts = np.cumsum((0, *plan[:-1]))
        blocks = [pixels[start : start + size] for start, size in zip(starts, plan, strict=True)]
        return np.concatenate(list(pool.map(lambda block: session.run([OUTPUT_NAME], {INPUT_NAME: block})[0], blocks)))

    return run, pool.shutdown


def seconds(clock: Callable[[], float], work: Callable[[], object]) -> float:
    start = clock()
    work()
    return clock() - start


if __name__ == "__main__":
    main()
