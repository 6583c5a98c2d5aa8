"""The shape of every value of an ONNX graph, for given sizes of its inputs. Pure; reads no weights.

onnx's own inference follows a shape that is computed (Shape, Gather, Concat) only part of the way, and models whose
batch size is open compute many: what it leaves open is worked out with onnx's reference operators, and it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from cellvigil.data import Array
from cellvigil.errors import BundleError

Shape = tuple[int, ...]

_SMALL = 1024  # elements: initializers up to this may be shapes, axes and the like, which inference reads
_ROUNDS = 64  # far more than any model needs: each goes on to the next shape that is computed from computed ones
# fmt: off
_COMPUTING = frozenset({
    "Add", "Cast", "Concat", "Constant", "Div", "Equal", "Expand", "Gather", "Identity", "Max", "Min",
    "Mod", "Mul", "Neg", "Range", "ReduceProd", "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
})
# fmt: on
"""Operators that shapes are computed with."""


def shapes_of(
    model: ModelProto, symbols: Mapping[str, int], *, where: str | Path = ""
) -> tuple[GraphProto, dict[str, Shape]]:
    """The graph, with its functions inlined, and the shape of each value that one can be found for.

    A dimension of the inputs that has a name and no size gets the size that `symbols` gives it, else 1. `model` is
    changed: its weights are taken away. Raises BundleError if the graph contradicts itself.
    """
    for tensor in model.graph.initializer:
        if not is_small(tensor):
            _empty(tensor)
    _fix_dimensions(model.graph, symbols)
    try:
        model = inliner.inline_local_functions(model)
        for _ in range(_ROUNDS):
            model = shape_inference.infer_shapes(model, data_prop=True)
            shapes = dict(_shapes(model.graph))
            if not _compute(model.graph, shapes):
                break
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise BundleError(f"the model's shapes cannot be inferred: {error}", where=where) from None
    return model.graph, shapes


def is_small(tensor: TensorProto) -> bool:
    """Whether a tensor may be a shape, axes or the like: its values must be there, not in another file."""
    return bool(math.prod(tensor.dims) <= _SMALL)


def _empty(tensor: TensorProto) -> None:
    """Take a weight's values away: its size is enough, and serializing the values takes seconds and gigabytes."""
    for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(name)
    tensor.data_location = TensorProto.DEFAULT


def _fix_dimensions(graph: GraphProto, symbols: Mapping[str, int]) -> None:
    inputs = [dim for value in graph.input for dim in value.type.tensor_type.shape.dim]
    given = {dim.dim_param: symbols.get(dim.dim_param, 1) for dim in inputs if dim.HasField("dim_param")}
    inner = (value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.output))
    for dim in (*inputs, *(dim for dims in inner for dim in dims)):
        if dim.HasField("dim_param") and dim.dim_param not in given:
            dim.Clear()  # some sum or product of others: the inference finds it
        elif dim.HasField("dim_param"):
            dim.dim_value = given[dim.dim_param]


def _shapes(graph: GraphProto) -> Iterator[tuple[str, Shape]]:
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            yield value.name, tuple(dim.dim_value for dim in dims)


def _compute(graph: GraphProto, shapes: Mapping[str, Shape]) -> bool:
    """Put constants in the place of nodes that compute shapes and can be worked out; whether there were any."""
    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if is_small(tensor) and tensor.data_type in {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
    }
    left: list[NodeProto] = []
    for node in graph.node:
        value = _value(node, known, shapes)
        if value is None:
            left.append(node)
            continue
        known[node.output[0]] = value
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    found = len(left) < len(graph.node)
    del graph.node[:]
    graph.node.extend(left)
    return found


def _value(node: NodeProto, known: Mapping[str, Array], shapes: Mapping[str, Shape]) -> Array | None:
    """What a node gives, where that is a small whole number or several and all that it takes is known."""
    if node.op_type == "Shape" and node.input[0] in shapes:
        start, end = (
            next((a.i for a in node.attribute if a.name == name), default)
            for name, default in (("start", 0), ("end", None))
        )
        return np.array(shapes[node.input[0]][start:end], np.int64)
    if node.op_type not in _COMPUTING or node.domain or any(name not in known for name in node.input if name):
        return None
    if node.op_type == "Cast" and helper.get_node_attr_value(node, "to") != TensorProto.INT64:
        return None
    (value,) = ReferenceEvaluator(node).run(None, {name: known[name] for name in node.input if name})
    array = np.asarray(value)
    return array if array.size <= _SMALL and array.dtype.kind in "ib" else None
