"""Checkpoints of transformers that do not fit, or are not what they are said to be. Needs the extra `export`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellvigil.data import Fit
from cellvigil.errors import BundleError, CellvigilError
from cellvigil_export.zoo import declared

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
from safetensors.torch import load_file, save_file  # noqa: E402 - only there beside torch

from cellvigil_export import vision  # noqa: E402 - imports torch
from vision_networks import PATCHES, saved, whole  # noqa: E402 - imports torch

pytestmark = pytest.mark.export


def altered(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        state = load_file(saved(whole("vit"), folder) / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return prepare


def described_as(**settings: Any) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        saved(whole("vit"), folder)
        config = json.loads((folder / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps(config))

    return prepare


def unknown_size(folder: Path) -> None:
    saved(whole("vit"), folder, side=40)


def words_only(folder: Path) -> None:
    small = {**PATCHES, "vocab_size": 50, "image_size": None, "patch_size": None}
    network = transformers.BertModel(transformers.BertConfig(**{k: v for k, v in small.items() if v is not None}))
    saved(network, folder)


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (
            altered(lambda state: state.pop("layernorm.bias")),
            r"is not a vit of its configuration \(missing: layernorm\.bias\)",
        ),
        (altered(lambda state: state.update(extra=torch.zeros(2))), r"unexpected: extra\)"),
        (altered(lambda state: state.update({"layernorm.bias": torch.zeros(7)})), r"of another shape: layernorm\.bias"),
        (altered(lambda state: state.clear()), "missing: .*embeddings"),
        (described_as(num_hidden_layers=1), "unexpected: .*1.*"),
        (described_as(num_hidden_layers=3), "missing: .*2.*"),
        (described_as(model_type="beit"), "the checkpoint is not a beit of its configuration"),
        (described_as(model_type="no such thing"), "the configuration cannot be read"),
        (described_as(hidden_size="x"), "the configuration cannot be read|no vit can be made"),
        (described_as(hidden_size=31), "no vit can be made|of another shape"),
        (unknown_size, "takes no pictures of 40 px"),
        (words_only, "a bert is no encoder of pictures"),
        (lambda folder: (saved(whole("vit"), folder) / "config.json").unlink(), r"config\.json is missing"),
        (
            lambda folder: (saved(whole("vit"), folder) / "preprocessor_config.json").unlink(),
            r"preprocessor_config\.json is missing.*as transformers saves it",
        ),
        (lambda folder: (saved(whole("vit"), folder) / "model.safetensors").unlink(), r"holds no model\.safetensors"),
        (
            lambda folder: (saved(whole("vit"), folder) / "model.safetensors").write_bytes(b"\xff" * 99),
            "not a plain checkpoint of tensors",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, prepare: Callable[[Path], object], complaint: str
) -> None:
    prepare(tmp_path / "folder")
    with pytest.raises(CellvigilError, match=complaint) as caught:
        vision.declared_by(tmp_path / "folder", "mine", "MIT")
    assert "\n" not in str(caught.value)


def test_another_checkpoint_under_a_declared_name_is_refused(tmp_path: Path) -> None:
    folder = saved(whole("beit"), tmp_path / "beit")
    with pytest.raises(BundleError, match="that of a beit, not of a clip"):
        vision.make(declared("clip-vit-large"), folder, tmp_path / "model.onnx")
    large = saved(whole("clip"), tmp_path / "clip", side=336)
    with pytest.raises(BundleError, match=r"pictures are 336 px wide, those of clip-vit-large 224 .*--checkpoint"):
        vision.make(declared("clip-vit-large"), large, tmp_path / "model.onnx")
    (large / "preprocessor_config.json").unlink()
    with pytest.raises(BundleError, match="takes no pictures of 224 px"):
        vision.make(declared("clip-vit-large"), large, tmp_path / "model.onnx")
    fits = replace(declared("clip-vit-large").preprocessing, fit=Fit(32))
    with pytest.raises(BundleError, match="a vector of 32, clip-vit-large has 1024"):
        vision.make(replace(declared("clip-vit-large"), preprocessing=fits), large, tmp_path / "model.onnx")
