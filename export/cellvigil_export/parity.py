"""Does the exported model give what the checkpoint gives, every time, whatever else is in the batch?

Asked of onnxruntime sessions that hold the weights once and no activation longer than it is needed, one session at a
time. Reads the model, writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cellvigil import device as devices
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, U8, Array
from cellvigil.device_options import Tuning
from cellvigil.encoder import one_minus_cosine
from cellvigil.errors import BundleError

BATCHES = (1, 3, 16)

LIMITS = {"fp32": 1e-6, "fp16": None, "int8": None}
"""Largest 1 - cosine to the checkpoint's own vectors; None: measured only, the gate on real cells judges it."""

INVARIANCE = {"fp32": 1e-6, "fp16": 1e-4, "int8": 1e-3}
"""Largest 1 - cosine between one picture's vectors in batches of different size."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What the runs gave."""

    alone: F32  # (n, dimension): each picture by itself, on one thread: the golden output
    cosine: float  # largest 1 - cosine to what was wanted, over all batches
    difference: float  # largest absolute difference, likewise
    across: float  # largest 1 - cosine between a picture's vector alone and in a larger batch


def measure(
    model: Path, pixels: U8, wanted: Array, *, against: str, precision: str = "fp32", batches: Sequence[int] = BATCHES
) -> Compared:
    """Do every check of a model.

    `wanted` (n, d) is what the checkpoint gives for `pixels` (n, side, side, channels) by the means named in `against`;
    larger batches take the same pictures in turn. Raises BundleError if the graph is invalid or does not load, gives
    other bits when run again, is not what `against` gives, or a vector depends on its batch.
    """
    check_graph(model)
    found = compare(model, pixels, wanted, check_repeats(model, pixels), batches=batches)
    judge(found, precision=precision, against=against, model=model)
    return found


def check_graph(model: Path) -> None:
    """The checker of onnx itself, shapes included, by path: a graph may have more weights than a protobuf holds.

    Raises BundleError if the graph is invalid.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"the exported graph is not valid ONNX: {error}", where=model) from None


def opened(model: Path, *, threads: int) -> Any:
    """A session on the CPU as the daemon has it. Raises BundleError if the model does not load."""
    return devices.open_model(model, device="cpu", threads=threads).session


def lean(model: Path, *, threads: int) -> Any:
    """A session that gives the same bits as `opened`, more slowly, and holds no more memory than it must.

    With pictures of 1024 pixels onnxruntime else holds four times the numbers that are alive. The weights are in memory
    once either way. Raises BundleError if the model does not load.
    """
    return devices.open_model(model, device="cpu", threads=threads, tuning=Tuning(lean=True)).session


def vectors(session: Any, pixels: U8, *, batch: int) -> F32:
    """The vectors of `pixels`, run in batches of `batch`, the last one filled up from the beginning."""
    rows = np.arange(-(-len(pixels) // batch) * batch) % len(pixels)
    parts = [
        session.run([OUTPUT_NAME], {INPUT_NAME: pixels[rows[start : start + batch]]})[0]
        for start in range(0, len(rows), batch)
    ]
    return np.asarray(np.concatenate(parts)[: len(pixels)])


def check_repeats(model: Path, pixels: U8) -> F32:
    """Each picture's vector by itself on one thread; the same bits twice in one session, and again in a second.

    Raises BundleError if they are not.
    """
    session = lean(model, threads=1)
    first = vectors(session, pixels, batch=1)
    again = vectors(session, pixels, batch=1)
    del session
    other = vectors(lean(model, threads=1), pixels, batch=1)
    if first.tobytes() != again.tobytes() or first.tobytes() != other.tobytes():
        raise BundleError("the export gives other vectors when the same pictures are run again", where=model)
    return first


def compare(model: Path, pixels: U8, wanted: Array, alone: F32, *, batches: Sequence[int] = BATCHES) -> Compared:
    """Run `pixels` (n, side, side, channels) in each of `batches`, and hold every vector against `wanted` (n, d)."""
    cosine, difference, across = *_away(alone, wanted), 0.0
    session = lean(model, threads=0)
    for batch in batches:
        rows = np.arange(max(batch, len(pixels))) % len(pixels)
        got = vectors(session, pixels[rows], batch=batch)
        pair = _away(got, wanted[rows])
        cosine, difference = max(cosine, pair[0]), max(difference, pair[1])
        across = max(across, _away(got, alone[rows])[0])
    return Compared(alone, cosine, difference, across)


def judge(found: Compared, *, precision: str, against: str, model: Path) -> None:
    """Raises BundleError if the export is not what the checkpoint is, or a vector depends on its batch."""
    limit = LIMITS[precision]
    if limit is not None and not found.cosine <= limit:
        what = f"the export does not give what {against} gives (1 - cosine {found.cosine:.1e})"
        raise BundleError(what, where=model)
    if not found.across <= INVARIANCE[precision]:
        what = f"a picture's vector depends on the others in its batch (1 - cosine {found.across:.1e})"
        raise BundleError(what, where=model)


def figures(found: Compared, *, against: str, drawn: int, batches: Sequence[int]) -> dict[str, Any]:
    """The manifest's `parity`. `drawn` of the pictures were drawn, the others are cells of `--gate-images`."""
    return {
        "against": against,
        "batches": list(batches),
        "pictures": drawn,
        "cells": len(found.alone) - drawn,
        "max_one_minus_cosine": _figure(found.cosine),
        "max_abs_difference": _figure(found.difference),
        "max_one_minus_cosine_between_batches": _figure(found.across),
        "repeated": "bit-equal in one session and in a second",
    }


def _away(got: Array, wanted: Array) -> tuple[float, float]:
    return float(one_minus_cosine(got, wanted).max()), float(np.abs(got - wanted).max())


def _figure(value: float) -> float:
    """Two digits: more would be this processor's, not the export's."""
    return max(0.0, float(f"{value:.1e}"))
