"""Does the exported model give what the checkpoint gives? Asked of a fresh onnxruntime session, at several batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cellvigil import device as devices
from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, U8, Array
from cellvigil.encoder import one_minus_cosine
from cellvigil.errors import BundleError

BATCHES = (1, 3, 16)
LIMIT = 1e-6  # 1 - cosine, fp32


def vectors(model: Path, pixels: U8, *, batch: int) -> F32:
    """The model's vectors of `pixels`, run on one CPU thread in batches of `batch`: the same bits on every run."""
    session = devices.open_model(model, device="cpu", threads=1).session
    parts = [
        session.run([OUTPUT_NAME], {INPUT_NAME: pixels[start : start + batch]})[0]
        for start in range(0, len(pixels), batch)
    ]
    return np.concatenate(parts)


def measure(model: Path, pixels: U8, wanted: Array, *, against: str) -> dict[str, Any]:
    """The manifest's `parity`: largest 1 - cosine and absolute difference between the model and `wanted`.

    `wanted` (n, d) is what the checkpoint gives for `pixels` (n, side, side, channels) by the means named in `against`;
    larger batches take the same pictures in turn. Raises BundleError if the graph is invalid or 1 - cosine > 1e-6.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"the exported graph is not valid ONNX: {error}", where=model) from None
    cosine = difference = 0.0
    for batch in BATCHES:
        rows = np.arange(max(batch, len(pixels))) % len(pixels)
        got = vectors(model, pixels[rows], batch=batch)
        cosine = max(cosine, float(one_minus_cosine(got, wanted[rows]).max()))
        difference = max(difference, float(np.abs(got - wanted[rows]).max()))
    if not cosine <= LIMIT:
        raise BundleError(f"the export does not give what {against} gives (1 - cosine {cosine:.1e})", where=model)
    return {
        "against": against,
        "batches": list(BATCHES),
        "pictures": len(pixels),
        "max_one_minus_cosine": _figure(cosine),
        "max_abs_difference": _figure(difference),
    }


def _figure(value: float) -> float:
    """Two digits: more would be this processor's, not the export's."""
    return max(0.0, float(f"{value:.1e}"))
