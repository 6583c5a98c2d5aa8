"""What `bench` finds out, as plain values: what is printed, as a table or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cellvigil.bench.machine import Machine


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to measure."""

    device: str = "auto"
    threads: int = 0  # of the CPU; 0 = all cores
    batch: int = 64  # most images in one run
    seconds: float = 1.0  # for each figure
    mem_limit: int | None = None  # bytes of the GPU, see `device_options.Tuning`
    cuda_graphs: bool = False
    engines: Path | None = None  # folder of TensorRT's engines, one below it for each model; None = none are kept


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch size. Of a segmenter: an image, or that many prompts."""

    size: int
    of: str  # "cells", "images" or "prompts"
    milliseconds: float  # one batch alone, median
    per_second: float  # cells, images or prompts a second when there is always another: all lanes at work
    operations: int | None = None  # for each: two for a multiply-accumulate; None = they cannot be counted
    share: float | None = None  # of the device's peak in this precision, 0..1; None = not known
    is_halved: bool = False  # it did not fit, and was run in smaller ones


@dataclass(frozen=True, slots=True)
class Measured:
    """One bundle."""

    name: str
    kind: str = "encoder"
    precision: str = ""
    weights: str = ""  # which: the checkpoint that the manifest names
    sha256: str = ""
    provider: str = ""  # "cpu", "cuda" or "tensorrt": what was obtained
    device_note: str = ""  # why it is not the GPU, where that was hoped for
    is_recorded: bool = False  # whether runs were replayed CUDA graphs
    opening_s: float = 0.0  # hashing, loading, the golden pair; on TensorRT the building of its engine
    memory_mb: float | None = None  # that it took at its most: of the process on the CPU, of the GPU there
    peak: float | None = None  # operations a second of the device in this precision; None = not measured
    batches: tuple[Batch, ...] = ()
    notes: tuple[str, ...] = ()  # what is not known, and why
    error: str = ""  # why there are no figures


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    machine: Machine
    wanted: Wanted
    bundles: tuple[Measured, ...]
