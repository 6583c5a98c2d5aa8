"""Opens one bundle and times it. Made for a process that does nothing else: see `running`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cellvigil.bench import machine
from cellvigil.bench.figures import Batch, Measured, Wanted
from cellvigil.bench.flops import flops_of
from cellvigil.bench.peak import peak_of
from cellvigil.bundle import encoder as encoders
from cellvigil.bundle import segmenter as segmenters
from cellvigil.bundle.files import kind_of
from cellvigil.data import F32, I64
from cellvigil.device_options import Tuning
from cellvigil.encoder import Encoder, open_session
from cellvigil.errors import CellvigilError
from cellvigil.pace import noise, timed
from cellvigil.segment.sam_session import SamSession, open_sam

Number = TypeVar("Number", int, float)

_LEAST = 3  # runs of each figure, unless one takes longer than the figure may
_LAPS = 4  # batches a lane at a time, where throughput is timed


def measure(folder: Path, wanted: Wanted) -> Measured:
    """The figures of the bundle in `folder`; with `error` where it cannot be opened or run. Raises nothing."""
    try:
        kind = kind_of(folder)
        return (_segmenter if kind == segmenters.KIND else _encoder)(folder, wanted)
    except CellvigilError as error:
        return Measured(folder.name, error=str(error))


def _encoder(folder: Path, wanted: Wanted) -> Measured:
    memory, start = _Memory(), time.perf_counter()
    bundle = encoders.open_encoder(folder)
    halved: list[int] = []
    encoder = open_session(
        bundle,
        device=wanted.device,
        threads=wanted.threads,
        batch=wanted.batch,
        on_halved=lambda: halved.append(1),
        tuning=_tuning(wanted, bundle.sha256),
    )
    opening_s = time.perf_counter() - start
    lanes = _cores(wanted) if encoder.provider == "cpu" else 1
    batches = tuple(_batch(encoder, size, lanes, wanted.seconds, halved) for size in encoder.buckets)
    found = Measured(
        bundle.name,
        precision=bundle.precision,
        weights=_weights(bundle.manifest),
        sha256=bundle.sha256,
        provider=encoder.provider,
        device_note=encoder.device_note,
        is_recorded=encoder.is_recorded,
        opening_s=opening_s,
        memory_mb=memory.taken(encoder.provider),
        batches=batches,
    )
    encoder.close()
    return _counted(found, {"cells": partial(flops_of, bundle.model_path)}, wanted)


def _cores(wanted: Wanted) -> int:
    return wanted.threads or os.cpu_count() or 1


def _batch(encoder: Encoder, size: int, lanes: int, seconds: float, halved: list[int]) -> Batch:
    """One batch size alone, and then as fast as it goes: every lane with some batches, one after the other."""
    # Batches of this size and no larger: what is asked for is a multiple of it.
    only = replace(encoder, buckets=tuple(bucket for bucket in encoder.buckets if bucket <= size))
    one, many = noise(encoder, size), noise(encoder, size * lanes * _LAPS)
    before = len(halved)
    first = timed(lambda: only.embed(one), 0.0)[0]  # which still makes buffers
    alone = statistics.median(timed(lambda: only.embed(one), seconds / 2, least=_LEAST)) if first < seconds else first
    if lanes == 1 and alone > seconds:
        return Batch(size, "cells", alone * 1e3, size / alone, is_halved=len(halved) > before)
    together = statistics.median(timed(lambda: only.embed(many), seconds / 2, least=_LEAST))
    return Batch(size, "cells", alone * 1e3, len(many) / together, is_halved=len(halved) > before)


def _segmenter(folder: Path, wanted: Wanted) -> Measured:
    memory, start = _Memory(), time.perf_counter()
    bundle = segmenters.open_segmenter(folder)
    tuning = _tuning(wanted, bundle.sha256)
    sam = open_sam(bundle, device=wanted.device, threads=wanted.threads, tuning=tuning)
    opening_s = time.perf_counter() - start
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (sam.side, sam.side, 3), dtype=np.uint8)
    features = sam.encode(picture, (sam.side, sam.side))
    image = _paced(1, "images", lambda: sam.encode(picture, (sam.side, sam.side)), wanted.seconds)
    points, labels = _boxes(sam)
    prompts = _paced(sam.together, "prompts", lambda: sam.decode(features, points, labels), wanted.seconds)
    found = Measured(
        bundle.name,
        "segmenter",
        precision=bundle.precision,
        weights=_weights(bundle.manifest),
        sha256=bundle.sha256,
        provider=sam.provider,
        device_note=sam.device_note,
        opening_s=opening_s,
        memory_mb=memory.taken(sam.provider),
        batches=(image, prompts),
    )
    counts: dict[str, Callable[[], int]] = {
        "images": partial(flops_of, bundle.encoder_path),
        "prompts": lambda: flops_of(bundle.decoder_path, _named(sam, points)) // len(points),
    }
    return _counted(found, counts, wanted)


def _boxes(sam: SamSession) -> tuple[F32, I64]:
    """As many box prompts as are decoded at once: their corners (p, 2, 2), and what kind of points these are."""
    corners = np.array([[0.25, 0.25], [0.5, 0.5]], np.float32) * sam.side
    return np.tile(corners, (sam.together, 1, 1)), np.tile(np.array([[2, 3]], np.int64), (sam.together, 1))


def _named(sam: SamSession, points: F32) -> dict[str, int]:
    """The sizes of the decoder's open dimensions, by their names."""
    (taken,) = (end.shape for end in sam.decoder.get_inputs() if end.name == segmenters.POINTS)
    return {str(name): size for name, size in zip(taken, points.shape, strict=True)}


def _paced(size: int, of: str, run: Callable[[], object], seconds: float) -> Batch:
    """What runs alone: there is nothing beside it to be faster with."""
    taken = statistics.median(timed(run, seconds, least=_LEAST))
    return Batch(size, of, taken * 1e3, size / taken)


def _tuning(wanted: Wanted, sha256: str) -> Tuning:
    engines = None if wanted.engines is None else wanted.engines / sha256
    return Tuning(mem_limit=wanted.mem_limit, cuda_graphs=wanted.cuda_graphs, engines=engines)


def _weights(manifest: Mapping[str, Any]) -> str:
    """Which weights the figures are of."""
    source = manifest.get("source", {})
    return str(source.get("checkpoint", "")) if isinstance(source, dict) else ""


def _counted(found: Measured, counts: Mapping[str, Callable[[], int]], wanted: Wanted) -> Measured:
    """The figures with the device's peak, measured now, and with the work; with notes where they are not known."""
    notes: list[str] = []

    def tried(count: Callable[[], Number]) -> Number | None:
        try:
            return count()
        except CellvigilError as error:
            notes.append(str(error))
            return None

    work = {of: tried(count) for of, count in counts.items()}
    peak = tried(lambda: peak_of(found.provider, found.precision, cores=_cores(wanted), seconds=wanted.seconds))
    batches = tuple(replace(batch, operations=work[batch.of]) for batch in found.batches)
    return replace(found, peak=peak, batches=batches, notes=tuple(notes))


class _Memory:
    """The memory that is taken from now on, at its most."""

    def __init__(self) -> None:
        machine.forget_peak()
        self._resident = machine.resident_mb()
        self._gpus = machine.gpus()

    def taken(self, provider: str) -> float | None:
        """Megabytes; on a GPU what is taken there now (an arena gives nothing back), by whatever runs on it."""
        if provider == "cpu":
            return max(machine.peak_mb() - self._resident, 0.0) or None
        now = machine.gpus()
        return now[0].used_mb - self._gpus[0].used_mb if now and self._gpus else None
