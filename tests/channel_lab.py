"""Plates of several channels, and a small encoder that takes them all at once: real files, a real ONNX bundle.

The bright field is a rehearsed one and looks alike in both classes; the dye tells them apart, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import tifffile
from onnx import TensorProto, helper, numpy_helper

from cellvigil.bundle.encoder import GOLDEN_INPUT, GOLDEN_OUTPUT, INPUT_NAME, MODEL, OUTPUT_NAME
from cellvigil.bundle.files import write_manifest
from cellvigil.data import Array
from cellvigil.rehearse.reference import write_reference
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.images import read_image
from lab import small_assay

BRIGHT, DYE, NUCLEI, MATRIX = "Bright Field", "GFP", "DAPI", "TRITC"
CHANNELS = (BRIGHT, DYE, NUCLEI, MATRIX)
UM = 0.322
PATTERN = r"(?P<well>[A-H]\d+)_t(?P<time>\d+)\.ome\.tiff?"
GRID = 2


def fields(folder: Path, count: int, *, seed: int) -> list[tuple[Array, Array]]:
    """`count` fields: the bright field (Y, X) u16, all under one lamp, and the centres (n, 2) y, x of the cells."""
    reference = write_reference(folder, small_assay(seed=seed, shape=(260, 300), cells=14.0), count)
    return [
        (_one_lamp(read_image(image.path)[0]), np.array([cell.centre_px for cell in image.cells]).reshape(-1, 2))
        for image in read_coco(reference.annotations).images
    ]


def _one_lamp(bright: Array) -> Array:
    return np.clip(bright * (26000.0 / np.median(bright)), 0, 65535).astype(np.uint16)


def planes(bright: Array, centres: Array, *, dead: bool, seed: int = 0) -> dict[str, Array]:
    """The field in four channels, each (Y, X) u16, each of another brightness; the dye is in dead cells alone."""
    rng = np.random.default_rng(seed)

    def spots(level: int, radius: int, ground: int) -> Array:
        canvas = rng.normal(ground, ground / 50, bright.shape)
        for y, x in centres:
            cv2.circle(canvas, (round(x), round(y)), radius, float(level), -1)
        return canvas.clip(0, 65535).astype(np.uint16)

    return {
        BRIGHT: bright,
        DYE: spots(9000 if dead else 800, 10, 700),
        NUCLEI: spots(30000, 5, 2000),
        MATRIX: spots(150, 3, 100),
    }


def write_ome(path: Path, made: dict[str, Array], names: Sequence[str] = CHANNELS) -> None:
    """One OME-TIFF with these channels in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"PhysicalSizeX": UM, "PhysicalSizeY": UM, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    about = {"axes": "CYX", "Channel": {"Name": list(names)}, **size}
    stack = np.stack([made[name] for name in names])
    tifffile.imwrite(path, stack, metadata=about, ome=True, photometric="minisblack")


def class_folders(root: Path, work: Path, *, names: Sequence[str] = CHANNELS, each: int = 3) -> Path:
    """`root`/live and `root`/dead: frames of one class each, for `--frames`."""
    for number, (bright, centres) in enumerate(fields(work, 2 * each, seed=11)):
        dead = bool(number % 2)
        made = planes(bright, centres, dead=dead, seed=number)
        write_ome(root / ("dead" if dead else "live") / f"{number}.ome.tif", made, names)
    return root


def plate(images: Path, work: Path, *, names: Sequence[str] = CHANNELS, rounds: int = 2) -> None:
    """Wells A1 (live) and B1 (dead), one OME-TIFF a frame."""
    for number, (bright, centres) in enumerate(fields(work, 2 * rounds, seed=23)):
        well = "AB"[number % 2] + "1"
        made = planes(bright, centres, dead=well == "B1", seed=50 + number)
        write_ome(images / f"{well}_t{number // 2}.ome.tif", made, names)


def grid_bundle(out: Path, *, name: str = "grid4", channels: int = 4, side: int = 32, **changed: Any) -> Path:
    """An encoder bundle: the mean of each of `channels` channels in each quarter of a picture. Returns its folder."""
    folder = out / name
    folder.mkdir(parents=True)
    dimension = channels * GRID**2
    half = side // GRID
    steps = [
        ("Cast", [INPUT_NAME], "floats", {"to": TensorProto.FLOAT}),
        ("Transpose", ["floats"], "planes", {"perm": [0, 3, 1, 2]}),
        ("AveragePool", ["planes"], "grid", {"kernel_shape": [half, half], "strides": [half, half]}),
        ("Flatten", ["grid"], "means", {"axis": 1}),
        ("Div", ["means", "top"], OUTPUT_NAME, {}),
    ]
    nodes = [helper.make_node(kind, taken, [given], name=given, **how) for kind, taken, given, how in steps]
    whole = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", side, side, channels])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", dimension])],
        initializer=[numpy_helper.from_array(np.float32(255.0), "top")],
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, folder / MODEL)
    golden = np.random.default_rng(3).integers(0, 256, (4, side, side, channels), dtype=np.uint8)
    np.save(folder / GOLDEN_INPUT, golden)
    np.save(folder / GOLDEN_OUTPUT, grid_means(golden))
    manifest = {
        "schema_version": 1,
        "kind": "encoder",
        "name": name,
        "precision": "fp32",
        "licences": {"upstream": "CC-BY-NC-4.0", "weights": "CC-BY-NC-4.0"},
        "input": {"name": INPUT_NAME, "dtype": "uint8", "layout": "NHWC"},
        "input_size": side,
        "channels": channels,
        "preprocessing": {"outside_the_graph": {"side": side, "resample": "area", "shortest": 0}},
        "output": {"name": OUTPUT_NAME, "vector": "channel means of the quarters"},
        "dimension": dimension,
        "dtype": "float32",
        "opset": 20,
    }
    write_manifest(folder, {**manifest, **changed})
    return folder


def grid_means(pixels: Array) -> Array:
    """What the bundle computes, in numpy: (n, side, side, C) u8 -> (n, 4 C) f32."""
    count, side, _, channels = pixels.shape
    half = side // GRID
    quarters = pixels.reshape(count, GRID, half, GRID, half, channels).mean(axis=(2, 4), dtype=np.float64)
    return (quarters.transpose(0, 3, 1, 2).reshape(count, channels * GRID**2) / 255).astype(np.float32)
