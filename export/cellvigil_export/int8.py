"""An fp32 graph to int8, for the CPU: static quantisation by onnxruntime, calibrated on real cells.

Static, not dynamic: dynamic quantisation takes an activation's range over the whole batch, so that a cell's vector
would depend on the cells beside it. Of transformers the products with constant weights are quantised, of convolutional
networks the convolutions with their clipping; weights by channel, activations by tensor. Convolutions of few weights
stay as they are (`half.FEW`). What was tried beside this, and how it fared: benchmarks/README.md. Reads and writes the
model's files.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.encoder import INPUT_NAME
from cellvigil.data import I64, U8
from cellvigil.errors import BundleError
from cellvigil_export import tensors
from cellvigil_export.cells import LabelledCells
from cellvigil_export.half import FEW

CALIBRATING = 32  # cells that the ranges are taken from
GOLDEN_TOLERANCE = 1e-3
"""Largest 1 - cosine to the golden output. Integer products are the same on every machine, but a rounding of what lies
between them, in the last digit, can move an activation to the next of 256 steps. A processor without VNNI adds
in 16 bits and may overflow: then the golden output is missed by more, and the bundle refused there."""


class Calibration:
    """Calibration pictures one by one, as onnxruntime asks for them."""

    def __init__(self, cells: LabelledCells, rows: I64) -> None:
        self.left: Iterator[U8] = (cells.picture(int(row)) for row in rows)

    def get_next(self) -> Mapping[str, U8] | None:
        """The next picture as a batch, or None."""
        picture = next(self.left, None)
        return None if picture is None else {INPUT_NAME: picture[None]}


def to_int8(model: Path, cells: LabelledCells, rows: I64) -> dict[str, Any]:
    """Quantise the model at `model` (and the weights beside it) in place; what the manifest is to say of it.

    The ranges of its activations are those on the pictures in `rows`. Raises BundleError if there is nothing to
    quantise.
    """
    kinds, products, kept = _products(model)
    if len(products) == len(kept):
        raise BundleError("the model has no products to quantise", where=model, hint="--precision fp32")
    tool = importlib.import_module("onnxruntime.quantization")
    is_convolutional = "Conv" in kinds
    method = "Entropy" if is_convolutional else "MinMax"  # the first keeps every activation: too many of a transformer
    fresh = model.with_name(f"{model.name}.int8")
    with _quiet():
        tool.quantize_static(
            model,
            fresh,
            Calibration(cells, rows),
            quant_format=tool.QuantFormat.QDQ,
            op_types_to_quantize=list(kinds),
            per_channel=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            nodes_to_exclude=kept,
            use_external_data_format=tensors.is_large(model),
            calibrate_method=tool.CalibrationMethod[method],
            extra_options={"MatMulConstBOnly": True},
        )
    _adopt(fresh, model)
    told = {"products": len(products), "in_int8": len(products) - len(kept), "calibrated_on": len(rows)}
    return {"golden_tolerance": GOLDEN_TOLERANCE, "quantised": {**told, "calibration": method.lower()}}


def _products(model: Path) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The kinds of nodes to quantise, the products among them by name, and those of these that stay as they are."""
    graph = tensors.load(model)
    sizes = {each.name: int(np.prod(each.dims)) for each in graph.graph.initializer}
    dense = [node for node in graph.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in sizes]
    if dense:
        return ("MatMul", "Gemm"), [node.name for node in dense], []
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv" and node.input[1] in sizes]
    kept = [node.name for node in convolutions if sizes[node.input[1]] <= FEW]
    return ("Conv", "Clip"), [node.name for node in convolutions], kept


def _adopt(fresh: Path, model: Path) -> None:
    """Put the quantised model in the place of `model`, its weights under the names that a bundle has."""
    graph = tensors.load(fresh)
    tensors.write(graph, model, [(each.name, tensors.read(each, fresh.parent)) for each in graph.graph.initializer])
    for path in model.parent.glob(f"{fresh.name}*"):
        path.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tool's remarks: it prints, and recommends a step that these graphs have behind them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
