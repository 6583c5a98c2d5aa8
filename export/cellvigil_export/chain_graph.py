"""A chain of convolutions without torch: an ONNX graph, batch norms folded and the pixels' normalisation baked in."""

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
from cellvigil_export import chain_reference
from cellvigil_export.chain import Chain, Layer
from cellvigil_export.declaration import OPSET, Declaration, Made, Preprocessing
from cellvigil_export.legacy_pth import read_legacy_pth
from cellvigil_export.strict import check_tensors

IR_VERSION = 9  # opset 20's own: the bytes do not depend on the onnx that writes them


def folded(layer: Layer, weights: Mapping[str, Array], epsilon: float) -> tuple[F32, F32]:
    """The convolution's weight and bias with its batch norm folded in; computed in float64."""
    gamma, beta, mean, variance = (
        weights[f"{layer.norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gamma / np.sqrt(variance + epsilon)
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


def _normalised(graph: _Graph, how: Preprocessing) -> str:
    """Add what happens to the pixels before the first layer, (pixel * scale - mean) / std; the name of its output."""
    for name, parts in (("mean", how.mean), ("scale", how.std)):
        values = np.array(parts) / how.scale  # in pixel values, so that no multiplication is left
        graph.constant(name, np.array(values[0] if len(set(parts)) == 1 else values, np.float32))
    taken = graph.node("Cast", [INPUT_NAME], "floats", to=TensorProto.FLOAT)
    taken = graph.node("Div", [graph.node("Sub", [taken, "mean"], "centred"), "scale"], "normalised")
    return graph.node("Transpose", [taken], "planes", perm=[0, 3, 1, 2])


def _convolution(graph: _Graph, layer: Layer, tensors: tuple[F32, F32], taken: str, pads: tuple[int, int]) -> str:
    """Add one layer: convolution by (weight, bias), then ReLU6 where it has one. The name of its output."""
    weight, bias = tensors
    name = layer.conv.replace(".", "/")
    inputs = [taken, graph.constant(f"{name}/weight", weight), graph.constant(f"{name}/bias", bias)]
    shape = {"kernel_shape": layer.shape[2:], "strides": [layer.stride] * 2}
    around = [pads[0], pads[0], pads[1], pads[1]]
    output = graph.node("Conv", inputs, name, group=layer.groups, pads=around, **shape)
    return graph.node("Clip", [output, "zero", "six"], f"{name}/relu6") if layer.clipped else output


def build(chain: Chain, declaration: Declaration, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The network as ONNX: `pixels` u8 (batch, side, side, 3) in, `features` f32 (batch, dimension) out.

    `features` is the global average of the last feature map.
    """
    graph = _Graph()
    for name, value in (("zero", 0.0), ("six", 6.0)):
        graph.constant(name, np.array(value, np.float32))
    taken = _normalised(graph, declaration.preprocessing)
    side = size = declaration.input_size
    kept = ""
    for layer in chain.layers:
        kept = taken if layer.opens else kept
        before, after, size = chain.padding(size, layer.shape[-1], layer.stride)
        taken = _convolution(graph, layer, folded(layer, weights, chain.epsilon), taken, (before, after))
        if layer.adds:
            taken = graph.node("Add", [taken, kept], f"{taken}/skip")
    graph.node("Flatten", [graph.node("GlobalAveragePool", [taken], "pooled")], OUTPUT_NAME, axis=1)
    ends = (
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", side, side, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", chain.dimension])],
    )
    whole = helper.make_graph(graph.nodes, declaration.name, *ends, initializer=graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION, producer_name="cellvigil")


def make(chain: Chain, declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model of the checkpoint `weights` (PyTorch's legacy format) of a chain; see `declaration.Family`."""
    arrays = read_legacy_pth(weights)
    found = {name: array.shape for name, array in arrays.items()}
    check_tensors(found, chain.expected_tensors(), of=chain.title, where=weights)
    model.write_bytes(build(chain, declaration, arrays).SerializeToString(deterministic=True))

    def reference(pixels: U8) -> F32:
        return chain_reference.features(chain, declaration.preprocessing, arrays, pixels)

    return Made(reference, "a plain numpy forward pass", declaration.preprocessing, {weights.name: weights}, ())
