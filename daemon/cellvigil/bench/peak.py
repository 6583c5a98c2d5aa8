"""The device's peak: the most operations a second that it does in a large matrix product, through onnxruntime itself.

Makers state peaks that no program reaches. This one is measured in the same run as the encoders, with the library and
the threads that run them, so that a share of it says what is left to be won.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cellvigil import device as devices
from cellvigil.binding import Bound
from cellvigil.data import Array
from cellvigil.device_options import Tuning
from cellvigil.errors import DeviceError, UsageError
from cellvigil.pace import timed

SIDES = {"cpu": 2048, "cuda": 8192, "tensorrt": 8192}
"""Side of the two square matrices, by provider: large enough that starting the product costs nothing beside it."""

_OPSET, _IR = 20, 9
_LEAST = 5


@dataclass(frozen=True, slots=True)
class _Kind:
    """A product of one precision."""

    operator: str
    left: type[np.generic]
    right: type[np.generic]
    result: type[np.generic]


_KINDS: Mapping[str, _Kind] = {
    "fp32": _Kind("MatMul", np.float32, np.float32, np.float32),
    "fp16": _Kind("MatMul", np.float16, np.float16, np.float16),
    "int8": _Kind("MatMulInteger", np.uint8, np.int8, np.int32),
}


def peak_of(provider: str, precision: str, *, cores: int, seconds: float, side: int = 0) -> float:
    """Operations a second of the fastest of the products that fit into `seconds`: two for each multiply-accumulate.

    `cores` on the CPU; `side` of the matrices, 0 = as `SIDES` says. Raises UsageError for a precision that is not
    measured there (8 bits are for the CPU only), DeviceError if the device cannot be had, or has no room for it.
    """
    kind = _KINDS.get(precision)
    if kind is None or (precision == "int8" and provider != "cpu"):
        raise UsageError(f"no peak is measured for {precision} on {provider}")
    side = side or SIDES[provider]
    shape = (side, side)
    rng = np.random.default_rng(0)
    left, right = (_values(rng, shape, dtype) for dtype in (kind.left, kind.right))
    is_constant = provider == "cpu"  # as a model's weights are: onnxruntime packs them once
    inputs = {"a": left} if is_constant else {"a": left, "b": right}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "product.onnx"
        onnx.save_model(_model(kind, shape, right if is_constant else None), model)
        tuning = Tuning(half=precision == "fp16")
        opened = devices.open_model(model, device=provider, threads=cores, tuning=tuning)
    made = ("c", shape, kind.result)
    try:
        product = Bound(devices.runtime(), opened.session, inputs, made, on_gpu=opened.is_on_gpu)
        product.repeat()
        return 2.0 * side**3 / min(timed(product.repeat, seconds, least=_LEAST))
    except devices.runtime_errors() as error:
        raise DeviceError(f"no peak could be measured: {error}", where=provider) from error


def _values(rng: np.random.Generator, shape: tuple[int, int], dtype: type[np.generic]) -> Array:
    """Numbers of all magnitudes alike: a device does equal ones faster."""
    if np.issubdtype(dtype, np.integer):
        return np.frombuffer(rng.bytes(shape[0] * shape[1]), dtype=dtype).reshape(shape)
    normal = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[0])
    return np.asarray(normal, dtype=dtype)


def _model(kind: _Kind, shape: tuple[int, int], right: Array | None) -> onnx.ModelProto:
    """The product a x b = c, with b in the model where `right` is given."""
    ends = {
        name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, dtype in (("a", kind.left), ("b", kind.right), ("c", kind.result))
    }
    weights: list[TensorProto] = [] if right is None else [numpy_helper.from_array(right, "b")]
    taken = [ends["a"]] if weights else [ends["a"], ends["b"]]
    node = helper.make_node(kind.operator, ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", taken, [ends["c"]], initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
