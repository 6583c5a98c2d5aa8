"""An ONNX model whose weights may stand in a file beside it: read and written one tensor at a time.

A protobuf holds 2 GiB at most, and the large encoders' weights are to be in memory once at most. Reads and writes the
model's two files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cellvigil.data import Array

INLINE_LIMIT = 128 << 20  # bytes of weights that the graph's own file holds; more go to a file beside, which is mapped
_SMALL = 1024  # bytes of a tensor that stays in the graph all the same: shapes are inferred from such
_ALIGNED = 64  # bytes; a tensor's place in the file is a multiple

_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""Attributes of a Constant node that hold numbers, not a tensor."""


def load(model: Path) -> onnx.ModelProto:
    """The graph of `model`; the weights beside it, all but the smallest, are left where they are."""
    graph = onnx.load(model, load_external_data=False)
    for tensor in graph.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and int(_place(tensor)["length"]) <= _SMALL:
            tensor.CopyFrom(numpy_helper.from_array(read(tensor, model.parent), tensor.name))
    return graph


def is_large(model: Path) -> bool:
    """Whether the weights stand in a file beside."""
    return model.with_name(f"{model.name}.data").is_file()


def read(tensor: TensorProto, folder: Path) -> Array:
    """The values of a tensor of a model in `folder`; the file beside is mapped into memory, not read as a whole."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    place, dtype = _place(tensor), helper.tensor_dtype_to_np_dtype(tensor.data_type)
    offset, count = int(place.get("offset", 0)), int(place["length"]) // dtype.itemsize
    mapped = np.memmap(folder / place["location"], dtype, mode="r", offset=offset, shape=(count,))
    return np.asarray(mapped).reshape(tuple(tensor.dims))


def lift_constants(graph: onnx.ModelProto) -> None:
    """Make initialisers of the Constant nodes that hold a tensor or numbers, so that constants are one thing."""
    kept = []
    for node in graph.graph.node:
        value = _held(node) if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
        else:
            graph.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    del graph.graph.node[:]
    graph.graph.node.extend(kept)


def write(graph: onnx.ModelProto, model: Path, constants: Iterable[tuple[str, Array]]) -> None:
    """Write `graph` to `model` with `constants` (name, values) as its initialisers, in place of those it has.

    They may be mapped from the very files that are replaced: that is done last. More weights than `INLINE_LIMIT` go
    to a file beside the graph.
    """
    beside = model.with_name(f"{model.name}.data")
    fresh, weights = model.with_name(f"{model.name}.fresh"), model.with_name(f"{beside.name}.fresh")
    del graph.graph.initializer[:]
    with weights.open("wb") as file:
        for name, values in constants:
            graph.graph.initializer.append(_written(name, values, file, beside.name))
        large = file.tell() > INLINE_LIMIT
    if not large:
        take_in(graph, weights)
        weights.unlink()
    fresh.write_bytes(graph.SerializeToString(deterministic=True))
    beside.unlink(missing_ok=True)
    if large:
        weights.replace(beside)
    fresh.replace(model)


def _written(name: str, values: Array, file: BinaryIO, location: str) -> TensorProto:
    """`values` as an initialiser, its bytes in `file` unless they are few."""
    if values.nbytes <= _SMALL:
        return numpy_helper.from_array(np.asarray(values), name)
    file.write(b"\0" * (-file.tell() % _ALIGNED))
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=values.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", file.tell()), ("length", values.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    file.write(np.ascontiguousarray(values).data)
    return tensor


def take_in(graph: onnx.ModelProto, weights: Path) -> None:
    """Put each tensor's piece of the file into the graph itself."""
    with weights.open("rb") as file:
        for tensor in graph.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                place = _place(tensor)
                file.seek(int(place.get("offset", 0)))
                tensor.raw_data = file.read(int(place["length"]))
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")


def _place(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _held(node: onnx.NodeProto) -> Array | None:
    """The tensor or the numbers of a Constant node; None for texts and sparse tensors."""
    given = node.attribute[0]
    if given.name == "value":
        return np.asarray(numpy_helper.to_array(given.t))
    if given.name in _NUMBERS:
        return np.asarray(helper.get_attribute_value(given), dtype=_NUMBERS[given.name])
    return None
