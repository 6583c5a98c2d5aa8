"""An encoder that is a table: a real ONNX bundle, exported and verified like any other, at microseconds a cell.

The mean intensity of each square of a 4 x 4 grid falls into one of 16 buckets; each (square, channel, bucket) names a
row of a seeded table, and the vector is the mean of the 48 rows. So soaks and kills run the service's own code at tens
of frames a second: manifest, hashes, golden pair, sessions and batches are those of every encoder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, U8, Fit
from cellvigil_export.declaration import OPSET, Declaration, Licences, Made, Preprocessing
from cellvigil_export.make import export

NAME, SIDE, DIMENSION, SEED = "lookup", 64, 32, 7
_GRID, _BUCKETS, _CHANNELS = 4, 16, 3
_PLAIN = Preprocessing(Fit(SIDE), 1.0, (0.0,) * _CHANNELS, (1.0,) * _CHANNELS)
_SQUARES = _CHANNELS * _GRID * _GRID


def table(seed: int = SEED) -> F32:
    """(48 * 16, 32) f32: neighbouring buckets have neighbouring rows, so that like cells get like vectors."""
    steps = np.random.default_rng(seed).normal(size=(_SQUARES, _BUCKETS, DIMENSION))
    return np.cumsum(steps, axis=1).reshape(-1, DIMENSION).astype(np.float32)


def graph(rows: F32) -> onnx.ModelProto:
    """The table as ONNX: `pixels` u8 (batch, 64, 64, 3) in, `features` f32 (batch, 32) out."""
    offsets = np.arange(_SQUARES, dtype=np.int64) * _BUCKETS
    constants = {"table": rows, "width": np.float32(256 / _BUCKETS), "offsets": offsets, "squares": np.array([1])}
    side = SIDE // _GRID
    steps = [
        ("Cast", [INPUT_NAME], "floats", {"to": TensorProto.FLOAT}),
        ("Transpose", ["floats"], "planes", {"perm": [0, 3, 1, 2]}),
        ("AveragePool", ["planes"], "grid", {"kernel_shape": [side, side], "strides": [side, side]}),
        ("Flatten", ["grid"], "means", {"axis": 1}),
        ("Div", ["means", "width"], "scaled", {}),
        ("Cast", ["scaled"], "buckets", {"to": TensorProto.INT64}),
        ("Add", ["buckets", "offsets"], "places", {}),
        ("Gather", ["table", "places"], "looked_up", {"axis": 0}),
        ("ReduceMean", ["looked_up", "squares"], OUTPUT_NAME, {"keepdims": 0}),
    ]
    nodes = [helper.make_node(kind, taken, [given], name=given, **how) for kind, taken, given, how in steps]
    whole = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", SIDE, SIDE, _CHANNELS])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", DIMENSION])],
        initializer=[numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """See `declaration.Family`: `weights` is the table as .npy."""
    rows = np.load(weights, allow_pickle=False)
    model.write_bytes(graph(rows).SerializeToString(deterministic=True))

    def reference(pixels: U8) -> F32:
        side = SIDE // _GRID
        squares = pixels.reshape(len(pixels), _GRID, side, _GRID, side, _CHANNELS).mean(axis=(2, 4), dtype=np.float64)
        buckets = (squares.transpose(0, 3, 1, 2).reshape(len(pixels), -1) // (256 / _BUCKETS)).astype(np.int64)
        return rows[buckets + np.arange(_SQUARES) * _BUCKETS].mean(axis=1)

    return Made(reference, "the table in numpy", _PLAIN, {weights.name: weights}, ())


def lookup_bundle(out: Path, *, name: str = NAME, seed: int = SEED) -> Path:
    """Export the bundle to `out`/`name`; returns its folder."""
    weights = out / f"{name}_table.npy"
    out.mkdir(parents=True, exist_ok=True)
    np.save(weights, table(seed))
    declared = Declaration(
        name=name,
        checkpoint=f"a seeded table ({seed})",
        family="lookup_encoder:make",
        vector="the mean of the looked-up rows",
        dimension=DIMENSION,
        preprocessing=_PLAIN,
        licences=Licences("Apache-2.0", "Apache-2.0"),
        needs_torch=False,
    )
    return export(declared, weights=weights, out=out).folder
