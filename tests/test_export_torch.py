"""Exports against torch itself. Needs the extra `export`; run by `make test-export`."""

import json
import logging
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cellvigil.bundle.encoder import MODEL, EncoderBundle, open_encoder
from cellvigil.data import Fit
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import BundleError, CellvigilError
from cellvigil_export import golden
from cellvigil_export.make import export
from cellvigil_export.zoo import declared

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
from safetensors.torch import save_file  # noqa: E402 - only there beside torch

from cellvigil_export import dinov2  # noqa: E402 - imports torch
from cellvigil_export.loading import load  # noqa: E402 - imports torch
from dinov2_networks import chunked, original_forward, original_state  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

DINOV2 = declared("dinov2-small")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def loaded(state: Mapping[str, Any]) -> Any:
    """A network of transformers with a checkpoint's tensors, named as its authors did."""
    renamed = dinov2.renamed(state)
    return load(transformers.Dinov2Model, dinov2.inferred(renamed, Path("x")), renamed, where=Path("x"))


@pytest.mark.parametrize("swiglu", [False, True], ids=["mlp", "swiglu"])
@pytest.mark.parametrize("saved", [dict, chunked], ids=["plain", "chunked"])
def test_original_names_give_the_original_vectors(saved: Callable[[Any], dict[str, Any]], swiglu: bool) -> None:
    state = original_state(128, 3, 8, 4, swiglu=swiglu)
    network = loaded(saved(state))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, wanted = network(pixel_values=pixels).pooler_output, original_forward(state, pixels)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def network() -> Any:
    """The real architecture: 12 layers of 384, 14-pixel patches, positions of 518-pixel pictures."""
    return loaded(original_state(384, 12, 14, 37))


@pytest.fixture(scope="module")
def bundle(network: Any, tmp_path_factory: pytest.TempPathFactory) -> EncoderBundle:
    folder = tmp_path_factory.mktemp("checkpoint")
    network.save_pretrained(folder)
    return export(DINOV2, weights=folder, out=tmp_path_factory.mktemp("encoders"))


def test_dinov2_gives_what_transformers_gives(bundle: EncoderBundle, network: Any) -> None:
    pixels = golden.pictures(17, 224, 3, seed=12)
    normalised = ((pixels / 255.0 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.inference_mode():  # at 224 pixels it interpolates its 518-pixel positions itself
        wanted = network(pixel_values=torch.from_numpy(normalised.copy())).pooler_output.numpy()
    got = open_session(bundle, device="cpu").embed(pixels)
    assert got.shape == (17, 384)
    assert float(one_minus_cosine(got, wanted).max()) <= 1e-6
    assert float(np.abs(got - wanted).max()) <= 1e-4


def test_its_manifest_says_where_the_weights_came_from(bundle: EncoderBundle) -> None:
    told = bundle.manifest
    assert set(told["source"]["sha256"]) == {"config.json", "model.safetensors"}
    assert "by --weights" in told["source"]["revision"]
    assert told["preprocessing"]["mean"] == MEAN.tolist()
    assert told["parity"]["against"].startswith("torch ")
    assert told["parity"]["max_one_minus_cosine"] <= 1e-6
    assert told["tools"].keys() >= {"torch", "transformers", "onnx", "onnxruntime"}


def test_its_graph_holds_nothing_of_this_machine_and_no_resize(bundle: EncoderBundle) -> None:
    model = onnx.load(bundle.model_path)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = bundle.model_path.read_bytes()
    assert not any(part in content for part in (b"site-packages", os.fsencode(Path.home()), os.fsencode(Path.cwd())))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Resize", "IsNaN", "If", "Loop"}


def test_every_form_of_a_checkpoint_gives_the_same_encoder(tmp_path: Path) -> None:
    state = original_state(384, 1, 14, 5)
    network = loaded(state)
    network.save_pretrained(tmp_path / "folder")
    save_file(network.state_dict(), tmp_path / "new names.safetensors")
    (tmp_path / "old names.safetensors").write_bytes((tmp_path / "folder" / "model.safetensors").read_bytes())
    torch.save({"teacher": {f"backbone.{key}": value for key, value in state.items()}}, tmp_path / "original.pth")
    forms = ["folder", "new names.safetensors", "old names.safetensors", "original.pth"]
    made = [export(DINOV2, weights=tmp_path / form, out=tmp_path / "out" / form) for form in forms]
    assert len({bundle.sha256 for bundle in made}) == 1
    assert len({bundle.model_path.read_bytes() for bundle in made}) == 1
    assert [list(bundle.manifest["source"]["sha256"]) for bundle in made[1:]] == [[form] for form in forms[1:]]


def tiny_folder(folder: Path, **config: Any) -> Path:
    """A transformers folder of a tiny network of the declared width."""
    settings = {"hidden_size": 384, "num_hidden_layers": 1, "num_attention_heads": 6, "image_size": 28, **config}
    network = transformers.Dinov2Model(transformers.Dinov2Config(**settings))
    network.save_pretrained(folder)
    return folder


def test_its_own_preprocessing_is_followed_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny_folder(tmp_path / "own")
    crop = {"height": 224, "width": 224}
    own = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2, "size": {"shortest_edge": 240}}
    own |= {"image_processor_type": "BitImageProcessor", "do_center_crop": True, "crop_size": crop}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    with caplog.at_level(logging.WARNING, logger="cellvigil"):
        bundle = export(DINOV2, weights=folder, out=tmp_path / "encoders")
    assert "differs from the usual preprocessing" in caplog.text
    assert bundle.manifest["preprocessing"]["mean"] == [0.5] * 3
    assert bundle.manifest["preprocessing"]["outside_the_graph"] == asdict(Fit(224, "bilinear", shortest=240))
    assert "preprocessor_config.json" in bundle.manifest["source"]["sha256"]
    pixels = golden.pictures(2, 224, 3, seed=1)
    usual = open_session(export(DINOV2, weights=tiny_folder(tmp_path / "usual"), out=tmp_path / "u"), device="cpu")
    assert usual.bundle.sha256 != bundle.sha256
    assert not np.allclose(usual.embed(pixels), open_session(bundle, device="cpu").embed(pixels), atol=1e-3)


def test_the_weights_of_a_large_model_lie_beside_its_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_folder(tmp_path / "weights")
    whole = open_session(export(DINOV2, weights=weights, out=tmp_path / "whole"), device="cpu")
    monkeypatch.setattr("cellvigil_export.tensors.INLINE_LIMIT", 1000)
    split = open_session(export(DINOV2, weights=weights, out=tmp_path / "split"), device="cpu")
    assert f"{MODEL}.data" in split.bundle.manifest["files"]
    assert split.bundle.model_path.stat().st_size < 100_000
    pixels = golden.pictures(2, 224, 3, seed=2)
    np.testing.assert_array_equal(split.embed(pixels), whole.embed(pixels))


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.flag}",)


def evil(folder: Path) -> Path:
    (folder / "evil.pth").write_bytes(pickle.dumps({"model": Evil(folder / "ran")}))
    return folder / "evil.pth"


def evil_zip(folder: Path) -> Path:
    torch.save({"model": Evil(folder / "ran")}, folder / "evil.pth")
    return folder / "evil.pth"


def garbage(folder: Path) -> Path:
    (folder / "x.safetensors").write_bytes(b"\xff" * 100)
    return folder / "x.safetensors"


def saved(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    state = original_state(384, 1, 14, 2)
    change(state)
    torch.save(state, folder / "x.pth")
    return folder / "x.pth"


def no_config(folder: Path) -> Path:
    tiny_folder(folder)
    (folder / "config.json").unlink()
    return folder


def other_kind(folder: Path) -> Path:
    tiny_folder(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 384}))
    return folder


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (evil, "not a plain checkpoint of tensors"),
        (evil_zip, "not a plain checkpoint of tensors"),
        (garbage, "not a plain checkpoint of tensors"),
        (lambda folder: saved(folder, lambda state: state.pop("norm.bias")), r"missing: layernorm\.bias\)"),
        (lambda folder: saved(folder, lambda state: state.update(extra=state["norm.bias"])), r"unexpected: extra\)"),
        (lambda folder: saved(folder, lambda state: state.pop("pos_embed")), "not a DINOv2"),
        (
            lambda folder: saved(folder, lambda state: state.update(pos_embed=torch.zeros(1, 9, 384))),
            "8 positions make no square",
        ),
        (
            lambda folder: saved(folder, lambda state: state.update({"norm.bias": torch.zeros(7)})),
            r"of another shape: layernorm\.bias\)",
        ),
        (lambda folder: tiny_folder(folder, hidden_size=128, num_attention_heads=2), "a vector of 128"),
        (no_config, r"lacks config\.json"),
        (other_kind, "that of a vit, not of a dinov2"),
        (lambda folder: saved(folder, lambda state: state.update(step=3)), "not a plain checkpoint of tensors"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, weights: Callable[[Path], Path], complaint: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = weights(source)
    with pytest.raises(CellvigilError, match=complaint) as caught:
        export(DINOV2, weights=path, out=tmp_path / "encoders")
    assert "\n" not in str(caught.value)
    assert not (source / "ran").exists()
    assert not list((tmp_path / "encoders").iterdir())


def test_a_bundle_that_lost_its_model_is_refused(bundle: EncoderBundle, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in bundle.folder.iterdir():
        if path.name != MODEL:
            (copy / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BundleError, match=rf"{MODEL} is missing"):
        open_encoder(copy)
