"""What the first opening of an encoder bundle costs: hash, session, golden check, against what it must cost at least.

    python benchmarks/first_open.py [--bundle FOLDER | --seeded dinov2-large] [--rounds 7] [--smoke]

Against `sha256sum` of its files + creating the session + one inference, each measured by itself, in turns in one
process, the files in the system's cache. Target: <= 1.2; later openings skip the hash. A seeded bundle is exported
first (random weights, the real architecture), which needs the extra `export` and some minutes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from bench_lab import ROOT

from cellvigil import device
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME, open_encoder
from cellvigil.encoder import open_session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "encoders" / "efficientnet-lite0")
    parser.add_argument("--seeded", help="export this member first, with seeded weights, and open that instead")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="one round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-open-") as folder:
        bundle = seeded(args.seeded, Path(folder)) if args.seeded else made(args.bundle, Path(folder))
        measure(bundle, 1 if args.smoke else args.rounds, Path(folder) / "verified.json")


def measure(folder: Path, rounds: int, memory: Path) -> None:
    """Print the ratio, and its parts."""
    picture = open_encoder(folder).golden_input()[:1]  # and the files are in the cache
    open_session(open_encoder(folder, memory=memory), device="cpu").close()
    rows = [_round(folder, picture, memory) for _ in range(rounds)]
    parts = [statistics.median(column) * 1e3 for column in zip(*rows, strict=True)]
    ratio = statistics.median(row[3] / sum(row[:3]) for row in rows)
    print(
        f"{folder.name}: sha256sum {parts[0]:.0f} ms + session {parts[1]:.0f} + inference {parts[2]:.0f}; "
        f"first opening {parts[3]:.0f} ms: ratio {ratio:.2f} (target 1.2); later ones {parts[4]:.0f} ms"
    )


def _round(folder: Path, picture: np.ndarray, memory: Path) -> tuple[float, ...]:
    """Seconds: hashing, creating the session, one inference; a first opening, a later one."""
    hashing = timed(lambda: subprocess.run(["sha256sum", *files(folder)], check=True, stdout=subprocess.DEVNULL))
    start = time.perf_counter()
    session = device.open_model(folder / "model.onnx", device="cpu", threads=1).session
    creating = time.perf_counter() - start
    inferring = timed(partial(session.run, [OUTPUT_NAME], {INPUT_NAME: picture}))
    del session
    first = timed(lambda: open_session(open_encoder(folder), device="cpu").close())
    later = timed(lambda: open_session(open_encoder(folder, memory=memory), device="cpu").close())
    return hashing, creating, inferring, first, later


def files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def made(bundle: Path, folder: Path) -> Path:
    """The bundle that is there, or a fresh one of that name."""
    if bundle.is_dir():
        return bundle
    export = [sys.executable, "-m", "cellvigil_export", "run", bundle.name, "--out", str(folder)]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    return folder / bundle.name


def seeded(name: str, folder: Path) -> Path:
    script = Path(__file__).with_name("seeded_checkpoint.py")
    subprocess.run(
        [sys.executable, str(script), name, str(folder / "checkpoint")], check=True, stdout=subprocess.DEVNULL
    )
    command = ["run", name, "--weights", str(folder / "checkpoint"), "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "cellvigil_export", *command], check=True, stdout=subprocess.DEVNULL)
    return folder / name


if __name__ == "__main__":
    main()
