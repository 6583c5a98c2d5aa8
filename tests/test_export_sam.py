"""SAM's image features and its decoder, against transformers, on tiny seeded SAMs. Needs the extra `export`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellvigil.data import Fit
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import BundleError, UsageError
from cellvigil_export import golden
from cellvigil_export.make import export
from cellvigil_export.segmenter_trial import trial
from cellvigil_export.zoo import declared

torch = pytest.importorskip("torch", reason="needs the extra `export`")
pytest.importorskip("transformers", reason="needs the extra `export`")
from safetensors.torch import save_file  # noqa: E402 - only there beside torch

import sam_networks as networks  # noqa: E402 - imports torch
from cellvigil_export import sam, sam_decoder, sam_names  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

HERE = Path("here")
BASE = declared("sam-vit-base")
TINY = replace(
    BASE,
    name="tiny-sam",
    width=networks.WIDTH,
    dimension=32,
    preprocessing=replace(BASE.preprocessing, fit=Fit(networks.SIDE, "bilinear")),
)


@pytest.fixture(scope="module")
def network() -> Any:
    return networks.network()


def apart(got: Any, wanted: Any) -> float:
    """The largest difference as a share of the largest number."""
    return float((got - wanted).abs().max() / wanted.abs().max())


def test_both_namings_are_the_same_tensors_to_the_bit(network: Any) -> None:
    wanted = networks.named_by_transformers(network)
    got = sam_names.renamed(networks.named_by_authors(network))
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_what_transformers_ties_may_be_saved_twice(network: Any) -> None:
    assert sam_names.renamed(network.state_dict()).keys() == networks.named_by_transformers(network).keys()


@pytest.mark.parametrize("band", [1, 20_000, 64 << 20], ids=["row by row", "some rows", "whole"])
def test_attention_in_bands_is_attention(network: Any, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam, "_BAND", band)
    state = sam_names.renamed(networks.named_by_authors(network))
    encoder = sam.image_encoder(state, TINY, HERE)
    pixels = torch.randn((2, 3, networks.SIDE, networks.SIDE), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert apart(encoder(pixels), network.vision_encoder(pixels).last_hidden_state) <= 1e-5


@pytest.mark.parametrize("kind", [0, 1, 3], ids=["points", "boxes", "points and boxes"])
def test_the_decoder_is_that_of_transformers(network: Any, kind: int) -> None:
    asked = trial(networks.SIDE).prompts
    decoder = sam_decoder.prompt_decoder(networks.named_by_transformers(network), networks.SIDE, HERE)
    features = torch.randn((1, 32, 8, 8), generator=torch.Generator().manual_seed(2))
    points, labels = (torch.from_numpy(each) for each in (asked[kind].points, asked[kind].labels))
    with torch.inference_mode():
        masks, iou = decoder(features, points, labels)
        for multimask, tokens in ((True, slice(1, None)), (False, slice(0, 1))):
            wanted = network(
                image_embeddings=features,
                input_points=None if kind == 1 else points[None, :, :1],
                input_labels=None if kind == 1 else labels[None, :, :1],
                input_boxes=None if kind == 0 else points[None, :, -2:].flatten(2),
                multimask_output=multimask,
            )
            assert apart(masks[:, tokens], wanted.pred_masks[0]) <= 1e-4
            assert apart(iou[:, tokens], wanted.iou_scores[0]) <= 1e-4


def test_features_are_exported_from_both_namings_alike(network: Any, tmp_path: Path) -> None:
    checkpoints = (networks.folder(tmp_path / "hub", network), networks.file(tmp_path / "sam.pth", network))
    bundles = [export(TINY, weights=path, out=tmp_path / path.suffix.lstrip(".") / "out") for path in checkpoints]
    assert bundles[0].sha256 == bundles[1].sha256
    pictures = golden.pictures(3, networks.SIDE, 3, seed=4)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((pictures / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = network.vision_encoder(pixels).last_hidden_state.mean((2, 3)).numpy()
    got = open_session(bundles[0], device="cpu").embed(pictures)
    assert float(one_minus_cosine(got, wanted).max()) <= 1e-6


def without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: without(state, "image_encoder.blocks.1.mlp.lin2.bias"), "missing: .*layers.1.mlp.lin2.bias"),
        (lambda state: {**state, "image_encoder.blocks.1.extra": torch.zeros(1)}, "unexpected: .*layers.1.extra"),
        (
            lambda state: {**state, "image_encoder.neck.1.bias": torch.zeros(5)},
            "another shape: .*neck.layer_norm1.bias",
        ),
        (lambda state: without(state, "image_encoder.pos_embed"), "not a SAM"),
        (lambda _: {"layer.weight": torch.zeros(2, 2)}, "not a SAM"),
        (
            lambda state: {**state, "image_encoders.x": torch.zeros(1), "adapter.weight": torch.zeros(1)},
            r"not a SAM \(unexpected: adapter\.weight, image_encoders\.x\)",
        ),
    ],
    ids=["missing", "unexpected", "shape", "no positions", "another network", "of no part"],
)
def test_weights_that_do_not_fit_are_refused(network: Any, change: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save(change(networks.named_by_authors(network)), path)
    with pytest.raises(BundleError, match=told):
        export(TINY, weights=path, out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_another_size_of_sam_is_refused(network: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"width 32 for 128 pixels is not sam-vit-base"):
        export(BASE, weights=networks.file(tmp_path / "sam.pth", network), out=tmp_path / "out")


def test_a_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}', encoding="utf-8")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(BundleError, match="that of a dinov2, not of a SAM"):
        export(TINY, weights=tmp_path, out=tmp_path / "out")


def test_a_truncated_file_is_refused(network: Any, tmp_path: Path) -> None:
    path = networks.file(tmp_path / "sam.pth", network)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BundleError, match="not a plain checkpoint"):
        export(TINY, weights=path, out=tmp_path / "out")


def test_what_to_bring_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mobile_sam\.pt"):
        export(declared("mobile-sam-features"), weights=None, out=tmp_path)
