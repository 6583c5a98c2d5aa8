"""A graph in half precision: what stays in single, what becomes of its weights, how its rounding is written out."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellvigil.bundle.encoder import MODEL
from cellvigil.encoder import one_minus_cosine
from cellvigil.errors import BundleError
from cellvigil_export import tensors
from cellvigil_export.half import to_half


def written(path, nodes, constants, width=8):
    """A graph from `x` (batch, width) f32 to `y`, of nodes (kind, inputs, output, attributes)."""
    made = [helper.make_node(kind, taken.split(), [out], name=out, **how) for kind, taken, out, how in nodes]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])] for name in "xy"]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "small", *ends, initializer=held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)
    return path


def run(path, x):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def types_of(path):
    """Node name -> the float types that it takes and gives."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    graph = model.graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    known |= {each.name: each.data_type for each in graph.initializer}
    floats = {TensorProto.FLOAT: "single", TensorProto.FLOAT16: "half"}
    return {
        node.name: {floats[known[name]] for name in (*node.input, *node.output) if known.get(name) in floats}
        for node in graph.node
        if node.op_type != "Cast"
    }


ATTENTION = [
    ("MatMul", "x w", "product", {}),
    ("Add", "product bias", "sum", {}),
    ("ReduceMean", "sum axis", "mean", {"keepdims": 1}),
    ("Sub", "sum mean", "apart", {}),
    ("Pow", "apart two", "square", {}),
    ("ReduceMean", "square axis", "variance", {"keepdims": 1}),
    ("Add", "variance tiny", "safe", {}),
    ("Sqrt", "safe", "deviation", {}),
    ("Div", "apart deviation", "normal", {}),
    ("LayerNormalization", "sum gain bias", "layer", {"axis": -1}),
    ("MatMul", "layer w", "again", {}),
    ("Erf", "again", "erf", {}),
    ("Softmax", "again", "share", {"axis": -1}),
    ("Mul", "erf huge", "scaled", {}),
    ("Add", "share normal", "sum2", {}),
    ("Add", "sum2 scaled", "y", {}),
]


def attention_constants(size=1.0):
    rng = np.random.default_rng(1)
    return {
        "w": (rng.normal(size=(8, 8)) * size).astype(np.float32),
        "bias": rng.normal(size=8).astype(np.float32),
        "gain": np.ones(8, np.float32),
        "axis": np.array([-1]),
        "two": np.float32(2),
        "tiny": np.float32(1e-12),
        "huge": np.float32(1e5),
    }


def test_normalisation_and_softmax_stay_in_single_precision(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", ATTENTION, attention_constants())
    to_half(path)
    onnx.checker.check_model(path, full_check=True)
    found = types_of(path)
    half = {"product", "sum", "again", "erf"}
    assert {name for name, kinds in found.items() if kinds == {"half"}} == half
    assert all(found[name] == {"single"} for name in found.keys() - half)


def test_a_normalisation_survives_squares_beyond_half_precision(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", [*ATTENTION[:9], ("Identity", "normal", "y", {})], attention_constants(300.0))
    x = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    wanted = run(path, x)
    to_half(path)
    assert float(np.abs(run(path, x) - wanted).max()) < 0.01


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_weights_beside_the_graph_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    rng = np.random.default_rng(3)
    constants = {"w": rng.normal(size=(64, 64)).astype(np.float32), "v": rng.normal(size=(64, 64)).astype(np.float32)}
    nodes = [("MatMul", "x w", "a", {}), ("MatMul", "a v", "y", {})]
    path = written(tmp_path / MODEL, nodes, constants, width=64)
    x = rng.normal(size=(3, 64)).astype(np.float32)
    wanted = run(path, x)
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=f"{MODEL}.data", size_threshold=0)
    monkeypatch.setattr(tensors, "INLINE_LIMIT", limit)
    to_half(path)
    beside = tmp_path / f"{MODEL}.data"
    assert sorted(each.name for each in tmp_path.iterdir()) == ([MODEL, beside.name] if limit == 0 else [MODEL])
    if limit == 0:
        assert beside.stat().st_size == 2 * 64 * 64 * 2
    onnx.checker.check_model(path, full_check=True)
    assert float(one_minus_cosine(run(path, x), wanted).max()) < 1e-5


def test_rounding_written_out_is_that_of_halves(tmp_path: Path) -> None:
    constants = {"w": np.random.default_rng(3).normal(size=(8, 8)).astype(np.float32), "c": np.float32(1.7)}
    path = written(tmp_path / "m.onnx", [("MatMul", "x w", "a", {}), ("Mul", "a c", "y", {})], constants)
    x = np.random.default_rng(4).normal(size=(6, 8)).astype(np.float32)

    def halved(values):
        return values.astype(np.float16).astype(np.float32)

    wanted = halved(halved(halved(x) @ halved(constants["w"])) * halved(constants["c"]))
    to_half(path, written_out=True)
    np.testing.assert_allclose(run(path, x), wanted, rtol=2e-3)
    assert (run(path, x) == halved(run(path, x))).all()


def test_a_graph_with_branches_is_refused(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    ])  # fmt: skip
    nodes = [("If", "yes", "y", {"then_branch": inner, "else_branch": inner})]
    path = written(tmp_path / "m.onnx", nodes, {"yes": np.array(True)})
    with pytest.raises(BundleError, match="branches"):
        to_half(path)
