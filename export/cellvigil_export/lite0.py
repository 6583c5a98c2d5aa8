"""EfficientNet-Lite0 without torch: an ONNX graph with batch norms folded and the pixels' normalisation baked in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, U8, Array
from cellvigil_export import lite0_reference
from cellvigil_export.declaration import OPSET, Declaration, Made
from cellvigil_export.legacy_pth import read_legacy_pth
from cellvigil_export.lite0_layers import (
    DIMENSION,
    EPSILON,
    MEAN,
    SCALE,
    SIDE,
    Layer,
    expected_tensors,
    layers,
    same_padding,
)
from cellvigil_export.strict import check_tensors

IR_VERSION = 9  # opset 20's own: the bytes do not depend on the onnx that writes them


def folded(layer: Layer, weights: Mapping[str, Array]) -> tuple[F32, F32]:
    """The convolution's weight and bias with its batch norm folded in; computed in float64."""
    gamma, beta, mean, variance = (
        weights[f"{layer.norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gamma / np.sqrt(variance + EPSILON)
    weight = weights[f"{layer.conv}.weight"].astype(np.float64) * gain[:, None, None, None]
    return weight.astype(np.float32), (beta - mean * gain).astype(np.float32)


@dataclass(slots=True)
class _Graph:
    """Nodes and constants as they are added; each node's output is named after it."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Array) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name


def _convolution(graph: _Graph, layer: Layer, weights: Mapping[str, Array], taken: str, size: int) -> tuple[str, int]:
    """Add one layer: convolution, then ReLU6 where it has one. The name of its output, and the output's side."""
    before, after, out = same_padding(size, layer.shape[-1], layer.stride)
    weight, bias = folded(layer, weights)
    name = layer.conv.replace(".", "/")
    inputs = [taken, graph.constant(f"{name}/weight", weight), graph.constant(f"{name}/bias", bias)]
    shape = {"kernel_shape": layer.shape[2:], "strides": [layer.stride] * 2}
    output = graph.node("Conv", inputs, name, group=layer.groups, pads=[before, before, after, after], **shape)
    if layer.clipped:
        output = graph.node("Clip", [output, "zero", "six"], f"{name}/relu6")
    return output, out


def build(weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The network as ONNX: `pixels` u8 (batch, 224, 224, 3) in, `features` f32 (batch, 1280) out.

    `features` is the global average of the last feature map.
    """
    graph = _Graph()
    for name, value in (("zero", 0.0), ("six", 6.0), ("mean", MEAN), ("scale", SCALE)):
        graph.constant(name, np.array(value, np.float32))
    taken = graph.node("Cast", [INPUT_NAME], "floats", to=TensorProto.FLOAT)
    taken = graph.node("Div", [graph.node("Sub", [taken, "mean"], "centred"), "scale"], "normalised")
    taken = graph.node("Transpose", [taken], "planes", perm=[0, 3, 1, 2])
    size, kept = SIDE, ""
    for layer in layers():
        kept = taken if layer.opens else kept
        taken, size = _convolution(graph, layer, weights, taken, size)
        if layer.adds:
            taken = graph.node("Add", [taken, kept], f"{taken}/skip")
    graph.node("Flatten", [graph.node("GlobalAveragePool", [taken], "pooled")], OUTPUT_NAME, axis=1)
    ends = (
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", DIMENSION])],
    )
    whole = helper.make_graph(graph.nodes, "efficientnet-lite0", *ends, initializer=graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION, producer_name="cellvigil")


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model of the checkpoint `weights` (PyTorch's legacy format); see `declaration.Family`."""
    arrays = read_legacy_pth(weights)
    found = {name: array.shape for name, array in arrays.items()}
    check_tensors(found, expected_tensors(), of="an EfficientNet-Lite0", where=weights)
    model.write_bytes(build(arrays).SerializeToString(deterministic=True))

    def reference(pixels: U8) -> F32:
        return lite0_reference.features(arrays, pixels)

    return Made(reference, "a plain numpy forward pass", declaration.preprocessing, {weights.name: weights}, ())
