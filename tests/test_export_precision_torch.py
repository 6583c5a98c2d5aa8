"""Lower precisions of tiny seeded transformers. Needs the extra `export`.

What their figures say holds for the graphs: of trained weights only the gate on real cells can tell.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.encoder import open_session
from cellvigil_export.cells import labelled_cells
from cellvigil_export.make import export
from tiny_encoder import drawn_cells

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
from cellvigil_export import vision  # noqa: E402 - imports torch
from vision_networks import SIDES, saved, whole  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

SINGLE = {"LayerNormalization", "ReduceMean", "ReduceSum", "ReduceL2", "Softmax", "Sqrt", "Pow", "Reciprocal"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_cells(tmp_path_factory.mktemp("gate") / "cells")


def typed(model: onnx.ModelProto):
    """Every node but the casts, with the float types that it takes and gives."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    known |= {each.name: each.data_type for each in graph.initializer}
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    for node in graph.node:
        if node.op_type != "Cast":
            yield node, {known[name] for name in (*node.input, *node.output) if known.get(name) in floats}


def lowered(tmp_path: Path, kind: str, cells: Path, precision: str) -> EncoderBundle:
    folder = saved(whole(kind), tmp_path / "checkpoint", side=SIDES.get(kind, 32))
    declaration = vision.declared_by(folder, "tiny", "MIT")
    how = {"precision": precision, "gate_images": cells, "accept_below_gate": True}
    return export(declaration, weights=folder, out=tmp_path / "out", **how)


@pytest.mark.parametrize("kind", ["convnextv2", "dinov2", "swinv2"])
def test_fp16_keeps_normalisation_and_softmax_single(tmp_path: Path, cells: Path, kind: str) -> None:
    half = lowered(tmp_path, kind, cells, "fp16")
    nodes = list(typed(onnx.load(half.model_path)))
    assert all(types == {TensorProto.FLOAT} for node, types in nodes if node.op_type in SINGLE)
    assert all(types == {TensorProto.FLOAT16} for node, types in nodes if node.op_type in ("MatMul", "Gemm"))
    assert {"MatMul", "Gemm"} & {node.op_type for node, _ in nodes}
    assert {"LayerNormalization", "ReduceMean"} & {node.op_type for node, _ in nodes}
    assert 0 < half.manifest["parity"]["max_one_minus_cosine"] < 1e-4  # against torch, in single precision
    assert half.manifest["gate"]["centred_cosine"]["median"] > 0.99


def test_int8_quantises_the_products_with_weights(tmp_path: Path, cells: Path) -> None:
    quantised = lowered(tmp_path, "dinov2", cells, "int8")
    told = quantised.manifest["quantised"]
    assert told["products"] == told["in_int8"] > 0
    assert told["calibration"] == "minmax"
    assert quantised.manifest["parity"]["max_one_minus_cosine"] < 0.05
    pixels = labelled_cells(cells, quantised.fit, 3).pictures(np.arange(100, 117))
    session = open_session(quantised, device="cpu", threads=1)
    got = session.embed(pixels)
    alone = np.concatenate([session.embed(pixels[row : row + 1]) for row in range(len(pixels))])
    np.testing.assert_allclose(alone, got, atol=1e-5)
