"""Multiplications and additions that a model does for one image, counted from its ONNX graph. Reads no weights.

Counted are the nodes in which the work is: matrix products, convolutions, einsums, attention. Activations, norms and
the like are some percent of that and are left out, as is usual. No library that we have counts them (onnx infers the
shapes; onnxruntime's tools do not count). The rules are those of ONNX's operator pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from cellvigil.bench.shapes import Shape, is_small, shapes_of
from cellvigil.errors import BundleError

Look = Callable[[int], Shape]
"""The shape of a node's input by its place; of its output for -1."""


def flops_of(path: Path, symbols: Mapping[str, int] | None = None) -> int:
    """Floating-point (or integer) operations of one run of the model: two for each multiplication and addition.

    A dimension of the inputs that has a name and no size gets the size that `symbols` gives it, else 1: one image.
    Raises BundleError if the file is no model, or some node's work cannot be counted.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if is_small(tensor) and uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise BundleError(f"the model cannot be read: {error}", where=path) from None
    return 2 * macs_of(model, symbols, where=path)


def macs_of(model: ModelProto, symbols: Mapping[str, int] | None = None, *, where: str | Path = "") -> int:
    """Multiply-accumulates of one run of `model`, which is changed. As `flops_of`."""
    graph, shapes = shapes_of(model, symbols or {}, where=where)
    total = 0
    for node in graph.node:
        if rule := _RULES.get(node.op_type):
            total += rule(node, _looker(node, shapes, where))
        elif _is_heavy(node):
            raise BundleError(f"the work of a {node.op_type} cannot be counted", where=where)
    return total


def _looker(node: NodeProto, shapes: Mapping[str, Shape], where: str | Path) -> Look:
    def look(place: int) -> Shape:
        name = node.output[0] if place < 0 else node.input[place]
        if name not in shapes:
            raise BundleError(f"the work of a {node.op_type} cannot be counted: {name} has no known shape", where=where)
        return shapes[name]

    return look


def _is_heavy(node: NodeProto) -> bool:
    """Whether a node that no rule counts may hold work: by its name, or in a graph of its own."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    if any(each.op_type in _RULES or _is_heavy(each) for graph in inner for each in graph.node):
        return True
    words = ("MatMul", "Gemm", "Conv", "Attention", "GRU", "LSTM", "RNN")
    return any(word in node.op_type for word in words)


def _attribute(node: NodeProto, name: str, default: int) -> int:
    found = (helper.get_attribute_value(each) for each in node.attribute if each.name == name)
    return int(next(found, default))


def _matmul(second: int) -> Callable[[NodeProto, Look], int]:
    """(..., m, k) x (..., k, n): as many products as the output has values, k terms each."""

    def macs(node: NodeProto, look: Look) -> int:
        depth = look(second)[-2 if len(look(second)) > 1 else -1]
        if _attribute(node, "transB", 0):
            depth = look(second)[-1]
        return math.prod(look(-1)) * depth

    return macs


def _conv(weights: int) -> Callable[[NodeProto, Look], int]:
    """Weights (out, in / group, kernel...): each output value takes in / group x kernel terms."""

    def macs(_: NodeProto, look: Look) -> int:
        return math.prod(look(-1)) * math.prod(look(weights)[1:])

    return macs


def _conv_transpose(_: NodeProto, look: Look) -> int:
    """Weights (in, out / group, kernel...): each input value is given to out / group x kernel places."""
    return math.prod(look(0)) * math.prod(look(1)[1:])


def _einsum(node: NodeProto, look: Look) -> int:
    """As written, with no order of contraction sought: a term for each combination of all indices."""
    equation = next(helper.get_attribute_value(each) for each in node.attribute if each.name == "equation").decode()
    taken = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for place, letters in enumerate(taken):
        shape = look(place)
        before, dots, after = letters.partition("...")
        broadcast = len(shape) - len(before) - len(after)
        named = [*before, *(f".{place - broadcast}" for place in range(broadcast)), *after] if dots else list(letters)
        for letter, size in zip(named, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values()) if len(taken) > 1 else 0


def _attention(node: NodeProto, look: Look) -> int:
    """ONNX's own Attention: queries (b, heads, s, d) or (b, s, heads x d), keys and values likewise of length t."""
    query, key, value = look(0), look(1), look(2)
    if len(query) == 4:
        batch, heads, rows, width = query
        return batch * heads * rows * key[2] * (width + value[3])
    batch, rows, hidden = query
    kv_heads = _attribute(node, "kv_num_heads", 1)
    heads = _attribute(node, "q_num_heads", 1)
    return batch * rows * key[1] * (hidden + heads * value[2] // kv_heads)


_RULES: Mapping[str, Callable[[NodeProto, Look], int]] = {
    "MatMul": _matmul(1),
    "MatMulInteger": _matmul(1),
    "QLinearMatMul": _matmul(3),
    "Gemm": _matmul(1),
    "FusedMatMul": _matmul(1),  # from here on some of onnxruntime's own, which its quantiser writes
    "DynamicQuantizeMatMul": _matmul(1),
    "MatMulIntegerToFloat": _matmul(1),
    "QGemm": _matmul(3),
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "FusedConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Attention": _attention,
}
