"""A tiny segmenter bundle that obeys the contract: real ONNX graphs run by the real session, masks from geometry alone.

Its "features" are the picture's brightness in blocks of 16 pixels, in four channels. What it answers: to a box the
ellipse in it, to a point a disc of `RADIUS` around it; token 1 is half as wide, 2 as wide, 3 twice as wide as token 0.
The predicted overlap depends on how bright the picture is, so that features that went astray would show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from cellvigil.bundle import segmenter as format_
from cellvigil.bundle.files import write_manifest, written_whole

SIDE = 512
RADIUS = 14.0  # pixels of the picture
STEEPNESS = 80.0  # logits between the rim of a mask and its middle
WIDTHS = (1.0, 0.5, 1.0, 2.0)  # of the four masks
IOU = (0.95, 0.90, 0.93, 0.89)
OPSET = 20


def segmenter_bundle(out: Path, *, name: str = "toy-sam", side: int = SIDE, licence: str = "Apache-2.0") -> Path:
    """Folder of a fresh bundle below `out`."""
    folder = out / name
    with written_whole(folder, replace=True) as work:
        onnx.save(encoder_model(side), work / format_.ENCODER)
        onnx.save(decoder_model(side), work / format_.DECODER)
        write_golden(work, side)
        manifest = {
            "schema_version": format_.SCHEMA_VERSION,
            "kind": format_.KIND,
            "name": name,
            "precision": "fp32",
            "input_size": side,
            "licences": {"upstream": licence, "weights": licence},
        }
        write_manifest(work, manifest)
    return folder


def encoder_model(side: int) -> onnx.ModelProto:
    """image (1, S, S, 3) u8, extent (2,) i64 -> features (1, 4, S / 16, S / 16) f32."""
    places = np.arange(side, dtype=np.int64)
    nodes = [
        helper.make_node("Split", ["extent"], ["rows", "columns"], num_outputs=2),
        helper.make_node("Less", ["down", "rows"], ["row_in"]),
        helper.make_node("Less", ["across", "columns"], ["column_in"]),
        helper.make_node("And", ["row_in", "column_in"], ["within"]),
        helper.make_node("Cast", ["within"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "white"], ["light"]),
        helper.make_node("Transpose", ["light"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["channels_first", "real"], ["seen"]),
        helper.make_node("AveragePool", ["seen"], ["blocks"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Concat", ["blocks", "blocks"], ["six"], axis=1),
        helper.make_node("Slice", ["six", "from", "to", "axis"], ["features"]),
    ]
    constants = {
        "down": places[:, None], "across": places[None, :], "white": np.float32(255),
        "from": np.array([0], np.int64), "to": np.array([4], np.int64), "axis": np.array([1], np.int64),
    }  # fmt: skip
    inputs = [_end("image", TensorProto.UINT8, [1, side, side, 3]), _end("extent", TensorProto.INT64, [2])]
    return _model(nodes, constants, inputs, [_end("features", TensorProto.FLOAT, [1, 4, side // 16, side // 16])])


def decoder_model(side: int) -> onnx.ModelProto:
    """features, points (p, k, 2), labels (p, k) -> masks (p, 4, S / 4, S / 4), iou (p, 4)."""
    low = side // 4
    places = (np.arange(low, dtype=np.float32) + 0.5) * 4 - 0.5
    nodes = [
        helper.make_node("Gather", ["points", "zero"], ["one"], axis=1),
        helper.make_node("Gather", ["points", "first"], ["other"], axis=1),
        helper.make_node("Gather", ["labels", "zero"], ["kind"], axis=1),
        helper.make_node("Equal", ["kind", "corner"], ["is_box"]),
        helper.make_node("Unsqueeze", ["is_box", "last"], ["box"]),
        helper.make_node("Add", ["one", "other"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], ["middle"]),
        helper.make_node("Where", ["box", "middle", "one"], ["centre"]),
        helper.make_node("Sub", ["other", "one"], ["wide"]),
        helper.make_node("Mul", ["wide", "half"], ["half_wide"]),
        helper.make_node("Where", ["box", "half_wide", "radius"], ["reach"]),
        helper.make_node("Max", ["reach", "least"], ["reaching"]),
        *_squared("x", 0),
        *_squared("y", 1),
        helper.make_node("Add", ["x_part", "y_part"], ["away"]),
        helper.make_node("Unsqueeze", ["away", "token_axis"], ["far"]),
        helper.make_node("Div", ["far", "widths"], ["distance"]),
        helper.make_node("Sub", ["unit", "distance"], ["inside"]),
        helper.make_node("Mul", ["inside", "steepness"], ["masks"]),
        helper.make_node("ReduceMean", ["features"], ["brightness"], keepdims=0),
        helper.make_node("Mul", ["brightness", "little"], ["more"]),
        helper.make_node("Add", ["known", "more"], ["given"]),
        helper.make_node("Shape", ["points"], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "four"], ["shape"], axis=0),
        helper.make_node("Expand", ["given", "shape"], ["iou"]),
    ]
    constants = {
        "zero": np.int64(0), "first": np.int64(1), "corner": np.int64(2), "last": np.array([1], np.int64),
        "half": np.float32(0.5), "radius": np.float32(RADIUS), "least": np.float32(0.5), "unit": np.float32(1),
        "token_axis": np.array([1], np.int64), "steepness": np.float32(STEEPNESS), "little": np.float32(0.04),
        "widths": np.square(np.array(WIDTHS, np.float32)).reshape(1, 4, 1, 1),
        "known": np.array([IOU], np.float32), "four": np.array([4], np.int64),
        "x_at": places.reshape(1, 1, low), "y_at": places.reshape(1, low, 1),
        "flat": np.array([1, 2], np.int64), "x_axis": np.int64(0), "y_axis": np.int64(1),
    }  # fmt: skip
    inputs = [
        _end("features", TensorProto.FLOAT, [1, 4, side // 16, side // 16]),
        _end("points", TensorProto.FLOAT, ["p", "k", 2]),
        _end("labels", TensorProto.INT64, ["p", "k"]),
    ]
    outputs = [_end("masks", TensorProto.FLOAT, ["p", 4, low, low]), _end("iou", TensorProto.FLOAT, ["p", 4])]
    return _model(nodes, constants, inputs, outputs)


def _squared(line: str, _axis: int) -> list[onnx.NodeProto]:
    """((place - centre) / reach)^2 along one line, (p, S / 4, 1) or (p, 1, S / 4)."""
    return [
        helper.make_node("Gather", ["centre", f"{line}_axis"], [f"{line}_middle"], axis=1),
        helper.make_node("Gather", ["reaching", f"{line}_axis"], [f"{line}_reach"], axis=1),
        helper.make_node("Unsqueeze", [f"{line}_middle", "flat"], [f"{line}_from"]),
        helper.make_node("Unsqueeze", [f"{line}_reach", "flat"], [f"{line}_unit"]),
        helper.make_node("Sub", [f"{line}_at", f"{line}_from"], [f"{line}_off"]),
        helper.make_node("Div", [f"{line}_off", f"{line}_unit"], [f"{line}_share"]),
        helper.make_node("Mul", [f"{line}_share", f"{line}_share"], [f"{line}_part"]),
    ]


def write_golden(folder: Path, side: int) -> None:
    """The golden pair of the graphs in `folder`."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    extent = np.array([side // 2, side], np.int64)
    points = np.array([[[30, 20], [90, 60]], [[40, 44], [0, 0]]], np.float32)
    labels = np.array([[2, 3], [1, -1]], np.int64)
    encoder = onnxruntime.InferenceSession(str(folder / format_.ENCODER), providers=["CPUExecutionProvider"])
    decoder = onnxruntime.InferenceSession(str(folder / format_.DECODER), providers=["CPUExecutionProvider"])
    (features,) = encoder.run(["features"], {"image": image, "extent": extent})
    masks, iou = decoder.run(["masks", "iou"], {"features": features, "points": points, "labels": labels})
    parts = {"image": image, "extent": extent, "points": points, "labels": labels, "features": features}
    for part, array in {**parts, "masks": masks, "iou": iou}.items():
        np.save(folder / format_.golden_name(part), array)


def _end(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model
