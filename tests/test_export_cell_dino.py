"""DINOv2's own names with other channels, patches and vectors: DinoBloom and Cell-DINO. Needs the extra `export`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellvigil.data import Fit
from cellvigil.encoder import one_minus_cosine, open_session
from cellvigil.errors import BundleError
from cellvigil_export import golden
from cellvigil_export.make import export
from cellvigil_export.zoo import declared

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
from cellvigil_export import dinov2, torch_graph  # noqa: E402 - imports torch
from cellvigil_export.checkpoint import held  # noqa: E402 - beside the others
from dinov2_networks import chunked, original_state, original_tokens  # noqa: E402 - imports torch

pytestmark = pytest.mark.export


def self_normalised(pixels: Any) -> Any:
    """As Cell-DINO's evaluation does it: x / 255, then (x - mean) / (std + 1e-7) of each channel. (n, c, y, x)."""
    taken = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) / 255
    mean, std = taken.mean((-2, -1), keepdim=True), taken.std((-2, -1), unbiased=False, keepdim=True)
    return (taken - mean) / (std + 1e-7)


def interpolated(positions: Any, grid: int, patches: int) -> Any:
    """Positions of grid x grid patches for patches x patches, as DINOv2's authors do it (offset 0.1, no antialias)."""
    square = positions[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    scale = float(patches + 0.1) / grid
    resized = torch.nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat((positions[:, :1], resized.permute(0, 2, 3, 1).reshape(1, patches * patches, -1)), 1)


def both(tokens: Any) -> Any:
    return torch.cat((tokens[:, 0], tokens[:, 1:].mean(1)), 1)


CASES = [("cell-dino-cp-s8", 5, 8, 4, 4), ("cell-dino-hpa-l16", 4, 16, 2, 3)]  # channels, patch, grid held, grid asked


@pytest.mark.parametrize(("name", "channels", "patch", "grid", "patches"), CASES)
def test_cell_dino_gives_what_its_authors_code_gives(
    tmp_path: Path, name: str, channels: int, patch: int, grid: int, patches: int
) -> None:
    state = original_state(64, 2, patch, grid, channels=channels)
    torch.save({"teacher": chunked(state)}, tmp_path / "published.pth")
    side = patch * patches
    usual = declared(name)
    assert (usual.channels, usual.preprocessing.own) == (channels, True)
    small = replace(usual, dimension=128, preprocessing=replace(usual.preprocessing, fit=Fit(side)))
    bundle = export(small, weights=tmp_path / "published.pth", out=tmp_path / "encoders")
    pixels = golden.pictures(4, side, channels, seed=8)
    pixels[0, :, :, 1] = 0  # a dark channel, an even one, and one that is nearly so
    pixels[1, :, :, 2] = 77
    pixels[2, :, :, 0] = 77
    pixels[2, 3, 3, 0] = 78
    asked: Mapping[str, Any] = state | {"pos_embed": interpolated(state["pos_embed"], grid, patches)}
    taken = self_normalised(pixels)
    taken[1, 2] = 0  # of an even channel the authors' code gives rounding blown up
    with torch.inference_mode():
        right = both(original_tokens(asked if grid != patches else state, taken)).numpy()
    got = open_session(bundle, device="cpu").embed(pixels)
    assert got.shape == (4, 128)
    assert float(one_minus_cosine(got, right).max()) <= 1e-6
    told = bundle.manifest
    assert "colour" not in told["input"]
    assert told["preprocessing"]["outside_the_graph"] == {"side": side, "resample": "area", "shortest": 0}
    assert "1e-7" in told["preprocessing"]["in_the_graph"]
    assert told["output"]["vector"].startswith("class token and mean of the patches' tokens")
    assert "Noncommercial" in told["licences"]["upstream"]


def test_self_normalisation_forgets_brightness_and_contrast() -> None:
    network = torch.nn.Identity()
    used = declared("cell-dino-cp-s8").preprocessing
    encoder = torch_graph.PictureEncoder(network, lambda _, pixels: pixels, used)
    pixels = golden.pictures(2, 32, 5, seed=9)
    got = encoder(torch.from_numpy(pixels))
    torch.testing.assert_close(got, self_normalised(pixels), rtol=0, atol=1e-5)
    dimmer = encoder(torch.from_numpy(pixels // 2 * 2)) - encoder(torch.from_numpy(pixels // 2))
    assert float(dimmer.abs().max()) < 1e-4


def test_a_folder_with_one_published_file_is_its_checkpoint(tmp_path: Path) -> None:
    state = original_state(64, 1, 8, 4)
    torch.save(state, tmp_path / "DinoBloom-S.pth")
    network = dinov2.published(held(tmp_path))
    with torch.inference_mode():
        pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        got, right = network(pixel_values=pixels).pooler_output, original_tokens(state, pixels)[:, 0]
    torch.testing.assert_close(got, right, rtol=0, atol=1e-5)


def test_another_number_of_channels_is_another_encoder(tmp_path: Path) -> None:
    torch.save(original_state(64, 1, 8, 4, channels=3), tmp_path / "x.pth")
    with pytest.raises(BundleError, match="takes 3 channels, cell-dino-cp-s8 5"):
        dinov2.make_with_patches(declared("cell-dino-cp-s8"), tmp_path / "x.pth", tmp_path / "model.onnx")
