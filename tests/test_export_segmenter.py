"""Segmenter bundles, made of tiny seeded SAMs. Needs the extra `export`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cellvigil.bundle.segmenter import (
    DECODER,
    ENCODER,
    EXTENT,
    FEATURES,
    IMAGE,
    IOU,
    LABELS,
    MASKS,
    POINTS,
    SegmenterBundle,
)
from cellvigil.data import Fit
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import cli, parity
from cellvigil_export.segmenter_make import export_segmenter
from cellvigil_export.segmenter_trial import trial
from cellvigil_export.segmenters import SEGMENTERS

torch = pytest.importorskip("torch", reason="needs the extra `export`")
pytest.importorskip("transformers", reason="needs the extra `export`")
import sam_networks as networks  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

SIDE = networks.SIDE
SAM = SEGMENTERS["sam-vit-base-segmenter"]
TINY = replace(
    SAM,
    name="tiny-segmenter",
    width=networks.WIDTH,
    dimension=32,
    preprocessing=replace(SAM.preprocessing, fit=Fit(SIDE, "bilinear")),
)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def network() -> Any:
    return networks.network()


@pytest.fixture(scope="module")
def tiny(network: Any, tmp_path_factory: pytest.TempPathFactory) -> SegmenterBundle:
    folder = tmp_path_factory.mktemp("tiny")
    return export_segmenter(TINY, weights=networks.file(folder / "sam.pth", network), out=folder)


def opened(bundle: SegmenterBundle) -> tuple[Any, Any]:
    return tuple(parity.lean(path, threads=1) for path in (bundle.encoder_path, bundle.decoder_path))


def segmented(network: Any, image: Any, **prompts: Any) -> tuple[Any, Any]:
    """Masks (p, 4, side / 4, side / 4) and IoU (p, 4) of a normalised picture by transformers' own SAM."""
    both = [network(pixel_values=image, multimask_output=multi, **prompts) for multi in (False, True)]
    return (
        torch.cat([given.pred_masks[0] for given in both], 1).numpy(),
        torch.cat([given.iou_scores[0] for given in both], 1).numpy(),
    )


@pytest.mark.parametrize("count", [1, 3, 16])
def test_a_bundle_segments_as_transformers_does(network: Any, tiny: SegmenterBundle, count: int) -> None:
    asked = trial(SIDE)
    pixels = ((asked.image / 255 - MEAN) / STD).astype(np.float32)
    pixels[:, asked.extent[0] :] = 0  # padded after it is normalised
    box = asked.prompts[1]
    with torch.inference_mode():
        image = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        wanted = segmented(network, image, input_boxes=torch.from_numpy(box.points[None, :count].reshape(1, count, 4)))
    encoder, decoder = opened(tiny)
    features = encoder.run([FEATURES], {IMAGE: asked.image, EXTENT: asked.extent})[0]
    given = {FEATURES: features, POINTS: box.points[:count], LABELS: box.labels[:count]}
    masks, iou = decoder.run([MASKS, IOU], given)
    assert masks.shape == (count, 4, SIDE // 4, SIDE // 4)
    assert np.abs(masks - wanted[0]).max() <= 1e-4 * np.abs(wanted[0]).max()
    assert np.abs(iou - wanted[1]).max() <= 1e-4 * np.abs(wanted[1]).max()


def test_what_is_outside_the_extent_is_not_seen(tiny: SegmenterBundle) -> None:
    asked = trial(SIDE)
    black = asked.image.copy()
    black[:, asked.extent[0] :] = 0
    encoder, _ = opened(tiny)
    runs = [encoder.run([FEATURES], {IMAGE: image, EXTENT: asked.extent})[0] for image in (asked.image, black)]
    whole = encoder.run([FEATURES], {IMAGE: asked.image, EXTENT: np.array([SIDE, SIDE])})[0]
    assert np.array_equal(*runs)
    assert not np.allclose(runs[0], whole)


def test_its_golden_pair_is_what_it_gives(tiny: SegmenterBundle) -> None:
    golden = tiny.golden()
    encoder, decoder = opened(tiny)
    features = encoder.run([FEATURES], {IMAGE: golden.image, EXTENT: golden.extent})[0]
    masks, iou = decoder.run([MASKS, IOU], {FEATURES: features, POINTS: golden.points, LABELS: golden.labels})
    assert np.array_equal(features, golden.features)
    assert np.array_equal(masks, golden.masks)
    assert np.array_equal(iou, golden.iou)


def test_its_graphs_are_valid_and_tell_nothing_of_the_machine(tiny: SegmenterBundle) -> None:
    for name in (ENCODER, DECODER):
        model = onnx.load(tiny.folder / name)
        onnx.checker.check_model(model, full_check=True)
        assert str(Path.cwd()).encode() not in (tiny.folder / name).read_bytes()
        assert "Resize" not in {node.op_type for node in model.graph.node}


def test_its_manifest_says_what_it_is(tiny: SegmenterBundle) -> None:
    manifest = tiny.manifest
    assert manifest["kind"] == "segmenter"
    assert manifest["licences"] == {"upstream": "Apache-2.0", "weights": "Apache-2.0"}
    assert list(manifest["source"]["sha256"]) == ["sam.pth"]
    assert manifest["preprocessing"]["outside_the_graph"]["longest"] == SIDE
    assert manifest["parity"]["masks_one_minus_cosine"] <= 1e-6


def test_both_namings_give_the_same_bundle(network: Any, tiny: SegmenterBundle, tmp_path: Path) -> None:
    other = export_segmenter(TINY, weights=networks.folder(tmp_path / "hub", network), out=tmp_path / "out")
    assert other.sha256 == tiny.sha256


def changed(network: Any, **tensors: Any) -> dict[str, Any]:
    state = {
        **networks.named_by_authors(network),
        **{name.replace("__", "."): value for name, value in tensors.items()},
    }
    return {name: tensor for name, tensor in state.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"mask_decoder__iou_token__weight": None}, "no mask decoder"),
        ({"mask_decoder__mask_tokens__weight": None}, r"missing: mask_decoder\.mask_tokens\.weight"),
        ({"prompt_encoder__spare__weight": networks.torch.zeros(1)}, r"unexpected: prompt_encoder\.spare\.weight"),
        ({"image_encoder__neck__3__bias": None}, r"missing: .*neck\.layer_norm2\.bias"),
    ],
    ids=["no decoder", "missing", "unexpected", "image encoder"],
)
def test_weights_that_do_not_fit_are_refused(network: Any, tensors: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save(changed(network, **tensors), path)
    with pytest.raises(BundleError, match=told):
        export_segmenter(TINY, weights=path, out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_image_features_alone_make_no_segmenter(network: Any, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in networks.named_by_authors(network).items() if "image_encoder" in name}
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(BundleError, match="no mask decoder"):
        export_segmenter(TINY, weights=tmp_path / "sam.pth", out=tmp_path / "out")


def test_a_bundle_is_replaced_only_when_asked(network: Any, tiny: SegmenterBundle) -> None:
    with pytest.raises(BundleError, match="already"):
        export_segmenter(TINY, weights=tiny.folder.parent / "sam.pth", out=tiny.folder.parent)


def test_a_lower_precision_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="fp32, not in fp16"):
        export_segmenter(TINY, weights=tmp_path, out=tmp_path, precision="fp16")
    assert cli.main(["run", "mobile-sam", "--weights", str(tmp_path), "--precision", "fp16"]) == 2
    assert "fp32" in capsys.readouterr().err
