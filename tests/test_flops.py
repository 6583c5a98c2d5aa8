"""The work of a model, counted from its graph: against counts by hand, and against a slow count of each product."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from cellvigil.bench.flops import flops_of, macs_of
from cellvigil.errors import BundleError

FLOAT = TensorProto.FLOAT


def model(nodes, given_, made, weights=None, functions=(), opset=20, constants=None):
    """A model of these nodes. `given_`, `made`: shapes by name; `weights`: shapes of weights, which have no values."""
    sized = [TensorProto(name=name, data_type=FLOAT, dims=dims) for name, dims in (weights or {}).items()]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    ends = [
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in each.items()] for each in (given_, made)
    ]
    graph = helper.make_graph(nodes, "g", *ends, initializer=[*sized, *values])
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, functions=functions, ir_version=10)


def one(kind, inputs, shape, weights=None, given_=None, **attributes):
    """A model of one node, "x" in and "y" out."""
    return model([helper.make_node(kind, inputs, ["y"], **attributes)], given_ or {"x": shape}, {"y": None}, weights)


@pytest.mark.parametrize(
    ("graph", "macs"),
    [
        (one("MatMul", ["x", "w"], [5, 7], {"w": [7, 3]}), 5 * 7 * 3),
        (one("MatMul", ["x", "w"], [2, 4, 5, 7], {"w": [7, 3]}), 2 * 4 * 5 * 7 * 3),
        (one("MatMul", ["x", "w"], [2, 4, 5, 7], {"w": [2, 4, 7, 3]}), 2 * 4 * 5 * 7 * 3),
        (one("MatMul", ["x", "w"], [5, 7], {"w": [7]}), 5 * 7),
        (one("Gemm", ["x", "w"], [5, 7], {"w": [7, 3]}), 5 * 7 * 3),
        (one("Gemm", ["x", "w", "b"], [5, 7], {"w": [3, 7], "b": [3]}, transB=1), 5 * 7 * 3),
        (one("Gemm", ["x", "w"], [7, 5], {"w": [7, 3]}, transA=1), 5 * 7 * 3),
        (one("Conv", ["x", "w"], [1, 3, 8, 8], {"w": [6, 3, 3, 3]}), 6 * 6 * 6 * 27),
        (one("Conv", ["x", "w"], [1, 3, 8, 8], {"w": [6, 3, 3, 3]}, pads=[1] * 4, strides=[2, 2]), 6 * 4 * 4 * 27),
        (one("Conv", ["x", "w"], [2, 6, 8, 8], {"w": [6, 1, 5, 5]}, group=6), 2 * 6 * 4 * 4 * 25),
        (one("Conv", ["x", "w"], [1, 4, 9], {"w": [6, 2, 3]}, group=2), 6 * 7 * 2 * 3),
        (one("ConvTranspose", ["x", "w"], [1, 4, 5, 5], {"w": [4, 3, 2, 2]}, strides=[2, 2]), 4 * 25 * 3 * 4),
        (one("ConvTranspose", ["x", "w"], [1, 4, 5, 5], {"w": [4, 3, 2, 2]}, group=2), 4 * 25 * 3 * 4),
        (one("Einsum", ["x", "w"], [2, 5, 7], {"w": [2, 7, 3]}, equation="bij,bjk->bik"), 2 * 5 * 7 * 3),
        (one("Einsum", ["x", "w"], [2, 4, 5], {"w": [6, 5]}, equation="bhc, kc -> bhk"), 2 * 4 * 5 * 6),
        (one("Einsum", ["x", "w"], [2, 3, 4, 5], {"w": [5, 6]}, equation="...c,ck->...k"), 2 * 3 * 4 * 5 * 6),
        (one("Einsum", ["x"], [2, 3], equation="ij->ji"), 0),
        (one("Relu", ["x"], [2, 3]), 0),
        (one("FusedMatMul", ["x", "w"], [2, 5, 7], {"w": [2, 3, 7]}, domain="com.microsoft", transB=1), None),
    ],
)
def test_a_node_s_work_is_the_count_by_hand(graph, macs):
    if macs is None:  # the shape of what it makes must be told: onnx does not know this operator
        graph.graph.output[0].type.tensor_type.shape.CopyFrom(
            helper.make_tensor_type_proto(FLOAT, [2, 5, 3]).tensor_type.shape
        )
        macs = 2 * 5 * 7 * 3
    assert macs_of(graph) == macs


def attention(shape, keys, **attributes):
    given_ = {"x": shape, "k": keys, "v": keys}
    nodes = [helper.make_node("Attention", ["x", "k", "v"], ["y"], **attributes)]
    return model(nodes, given_, {"y": None}, opset=23)


@pytest.mark.parametrize(
    ("graph", "macs"),
    [
        (attention([2, 4, 9, 16], [2, 4, 11, 16]), 2 * 4 * 9 * 11 * (16 + 16)),
        (attention([2, 9, 64], [2, 11, 64], q_num_heads=4, kv_num_heads=4), 2 * 4 * 9 * 11 * (16 + 16)),
        (attention([2, 9, 64], [2, 11, 32], q_num_heads=4, kv_num_heads=2), 2 * 4 * 9 * 11 * (16 + 16)),
    ],
)
def test_attention_is_its_two_products(graph, macs):
    assert macs_of(graph) == macs


def products_slowly(size, channels, kernel, stride, group):
    """Every multiplication of a convolution, one by one."""
    (taken, made) = channels
    places = range((size - kernel) // stride + 1)
    return sum(
        1
        for _out, _y, _x in itertools.product(range(made), places, places)
        for _in, _dy, _dx in itertools.product(range(taken // group), range(kernel), range(kernel))
    )


@given(st.integers(3, 7), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from([1, 2]))
def test_a_convolution_is_all_its_products(size, width, kernel, stride, group):
    taken, made = width * group, 2 * group
    graph = one(
        "Conv",
        ["x", "w"],
        [1, taken, size, size],
        {"w": [made, taken // group, kernel, kernel]},
        strides=[stride, stride],
        group=group,
    )
    assert macs_of(graph) == products_slowly(size, (taken, made), kernel, stride, group)


def lite0_by_hand() -> int:
    """Tan and Le's table of EfficientNet-B0, without squeeze-and-excitation and the classifier: 0.38 G."""
    blocks = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3)]
    blocks += [(6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]
    side, width = 112, 32
    total = side * side * 27 * width
    for expansion, kernel, stride, made, repeats in blocks:
        for repeat in range(repeats):
            inner = width * expansion
            total += side * side * width * inner if expansion > 1 else 0
            side //= stride if repeat == 0 else 1
            total += side * side * kernel * kernel * inner + side * side * inner * made
            width = made
    return total + side * side * width * 1280


def test_the_default_encoder_s_work_is_that_of_its_table(lite0: Path) -> None:
    counted = flops_of(lite0 / "model.onnx")
    assert counted == 2 * lite0_by_hand()
    assert counted / 2 == pytest.approx(0.4e9, rel=0.05)  # as published, in round figures
    assert flops_of(lite0 / "model.onnx", {"batch": 8}) == 8 * counted


def vit(width, layers, patch, side=224, heads=6):
    """A vision transformer's products, with an open batch and shapes that are computed, as exporters write them."""
    tokens = (side // patch) ** 2
    constants = {"minus": np.array([-1]), "three": np.array([3]), "heads": np.array([heads])}
    constants |= {"each": np.array([width // heads]), "wide": np.array([width]), "tokens": np.array([tokens])}
    weights = {"patches": [width, 3, patch, patch]}
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "patches"], ["grid"], strides=[patch, patch]),
        make("Shape", ["grid"], ["n"], end=1),
        make("Concat", ["n", "wide", "minus"], ["to_rows"], axis=0),
        make("Reshape", ["grid", "to_rows"], ["rows"]),
        make("Transpose", ["rows"], ["h0"], perm=[0, 2, 1]),
        make("Squeeze", ["n"], ["scalar"]),
        make("Reshape", ["scalar", "minus"], ["again"]),  # onnx's own inference does not follow this
        make("Concat", ["again", "tokens", "heads", "each"], ["to_heads"], axis=0),
        make("Concat", ["again", "tokens", "wide"], ["to_tokens"], axis=0),
    ]
    for layer in range(layers):
        now = f"h{layer}"
        weights |= {f"{part}{layer}": [width, width] for part in "qkvo"}
        weights |= {f"up{layer}": [width, 4 * width], f"down{layer}": [4 * width, width]}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes += [
                make("MatMul", [now, f"{part}{layer}"], [f"{part}{layer}_"]),
                make("Reshape", [f"{part}{layer}_", "to_heads"], [f"{part}{layer}_s"]),
                make("Transpose", [f"{part}{layer}_s"], [f"{part}{layer}_t"], perm=order),
            ]
        nodes += [
            make("MatMul", [f"q{layer}_t", f"k{layer}_t"], [f"score{layer}"]),
            make("Softmax", [f"score{layer}"], [f"share{layer}"]),
            make("MatMul", [f"share{layer}", f"v{layer}_t"], [f"mixed{layer}"]),
            make("Transpose", [f"mixed{layer}"], [f"mixed{layer}_t"], perm=[0, 2, 1, 3]),
            make("Reshape", [f"mixed{layer}_t", "to_tokens"], [f"joined{layer}"]),
            make("MatMul", [f"joined{layer}", f"o{layer}"], [f"out{layer}"]),
            make("MatMul", [f"out{layer}", f"up{layer}"], [f"wide{layer}"]),
            make("MatMul", [f"wide{layer}", f"down{layer}"], [f"h{layer + 1}"]),
        ]
    return model(nodes, {"x": ["batch", 3, side, side]}, {f"h{layers}": None}, weights, constants=constants)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_vision_transformer_with_computed_shapes_is_counted(batch):
    """ViT-S/14 at 224: about 6 G multiply-accumulates. The weights have sizes and no values: none are read."""
    width, layers, tokens = 384, 12, 256
    linear = 12 * width * width * tokens  # q, k, v, o and twice four widths
    mixing = 2 * tokens * tokens * width
    by_hand = layers * (linear + mixing) + tokens * 3 * 14 * 14 * width
    assert macs_of(vit(width, layers, 14), {"batch": batch}) == batch * by_hand
    assert by_hand == pytest.approx(6.1e9, rel=0.02)


def test_a_model_whose_values_are_all_in_another_file_is_counted(tmp_path: Path) -> None:
    """Shapes are read from there; weights are not, so that it matters nothing that they are gone."""
    weights = {"w": np.ones((2000, 3), np.float32), "to_rows": np.array([-1, 2000])}
    nodes = [helper.make_node("Reshape", ["x", "to_rows"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])]
    graph = model(nodes, {"x": ["batch", 20, 100]}, {"y": None}, constants=weights)
    onnx.save_model(graph, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert flops_of(tmp_path / "m.onnx", {"batch": 5}) == 2 * 5 * 2000 * 3
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        flops_of(tmp_path / "m.onnx")


def test_functions_are_looked_into():
    inner = helper.make_node("MatMul", ["a", "b"], ["c"])
    linear = helper.make_function("own", "Linear", ["a", "b"], ["c"], [inner], [helper.make_opsetid("", 20)])
    node = helper.make_node("Linear", ["x", "w"], ["y"], domain="own")
    assert macs_of(model([node], {"x": [5, 7]}, {"y": None}, {"w": [7, 3]}, [linear])) == 105


def test_eight_bits_are_as_much_work(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    real = model(nodes, {"x": ["batch", 16]}, {"y": ["batch", 8]}, constants={"w": weights})
    onnx.save(real, tmp_path / "real.onnx")
    quantize_dynamic(tmp_path / "real.onnx", tmp_path / "int8.onnx")
    assert flops_of(tmp_path / "int8.onnx") == flops_of(tmp_path / "real.onnx") == 2 * 16 * 8


def looping():
    """A product inside of an If: how often it is run nobody knows."""
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"])], "i", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )
    node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    return model([node], {"x": [5, 7]}, {"y": None}, {"w": [7, 3]}, constants={"yes": np.array(True)})


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (looping(), "the work of a If cannot be counted"),
        (one("LSTM", ["x", "w", "r"], [3, 1, 4], {"w": [1, 20, 4], "r": [1, 20, 5]}, hidden_size=5), "of a LSTM"),
        (one("MultiHeadAttention", ["x"], [1, 4, 8], domain="com.microsoft", num_heads=2), "MultiHeadAttention"),
        (one("FusedMatMul", ["x", "w"], [5, 7], {"w": [7, 3]}, domain="com.microsoft"), "y has no known shape"),
        (one("MatMul", ["x", "w"], [5, 7], {"w": [8, 3]}), "y has no known shape"),
    ],
)
def test_what_cannot_be_counted_is_told(graph, told):
    with pytest.raises(BundleError, match=told):
        macs_of(graph)


@pytest.mark.parametrize("content", [b"this is no graph at all", b"\x08\x0a\x3a\xff\xff\xff\x7f"])
def test_a_file_that_is_no_model_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot be read.*model\.onnx"):
        flops_of(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        flops_of(tmp_path / "missing.onnx")
