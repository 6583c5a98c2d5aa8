"""Checkpoints as transformers lays them out, against transformers itself. Needs the extra `export`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cellvigil.bundle.encoder import OUTPUT_NAME, open_encoder
from cellvigil.data import Fit
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import UsageError
from cellvigil_export import golden, parity
from cellvigil_export.checkpoint import held, tensors
from cellvigil_export.cli import main
from cellvigil_export.declaration import Declaration
from cellvigil_export.zoo import declared

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
from safetensors.torch import load_file, save_file  # noqa: E402 - only there beside torch

from cellvigil_export import vision  # noqa: E402 - imports torch
from cellvigil_export.loading import load  # noqa: E402 - imports torch
from vision_networks import SIDES, saved, seeded, wanted, whole  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

KINDS = [
    "beit",
    "clip",
    "convnextv2",
    "dinov2",
    "dinov2 (swiglu)",
    "resnet",
    "siglip",
    "siglip (tower)",
    "swinv2",
    "vit",
    "vit (classifier)",
    "vit_mae",
]
POOLED = {
    "vit (classifier)": "class token of last_hidden_state",
    "vit_mae": "class token after the last norm, no patch masked",
}


def noise(side: int) -> Any:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_checkpoint_gives_the_vectors_of_transformers_to_the_bit(tmp_path: Path, kind: str) -> None:
    network, side = whole(kind), SIDES.get(kind, 32)
    network.set_attn_implementation("eager")
    folder = saved(network, tmp_path / "folder")
    opened = vision.opened(held(folder), "")
    vector = vision.vector_of(opened, side, 3, where=folder)
    pixels = noise(side)
    with torch.inference_mode():
        got, right = vector.taken(opened, pixels), wanted(kind, network, pixels)
    assert vector.told == POOLED.get(kind, "pooler_output")
    assert torch.equal(got, right)
    assert float(got.std()) > 0.1


# As they lie on the hub, where transformers 5 finds other names than its own: as recalled of facebook/vit-mae-huge,
# facebook/dinov2-small, openai/clip-vit-large-patch14 and microsoft/swinv2-large-patch4-window12-192-22k.
PUBLISHED = {
    "clip": {
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.pre_layrnorm.weight",
        "logit_scale",
    },
    "dinov2": {"encoder.layer.0.attention.attention.query.weight", "encoder.layer.1.layer_scale1.lambda1"},
    "swinv2": {"swinv2.encoder.layers.0.blocks.0.attention.self.logit_scale", "classifier.weight"},
    "vit_mae": {"vit.encoder.layer.0.attention.attention.query.weight", "decoder.mask_token"},
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_these_checkpoints_have_the_names_that_the_hub_has(tmp_path: Path, kind: str) -> None:
    assert load_file(saved(whole(kind), tmp_path / "x") / "model.safetensors").keys() >= PUBLISHED[kind]


def shrunk(name: str, folder: Path, side: int) -> Declaration:
    """A declared encoder at the size of a tiny network."""
    dimension = vision.declared_by(folder, "x", "MIT").dimension
    usual = declared(name).preprocessing
    return replace(declared(name), dimension=dimension, preprocessing=replace(usual, fit=Fit(side)))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("clip-vit-large", "clip"),
        ("convnextv2-large", "convnextv2"),
        ("swinv2-large", "swinv2"),
        ("vit-mae-huge", "vit_mae"),
    ],
)
def test_a_declared_encoder_gives_in_onnx_what_it_gives_in_torch(tmp_path: Path, name: str, kind: str) -> None:
    side = SIDES.get(kind, 32)
    folder = saved(whole(kind), tmp_path / "folder", side=side)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match=r"preprocessor_config\.json is missing"):
        vision.declared_by(folder, "x", "MIT")
    saved(whole(kind), folder, side=side)
    declaration = shrunk(name, folder, side)
    made = vision.make(declaration, folder, tmp_path / "model.onnx")
    pixels = golden.pictures(3, side, 3, seed=4)
    session = parity.opened(tmp_path / "model.onnx", threads=1)
    right = made.reference(pixels)
    for batch in (1, 3):
        (got,) = session.run([OUTPUT_NAME], {"pixels": pixels[:batch]})
        assert float(one_minus_cosine(got, right[:batch]).max()) <= 1e-6
    assert made.preprocessing.mean == (0.5,) * 3
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert not kinds & {"Resize", "IsNaN", "If", "Loop", "RandomUniform", "RandomUniformLike", "TopK"}


def test_any_other_checkpoint_exports_by_its_own_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(whole("resnet"), tmp_path / "My ResNet")
    command = ["run", "--checkpoint", str(folder), "--licence", "CC-BY-NC-4.0", "--out", str(tmp_path / "encoders")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "NOT FOR COMMERCIAL USE" in said
    assert "16-d vectors out: pooler_output" in said
    bundle = open_encoder(tmp_path / "encoders" / "my-resnet")
    assert bundle.manifest["preprocessing"]["outside_the_graph"] == {"side": 32, "resample": "bicubic", "shortest": 0}
    assert bundle.manifest["preprocessing"]["mean"] == [0.5] * 3
    assert bundle.manifest["licences"] == {"upstream": "CC-BY-NC-4.0", "weights": "CC-BY-NC-4.0"}
    pixels = golden.pictures(3, 32, 3, seed=5)
    taken = torch.from_numpy(((pixels / 255.0 - 0.5) / 0.25).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        right = wanted("resnet", whole("resnet"), taken).numpy()
    assert float(one_minus_cosine(open_session(bundle, device="cpu").embed(pixels), right).max()) <= 1e-6


def test_positions_of_another_size_are_baked_in(tmp_path: Path) -> None:
    network, side = whole("dinov2"), 48
    folder = saved(network, tmp_path / "folder", side=side)
    declaration = vision.declared_by(folder, "x", "MIT")
    made = vision.make(declaration, folder, tmp_path / "model.onnx")
    assert not {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node} & {"Resize"}
    pixels = golden.pictures(2, side, 3, seed=6)
    taken = torch.from_numpy(((pixels / 255.0 - 0.5) / 0.25).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():  # it brings its 32-pixel positions to this size itself
        right = wanted("dinov2", network, taken).numpy()
    assert float(one_minus_cosine(made.reference(pixels), right).max()) <= 1e-6


# The forms of a checkpoint's tensors.
def in_shards(folder: Path) -> None:
    saved(whole("vit"), folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2


def as_pickle(folder: Path) -> None:
    saved(whole("vit"), folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def beside_a_broken_pickle(folder: Path) -> None:
    saved(whole("vit"), folder)
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")


def in_halves(folder: Path) -> None:
    network = seeded(whole("vit"))
    saved(network.half(), folder)


@pytest.mark.parametrize("form", [in_shards, as_pickle, beside_a_broken_pickle, in_halves])
def test_every_form_of_its_tensors_is_read(tmp_path: Path, form: Callable[[Path], None]) -> None:
    form(tmp_path / "folder")
    opened = vision.opened(held(tmp_path / "folder"), "vit")
    assert {weight.dtype for weight in opened.parameters()} == {torch.float32}
    with torch.inference_mode():
        got, right = (one(pixel_values=noise(32)).pooler_output for one in (opened, whole("vit")))
    torch.testing.assert_close(got, right, rtol=0, atol=1e-2 if form is in_halves else 1e-6)


def test_what_old_releases_saved_without_need_is_no_stranger(tmp_path: Path) -> None:
    folder = saved(whole("clip"), tmp_path / "folder")
    state = load_file(folder / "model.safetensors")
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert vision.declared_by(folder, "x", "MIT").dimension == 32


@pytest.mark.parametrize("form", [in_shards, as_pickle])
def test_the_weights_are_held_once(tmp_path: Path, form: Callable[[Path], None]) -> None:
    form(tmp_path / "folder")
    checkpoint = held(tmp_path / "folder")
    state = tensors(checkpoint)
    config = vision.configured(tmp_path / "folder" / "config.json", "vit")
    network = load(transformers.ViTModel, config, state, where=tmp_path)
    mine, theirs = (
        {tensor.data_ptr() for tensor in held_.values()} for held_ in (dict(network.named_parameters()), state)
    )
    assert mine == theirs
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert all(str(path) in mapped for path in checkpoint.tensors)
