"""An fp32 graph to fp16: products in half precision, normalisation, softmax and the pixels' own steps in single.

The rule is that of torch's autocast: matrix products and convolutions take and give halves; reductions, normalisations,
softmax and powers take and give singles; what stands between takes the wider of what comes in, so that a normalisation
written as single steps (mean, difference, square, root, quotient) stays in single precision from end to end.
Convolutions of few weights stay in single precision too: see `FEW`.

Not `onnxruntime.transformers.float16`: it rounds to half between any two nodes that are kept, so such a normalisation
loses what keeping it was for (a square above 65,504 is infinite); it writes casts behind the nodes that need them,
which onnx's checker refuses; and it takes a value beyond the range to its end without a word. Reads and writes the
model's files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from cellvigil.data import Array
from cellvigil.errors import BundleError
from cellvigil_export import tensors

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where the time and the weights go: halves in, halves out."""

# fmt: off
BETWEEN = frozenset(
    {
        "Abs", "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Elu", "Erf", "Expand", "Flatten",
        "Gather", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Neg",
        "PRelu", "Pad", "Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh",
        "Tile", "Transpose", "Unsqueeze", "Where",
    }
)
# fmt: on
"""What takes halves where only halves come in. Any other operator is computed in single precision."""

ANY = frozenset({"Cast", "Shape", "Size"})
"""What takes either as it comes."""

FEW = 16_384
"""Weights up to which a convolution stays as it is. The first layers and the depthwise ones have no more: their filters
cancel on even ground, so a rounding of 1 in 4,096 there is a shift of everything behind. Of EfficientNet-Lite0 they are
3 % of the weights, and nine tenths of what fp16 changes (benchmarks/README.md)."""

_LARGEST = float(np.finfo(np.float16).max)  # 65,504
_SMALLEST = float(np.finfo(np.float16).tiny)  # 6.1e-5: smaller ones lose digits
_WIDE, _HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
_SUFFIX = {_WIDE: "single", _HALF: "half"}


@dataclass(slots=True)
class _Lowered:
    """The graph as it is rewritten, node by node."""

    written_out: bool  # values stay single, and are rounded to half and back where they would be halves
    folder: Path  # of the model
    constants: dict[str, TensorProto]  # by name
    given: dict[str, int]  # of every value: its type before
    types: dict[str, int]  # of every value: its type now, as far as the graph is rewritten
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: dict[tuple[str, int], str] = field(default_factory=dict)  # (value, type) -> the name that it has in that type
    taken: dict[str, int] = field(default_factory=dict)  # constants that are used: the type that kept the name

    def is_float(self, name: str) -> bool:
        """Whether a value was a float of single precision before."""
        return self.given.get(name) == _WIDE

    def wanted(self, name: str, kind: int) -> str:
        """The name under which the float value `name` is to be had in type `kind`; a cast is added where needed."""
        if (name, kind) in self.made:
            return self.made[name, kind]
        if name in self.constants:
            first = self.taken.setdefault(name, kind) == kind
            self.made[name, kind] = name if first else f"{name}.{_SUFFIX[kind]}"
        elif self.types[name] == kind or (self.written_out and kind == _WIDE):
            self.made[name, kind] = name
        else:
            self.made[name, kind] = f"{name}.{_SUFFIX[kind]}"
            self.cast(name, self.made[name, kind], kind)
        return self.made[name, kind]

    def cast(self, name: str, to: str, kind: int) -> None:
        """Add `name` as `to` in type `kind`; rounded and single again, if the rounding is to be written out."""
        if self.written_out:
            self.nodes.append(helper.make_node("Cast", [name], [f"{to}.rounded"], name=f"{to}.round", to=_HALF))
            name, kind = f"{to}.rounded", _WIDE
        self.nodes.append(helper.make_node("Cast", [name], [to], name=f"{to}.cast", to=kind))


def to_half(model: Path, *, written_out: bool = False) -> None:
    """Rewrite the model at `model` (and the weights beside it) in place; inputs and outputs keep their types.

    `written_out`: the graph stays in single precision, and every value that would be a half is rounded to one and back:
    what a device with halves of its own gives, on one that computes in single precision whatever the graph says (as
    onnxruntime does on x86: it takes the casts out). One tensor is in memory at a time. Raises BundleError for a graph
    with branches, loops or functions of its own, which no exporter here writes.
    """
    graph = tensors.load(model)
    _check_flat(graph, model)
    tensors.lift_constants(graph)
    types = _types(graph)
    constants = {each.name: each for each in graph.graph.initializer}
    found = _Lowered(written_out, model.parent, constants, types, dict(types))
    for node in graph.graph.node:
        _take(node, found)
    _give(graph, found)
    del graph.graph.value_info[:]
    del graph.graph.node[:]
    graph.graph.node.extend(found.nodes)
    tensors.write(graph, model, _constants(found))


def _check_flat(graph: onnx.ModelProto, model: Path) -> None:
    nested = [node.name for node in graph.graph.node for each in node.attribute if each.HasField("g") or each.graphs]
    if nested or graph.functions:
        what = (
            f"the graph has branches or functions ({(nested or [graph.functions[0].name])[0]}), which are not lowered"
        )
        raise BundleError(what, where=model, hint="--precision fp32")


def _types(graph: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value, by name; weights that stand in a file beside are not looked at."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {each.name: each.data_type for each in graph.graph.initializer}


def _take(node: onnx.NodeProto, found: _Lowered) -> None:
    """Add `node` in the precision that it is to have, its float inputs brought to it."""
    kind = _precision(node, found)
    node = onnx.NodeProto.FromString(node.SerializeToString())
    for place, name in enumerate(node.input):
        if found.is_float(name):
            own = found.types[name] if node.op_type in ANY and name not in found.constants else kind
            node.input[place] = found.wanted(name, own)
    found.nodes.append(node)
    if node.op_type in ANY:
        return  # what a Cast gives is said by itself
    for place, name in enumerate(node.output):
        if found.is_float(name):
            found.types[name] = kind
            if kind == _HALF and found.written_out:
                node.output[place] = f"{name}.exact"
                found.cast(f"{name}.exact", name, kind)


def _precision(node: onnx.NodeProto, found: _Lowered) -> int:
    floats = [name for name in node.input if found.is_float(name)]
    fits = all(_fits(tensors.read(found.constants[name], found.folder)) for name in floats if name in found.constants)
    if not fits or node.domain:
        return _WIDE
    if node.op_type in PRODUCTS:
        weight = found.constants.get(node.input[1])
        is_few = node.op_type == "Conv" and weight is not None and int(np.prod(weight.dims)) <= FEW
        return _WIDE if is_few else _HALF
    computed = [found.types[name] for name in floats if name not in found.constants]
    return _HALF if node.op_type in BETWEEN and computed and _WIDE not in computed else _WIDE


def _fits(values: Array) -> bool:
    """Whether half precision holds a constant: none beyond its range, and no single number that loses its digits."""
    if values.size == 1:
        size = abs(float(values.reshape(())))
        return size == 0.0 or _SMALLEST <= size <= _LARGEST or not np.isfinite(size)
    largest = max(abs(float(values.min(initial=0.0))), abs(float(values.max(initial=0.0))))
    return largest <= _LARGEST or not np.isfinite(largest)


def _give(graph: onnx.ModelProto, found: _Lowered) -> None:
    """Outputs that became half are cast back, under their own names."""
    for end in graph.graph.output:
        if not found.is_float(end.name) or found.types[end.name] == _WIDE or found.written_out:
            continue
        inner = f"{end.name}.inner"
        for node in found.nodes:
            for names in (node.input, node.output):
                names[:] = [inner if name == end.name else name for name in names]
        found.nodes.append(helper.make_node("Cast", [inner], [end.name], name=f"{end.name}.single", to=_WIDE))


def _constants(found: _Lowered) -> Iterator[tuple[str, Array]]:
    """The constants that are used, under their new names and in their new types, one at a time."""
    used = {name for node in found.nodes for name in node.input}
    for name, tensor in found.constants.items():
        if tensor.data_type != _WIDE:
            if name in used:
                yield name, tensors.read(tensor, found.folder)
            continue
        for kind in (_WIDE, _HALF):
            new = found.made.get((name, kind))
            if new is None or new not in used:
                continue
            values = tensors.read(tensor, found.folder)
            if kind == _HALF:
                values = values.astype(np.float16)
            yield new, values.astype(np.float32) if found.written_out else values
