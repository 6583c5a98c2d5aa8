"""Proves on a machine with a GPU, in one go, what elsewhere could only be built: writes JSON, prints a line a step.

    python benchmarks/gpu_proof.py --encoders encoders --out gpu_proof.json   # cuda, and tensorrt if it is there
    python benchmarks/gpu_proof.py --encoders encoders --device cpu --smoke   # does the script itself work?

Each bundle and device in a process of its own: the provider obtained, the golden pair in every batch size, vectors
against the CPU's, the same again from a second session, CUDA graphs off and on, the limit of memory, TensorRT's kept
engines, a soak. A step that fails is told of, and the next one goes on. Exit code 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cellvigil import device as devices
from cellvigil.bench import machine
from cellvigil.bench.figures import Wanted
from cellvigil.bench.measuring import measure
from cellvigil.bench.running import bundles_in
from cellvigil.binding import Bound
from cellvigil.bundle.encoder import INPUT_NAME, KIND, OUTPUT_NAME, EncoderBundle, open_encoder
from cellvigil.bundle.files import kind_of
from cellvigil.device_options import BYTES_A_GB, Tuning
from cellvigil.encoder import open_session
from cellvigil.errors import CellvigilError
from cellvigil.golden import golden_tolerance, one_minus_cosine
from cellvigil.pace import noise, timed
from cellvigil_export import golden

COUNTS = (0, 1, 2, 7, 8, 9, 31, 33, 64, 65, 130)
CONTEXT_MB = 1500.0  # CUDA's own, cuDNN's and cuBLAS's kernels and workspaces lie beside an arena
TIGHT_GB = 0.03  # less than any encoder of the zoo wants for a batch


@dataclass(frozen=True)
class Asked:
    """What every step is told."""

    folder: Path
    device: str
    seconds: float
    soak_s: float
    limit_gb: float


def opened(bundle: EncoderBundle, asked: Asked, tuning: Tuning = Tuning()):  # noqa: B008 - a frozen value
    return open_session(bundle, device=asked.device, batch=64, tuning=tuning)


def obtained(bundle: EncoderBundle, asked: Asked) -> dict:
    """The provider that was asked for, its golden pair (tried at the opening), and vectors near the CPU's."""
    start = time.perf_counter()
    encoder = opened(bundle, asked)
    opening_s = time.perf_counter() - start
    on_cpu = open_session(bundle, device="cpu")
    pixels = noise(on_cpu, max(COUNTS))
    wanted = on_cpu.embed(pixels)
    away = [float(one_minus_cosine(encoder.embed(pixels[:n]), wanted[:n]).max(initial=0.0)) for n in COUNTS]
    tolerance = golden_tolerance(bundle, encoder.provider)
    ok = encoder.provider == asked.device and max(away) <= tolerance
    return {
        "ok": ok,
        "provider": encoder.provider,
        "opening_s": opening_s,
        "most_away": max(away),
        "allowed": tolerance,
    }


def repeated(bundle: EncoderBundle, asked: Asked) -> dict:
    """The same numbers twice over: in one session, and in two."""
    first, second = opened(bundle, asked), opened(bundle, asked)
    pixels = noise(first, 41)
    vectors = first.embed(pixels)
    again, other = (float(np.abs(vectors - each.embed(pixels)).max()) for each in (first, second))
    return {"ok": again == 0.0, "again": again, "another_session": other}


def bound(bundle: EncoderBundle, asked: Asked) -> dict:
    """The same buffers for every run against fresh ones for each, in turns: milliseconds a batch, medians."""
    model = devices.open_model(bundle.model_path, device=asked.device, threads=1)
    size = 32 if model.is_on_gpu else 2
    pixels = golden.pictures(size, bundle.input_size, bundle.channels, seed=1)
    output = (OUTPUT_NAME, (size, bundle.dimension), np.float32)
    buffers = Bound(devices.runtime(), model.session, {INPUT_NAME: pixels.copy()}, output, on_gpu=model.is_on_gpu)
    ways = {"plain_ms": lambda: model.session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0]}
    ways["bound_ms"] = lambda: buffers.run(pixels)
    apart = float(np.abs(ways["plain_ms"]() - ways["bound_ms"]()).max())
    laps = {name: timed(run, 0.0) for name, run in ways.items()}
    until = time.perf_counter() + 2 * asked.seconds
    while time.perf_counter() < until:
        for name, run in ways.items():
            laps[name] += timed(run, 0.0)
    medians = {name: statistics.median(each) * 1e3 for name, each in laps.items()}
    return {"ok": apart <= 1e-3, "batch": size, "rounds": len(laps["plain_ms"]), "apart": apart} | medians


def graphs(bundle: EncoderBundle, asked: Asked) -> dict:
    """CUDA graphs off and on: what is obtained, whether vectors differ, and the figures of both."""
    wanted = Wanted(asked.device, seconds=asked.seconds)
    plain = opened(bundle, asked)
    recorded = opened(bundle, asked, Tuning(cuda_graphs=True))
    pixels = noise(plain, 130)
    apart = float(np.abs(plain.embed(pixels) - recorded.embed(pixels)).max())
    both = {name: asdict(measure(bundle.folder, replace(wanted, cuda_graphs=name == "on"))) for name in ("off", "on")}
    is_recorded = recorded.is_recorded
    return {
        "ok": apart <= 1e-3 and (is_recorded or asked.device != "cuda"),
        "recorded": is_recorded,
        "apart": apart,
    } | both


def limited(bundle: EncoderBundle, asked: Asked) -> dict:
    """A limit is honoured; one that is far too low halves batches or is told as an error, and ends nothing else."""
    before = used_mb()
    halved: list[int] = []
    tuning = Tuning(mem_limit=int(asked.limit_gb * BYTES_A_GB))
    encoder = open_session(bundle, device=asked.device, batch=64, tuning=tuning, on_halved=lambda: halved.append(1))
    encoder.embed(noise(encoder, 130))
    taken = used_mb() - before
    try:
        tight = opened(bundle, asked, Tuning(mem_limit=int(TIGHT_GB * BYTES_A_GB)))
        tight.embed(noise(tight, 65))
        said = "it ran"
    except CellvigilError as error:
        said = str(error)
    ok = taken <= asked.limit_gb * 1000 + CONTEXT_MB
    return {"ok": ok, "limit_gb": asked.limit_gb, "taken_mb": taken, "halved": len(halved), "far_too_low": said}


def engines(bundle: EncoderBundle, asked: Asked) -> dict:
    """TensorRT: the second opening takes the engine that the first one built."""
    with tempfile.TemporaryDirectory() as kept:
        tuning = Tuning(engines=Path(kept) / bundle.sha256)
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            opened(bundle, asked, tuning).close()
            seconds.append(time.perf_counter() - start)
        files = sorted(path.name for path in Path(kept).rglob("*") if path.is_file())
    is_kept = any(name.endswith(".engine") for name in files)
    return {
        "ok": asked.device != "tensorrt" or (is_kept and seconds[1] < seconds[0]),
        "opening_s": seconds,
        "files": files,
    }


def soak(bundle: EncoderBundle, asked: Asked) -> dict:
    """Batches of all sizes, one after the other: memory stays, and so do the vectors."""
    encoder, rng = opened(bundle, asked, Tuning(cuda_graphs=True)), np.random.default_rng(0)
    pixels = noise(encoder, 130)
    probe, memory, away, cells = encoder.embed(pixels[:33]), [], 0.0, 0
    until = time.perf_counter() + asked.soak_s
    while time.perf_counter() < until:
        count = int(rng.integers(1, 131))
        encoder.embed(pixels[:count])
        cells += count
        if rng.random() < 0.02 or not memory:
            memory.append(used_mb() or machine.resident_mb())
            away = max(away, float(np.abs(encoder.embed(pixels[:33]) - probe).max()))
    early, late = memory[len(memory) // 4], memory[-1]
    return {"ok": away <= 1e-4 and late <= early * 1.05 + 64, "cells": cells, "mb": [early, late], "most_away": away}


STEPS = (obtained, repeated, bound, graphs, limited, engines, soak)


def used_mb() -> float:
    """Memory of the first GPU that is taken; 0 where there is none."""
    found = machine.gpus()
    return found[0].used_mb if found else 0.0


def prove(asked: Asked) -> dict:
    """Every step with one bundle on one device."""
    result: dict = {"bundle": asked.folder.name, "device": asked.device}
    for step in STEPS:
        try:
            result[step.__name__] = step(open_encoder(asked.folder), asked)
        except CellvigilError as error:
            result[step.__name__] = {"ok": False, "error": str(error)}
        except devices.runtime_errors() as error:
            result[step.__name__] = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        if "provider" not in result["obtained"]:
            break  # without the device the other steps have nothing to say
    return result


def apart(asked: Asked) -> dict:
    """`prove` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(prove, asked).result()
        except BrokenProcessPool:
            return {"bundle": asked.folder.name, "device": asked.device, "process": {"ok": False, "error": "it died"}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("names", nargs="*", help="bundles (all encoders)")
    add("--encoders", type=Path, default=Path("encoders"))
    add(
        "--device", action="append", choices=["cpu", "cuda", "tensorrt"], help="(cuda, and tensorrt if it is installed)"
    )
    add("--seconds", type=float, default=1.0, help="for each figure")
    add("--soak", type=float, default=60.0, help="seconds")
    add("--limit-gb", type=float, default=4.0)
    add("--out", type=Path, help="JSON")
    add("--smoke", action="store_true", help="a fraction of a second each")
    args = parser.parse_args()
    available = devices.runtime().get_available_providers()
    chosen = args.device or ["cuda", *(["tensorrt"] if "TensorrtExecutionProvider" in available else [])]
    seconds, soak_s = (0.05, 0.5) if args.smoke else (args.seconds, args.soak)
    report: dict = {"machine": asdict(machine.machine()), "available": available, "proofs": []}
    failed = 0
    for folder in bundles_in(args.encoders, args.names):
        for device in chosen if kind_of(folder) == KIND else ():
            proof = apart(Asked(folder, device, seconds, soak_s, args.limit_gb))
            report["proofs"].append(proof)
            for name, step in proof.items():
                if isinstance(step, dict):
                    failed += not step["ok"]
                    shown = {key: value for key, value in step.items() if key not in {"ok", "on", "off"}}
                    print(
                        f"{'ok  ' if step['ok'] else 'FAIL'}  {folder.name:24} {device:9} {name:10} {shown}", flush=True
                    )
            if args.out:
                args.out.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
