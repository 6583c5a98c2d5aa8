"""A small convolutional encoder and drawn cells for it, so that whole exports take a second."""

from pathlib import Path

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cellvigil.data import Fit
from cellvigil_export.declaration import OPSET, Declaration, Licences, Made, Preprocessing

SIDE, WIDTH = 16, 64
DECLARATION = Declaration(
    name="tiny",
    checkpoint="drawn by a seed",
    family="tiny_encoder:make",
    vector="average of the last feature map, less its own mean",
    dimension=WIDTH,
    preprocessing=Preprocessing(Fit(SIDE), scale=1.0, mean=(128.0,) * 3, std=(64.0,) * 3),
    licences=Licences("Apache-2.0", "Apache-2.0"),
    needs_torch=False,
    refuses={"int8": "for the test of it"},
)


def weights(path: Path, *, offset: float = 0.0) -> Path:
    """A checkpoint. `offset` is added to every weight of the last layer, and taken off again by the mean behind it."""
    rng = np.random.default_rng(4)
    first = rng.normal(size=(48, 3, 3, 3)) * 0.3
    last = rng.normal(size=(WIDTH, 48, 3, 3)) * 0.05 + offset
    np.savez(path, first=first.astype(np.float32), last=last.astype(np.float32))
    return path.with_suffix(".npz")


def make(declaration: Declaration, source: Path, model: Path) -> Made:
    """The family: see `declaration.Family`."""
    with np.load(source) as arrays:
        constants = {name: arrays[name] for name in arrays.files}
    graph = _graph(constants)
    model.write_bytes(graph.SerializeToString(deterministic=True))
    slow = ReferenceEvaluator(graph)
    return Made(
        lambda pixels: slow.run(None, {"pixels": pixels})[0],
        "onnx's reference",
        declaration.preprocessing,
        {source.name: source},
        (),
    )


def _graph(constants):
    constants |= {"mean": np.float32(128), "std": np.float32(64), "low": np.float32(0), "high": np.float32(6)}
    constants["axis"] = np.array([1])
    around = {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    steps = [
        ("Cast", "pixels", "floats", {"to": TensorProto.FLOAT}),
        ("Sub", "floats mean", "centred", {}),
        ("Div", "centred std", "normal", {}),
        ("Transpose", "normal", "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", "planes first", "conv1", around),
        ("Clip", "conv1 low high", "relu1", {}),
        ("Conv", "relu1 last", "conv2", around),
        ("GlobalAveragePool", "conv2", "pooled", {}),
        ("Flatten", "pooled", "flat", {"axis": 1}),
        ("ReduceMean", "flat axis", "own", {"keepdims": 1}),
        ("Sub", "flat own", "features", {}),
    ]
    nodes = [helper.make_node(kind, taken.split(), [given], name=given, **how) for kind, taken, given, how in steps]
    ends = (
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTH])],
    )
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    whole = helper.make_graph(nodes, "tiny", *ends, initializer=held)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def drawn_cells(folder: Path, count: int = 280) -> Path:
    """Pictures of two kinds of cells, one folder a kind: bright discs and dark ones, of any size and place."""
    rng = np.random.default_rng(5)
    for number in range(count):
        kind, grey = ("bright", 210) if number % 2 else ("dark", 40)
        (folder / kind).mkdir(parents=True, exist_ok=True)
        picture = rng.normal(128, 12, (24, 24, 3)).clip(0, 255).astype(np.uint8)
        cv2.circle(picture, tuple(rng.integers(8, 16, 2).tolist()), int(rng.integers(3, 8)), (grey,) * 3, -1)
        cv2.imwrite(str(folder / kind / f"{number:03}.png"), picture)
    return folder
