"""Breaks things for as long as you like, and holds every frame against what the microscope wrote.

    python benchmarks/torture.py kills --count 1000 --seed 1 --out kills.json
    python benchmarks/torture.py soak --frames 50000 --out soak.json

The parts stand in tests/faults; `make test` runs their short forms. Prints a line a finding, writes JSON with --out,
and ends with 1 if anything was lost, doubled or torn (the folder is then kept for looking at), with 3 where this
machine cannot do it. Only the short form of a long run: fewer, not other.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # as `cellvigil` itself does, before numpy comes
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes", "tests", "tests/faults")]

UNABLE = 3  # exit code

import ome_zarr_models  # noqa: E402, F401
import onlooker  # noqa: E402, F401 - imported before the forks, as all that takes time and starts no thread
import tifffile  # noqa: E402, F401
from full_disk import WAYS, fill_and_free  # noqa: E402
from kills import kill_again_and_again  # noqa: E402
from mounts import mount_refused  # noqa: E402
from share import KINDS, lose_the_share  # noqa: E402
from signals import faketime_library, jump_the_clock, terminate_at_random, two_services  # noqa: E402
from soak import soak  # noqa: E402
from stand import Parts, make_parts  # noqa: E402
from syscalls import fail_every_call, strace_refused  # noqa: E402

from cellvigil.service import serve  # noqa: E402, F401


def _kills(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return kill_again_and_again(root / "kills", parts, count=options.count, seed=options.seed, report=_say)


def _soak(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return soak(root / "soak", parts, frames=options.frames, wells=options.wells, ahead=options.ahead,
                every_s=options.every, report=_say)  # fmt: skip


def _syscalls(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return fail_every_call(root / "syscalls", parts, sample=options.sample, once=options.once, limits=options.limits,
                           seed=options.seed, report=_say)  # fmt: skip


def _full(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return fill_and_free(root / "full", parts, ways=options.ways.split(","), cycles=options.cycles, seed=options.seed,
                         report=_say)  # fmt: skip


def _share(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return lose_the_share(root / "share", parts, kinds=options.kinds.split(","), times=options.times,
                          burst=options.burst, seed=options.seed, report=_say)  # fmt: skip


def _sigterm(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return terminate_at_random(root / "sigterm", parts, count=options.count, seed=options.seed)


def _two(_: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return two_services(root / "two", parts)


def _clock(options: argparse.Namespace, root: Path, parts: Parts) -> dict[str, Any]:
    return jump_the_clock(root / "clock", parts, jumps=options.jumps, seed=options.seed)


def _say(text: str) -> None:
    print(text, flush=True)


def _shape(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where the folders are made (default: the system's temporary folder)")
    parser.add_argument(
        "--parts", type=Path, help="where encoder, index and pictures are, or are made for the next run"
    )
    commands = parser.add_subparsers(required=True, metavar="TORTURE")

    def torture(
        name: str, run: Callable[..., dict[str, Any]], what: str, refused: Callable[[], str] = str
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=what)
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--out", type=Path, help="write the findings as JSON")
        one.set_defaults(run=run, name=name, refused=refused, encoder=None, shape=(256, 256), cells=8.0, pictures=40)
        return one

    kills = torture("kills", _kills, "kill -9 at random instants")
    kills.add_argument("--count", type=int, default=1000)
    long = torture("soak", _soak, "many frames: memory, descriptors, threads, and the account")
    long.add_argument("--frames", type=int, default=50_000)
    long.add_argument("--wells", type=int, default=96)
    long.add_argument("--ahead", type=int, default=200, help="frames the microscope may be ahead of the commits")
    long.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    long.add_argument("--encoder", type=Path, help="an encoder bundle's folder (default: the lookup encoder)")
    long.add_argument("--shape", type=_shape, default=(256, 256), help="of a frame, HEIGHTxWIDTH")
    long.add_argument("--cells", type=float, default=8.0, help="in a frame")
    long.add_argument("--pictures", type=int, default=40, help="different fields")
    calls = torture(
        "syscalls", _syscalls, "every system call that writes made to fail in turn (needs strace)", strace_refused
    )
    calls.add_argument("--once", action="store_true", help="each call fails once, with one error after the other")
    calls.add_argument("--sample", type=int, help="only so many of the faults, chosen at random")
    calls.add_argument("--limits", type=int, default=40, help="runs with short writes")
    full = torture("full", _full, "a full file system, filled and freed (needs to mount)", mount_refused)
    full.add_argument("--cycles", type=int, default=10)
    full.add_argument("--ways", default=",".join(WAYS), help="%(default)s")
    away = "the watched folder goes away in six ways, and a burst of files (needs to mount)"
    share = torture("share", _share, away, mount_refused)
    share.add_argument("--times", type=int, default=5, help="of each way")
    share.add_argument("--kinds", default=",".join(KINDS), help="%(default)s")
    share.add_argument("--burst", type=int, default=20_000, help="files at once")
    sigterm = torture("sigterm", _sigterm, "SIGTERM at random moments")
    sigterm.add_argument("--count", type=int, default=20)
    torture("two", _two, "two services on one store")
    jumps = "the wall clock jumps by an hour, both ways (needs libfaketime)"
    clock = torture("clock", _clock, jumps, lambda: "" if faketime_library() else "libfaketime is not installed")
    clock.add_argument("--jumps", type=int, default=6)
    return parser


def main() -> int:
    options = _parser().parse_args()
    if refused := options.refused():
        print(f"cannot be done here: {refused}", file=sys.stderr)
        return UNABLE
    root = Path(tempfile.mkdtemp(prefix="cellvigil-torture-", dir=options.work))
    began, start = time.time(), time.monotonic()
    shape = {"shape": options.shape, "cells": options.cells, "seed": options.seed}
    made = (options.parts or root / "parts").resolve()
    parts = make_parts(made, encoder=options.encoder and options.encoder.resolve(), pictures=options.pictures, **shape)
    found = options.run(options, root, parts)
    found = {
        "torture": options.name,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "hours": round((time.monotonic() - start) / 3600, 3),
        "host": _host(),
        **found,
    }
    text = json.dumps(found, indent=2, default=str)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    _say(text if not found["passed"] or not options.out else f"{options.name}: passed, {found['hours']} h")
    if found["passed"]:
        _remove(root)
    else:
        _say(f"kept: {root}")
    return 0 if found["passed"] else 1


def _host() -> dict[str, Any]:
    """Which machine: cores, kernel, processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cores": os.cpu_count(),
        "processor": names[0].partition(": ")[2] if names else "",
        "memory_gb": round(int(memory) / 1e6, 1),
        "kernel": os.uname().release,
    }


def _remove(root: Path) -> None:
    import shutil  # noqa: PLC0415

    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
