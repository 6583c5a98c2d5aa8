"""An encoder sees what its checkpoint's own image processor makes of the same cell, SAM as a segmenter what its own
makes of the same frame: at most one grey level apart.

Ours: `normalize` cuts and fits, the graph normalises. Theirs: transformers' image processor on the cell as it was cut,
made from the file that comes with the checkpoint; it resizes by Pillow. Where torchvision is installed it resizes by
torch, on 8-bit tensors, and is not to the bit what it is without: that is held against ours too, without torchvision.
Run by `make test-export`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellvigil.bundle.encoder import INPUT_NAME, OUTPUT_NAME
from cellvigil.data import F32, U8, Fit
from cellvigil.device import runtime
from cellvigil.normalize import crops
from cellvigil.resample import fitted
from cellvigil.segment.sam_tiles import picture_of, tiles_of
from cellvigil_export.declaration import Preprocessing
from cellvigil_export.preprocessor import FILE, preprocessing_of
from cellvigil_export.segmenters import SEGMENTERS
from cellvigil_export.zoo import declared
from published_processors import PUBLISHED
from real_cells import photographs

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")

from cellvigil_export import torch_graph  # noqa: E402 - imports torch

pytestmark = pytest.mark.export

WIDTHS = (71, 223, 224, 225, 301)
"""Sides of a cell as it was cut, pixels."""

Normalised = Callable[[U8], F32]


@pytest.fixture(scope="module")
def in_the_graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Preprocessing, int], Normalised]:
    """The exported normalisation alone: pictures (n, side, side, C) u8 in, (n, C, side, side) f32 out."""
    folder = tmp_path_factory.mktemp("graphs")

    @functools.cache
    def made(used: Preprocessing, channels: int) -> Normalised:
        encoder = torch_graph.PictureEncoder(torch.nn.Identity(), lambda model, pixels: model(pixels), used)
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        torch_graph.write(encoder.eval(), (used.fit.side, used.fit.side, channels), path)
        session = runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda pixels: np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0])

    return lambda used, channels: made(replace(used, fit=Fit(used.fit.side)), channels)


def _widths(fit: Fit) -> tuple[int, ...]:
    return WIDTHS if fit.side < 512 else WIDTHS[:2]  # large pictures take long


def cells(root: Path, width: int, fit: Fit) -> tuple[U8, U8]:
    """Real cells as they were cut, (n, width, width, 3) u8, and by the fit, (n, side, side, 3) u8."""
    as_cut, by_fit = [], []
    for image, rule, centres in photographs(root):
        cut = replace(rule, crop_um=width * rule.pixel_size_um)
        for kept, how in ((as_cut, Fit(width)), (by_fit, fit)):
            pixels = crops(image, centres, cut, fit=how).pixels
            kept.append(np.repeat(pixels, 3 // pixels.shape[-1], axis=-1))
    return np.concatenate(as_cut), np.concatenate(by_fit)


CONFIGS = {json.dumps(config): name for name, config in PUBLISHED.items()}
"""Each once, by one of the encoders that it belongs to."""

FITS = sorted({preprocessing_of(PUBLISHED[name]).fit for name in CONFIGS.values()}, key=str)


@pytest.mark.parametrize("name", sorted(CONFIGS.values()))
def test_an_encoder_sees_what_its_own_image_processor_makes(
    name: str, real_images: Path, tmp_path: Path, in_the_graph: Callable[[Preprocessing, int], Normalised]
) -> None:
    (tmp_path / FILE).write_text(json.dumps(PUBLISHED[name]))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    used = preprocessing_of(PUBLISHED[name])  # which is what is declared: test_export_preprocessor.py
    normalised = in_the_graph(used, 3)
    level = np.array([used.scale / deviation for deviation in used.std]).reshape(1, 3, 1, 1)
    for width in _widths(used.fit):
        as_cut, pictures = cells(real_images, width, used.fit)
        for whole, picture in zip(as_cut, pictures, strict=True):
            wanted = np.asarray(processor(whole, return_tensors="np")["pixel_values"])
            apart = np.abs(normalised(picture[None]) - wanted) / level
            assert wanted.shape == (1, 3, used.fit.side, used.fit.side)
            assert float(apart.max()) <= 1.0  # grey levels; what differs at all is that of rounding to float32
            assert float((apart < 0.01).mean()) >= 0.999


CLASSES = (
    *("Beit", "Bit", "CLIP", "ConvNext", "DeiT", "EfficientNet", "Levit", "MobileNetV1", "MobileNetV2", "PoolFormer"),
    *("Pvt", "Segformer", "Siglip", "ViT"),  # not DINOv3's: transformers has it for torchvision only
)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("said", [{}, {"image_std": [0.3, 0.4, 0.5], "rescale_offset": True, "include_top": False}])
def test_what_a_file_leaves_unsaid_is_what_its_class_takes_for_granted(
    kind: str, said: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text(json.dumps({"image_processor_type": f"{kind}ImageProcessor", **said}))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    used = preprocessing_of(json.loads((tmp_path / FILE).read_text()))
    picture = np.random.default_rng(0).integers(0, 256, (301, 301, 3), dtype=np.uint8)
    wanted = np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0]
    got = (fitted(picture, used.fit) * used.scale - np.array(used.mean)) / np.array(used.std)
    np.testing.assert_allclose(got.transpose(2, 0, 1), wanted, atol=1e-4)


FRAMES = ((1022, 1024), (904, 1224), (1021, 2048), (2044, 1530), (400, 301))
"""Sizes of frames: as long as SAM's picture, longer, of which 1021 would be 510.5, taller, and shorter."""


@pytest.mark.parametrize("shape", FRAMES)
@pytest.mark.parametrize("diameter", [400, 30])
def test_sam_as_a_segmenter_sees_what_its_own_image_processor_makes(
    shape: tuple[int, int], diameter: int, real_images: Path, tmp_path: Path
) -> None:
    """Whole frames, and the tiles of frames of small cells, each as if it were a photograph."""
    (tmp_path / FILE).write_text(json.dumps(PUBLISHED["sam-vit-base"]))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    used, side = SEGMENTERS["mobile-sam"].preprocessing, SEGMENTERS["mobile-sam"].input_size
    frames = [image.pixels for image, _, _ in photographs(real_images, blood=1, phase=4)[-4:]]
    field = np.block([frames[:2], frames[2:]])[: shape[0], : shape[1]]
    tiles = tiles_of(shape, diameter, side)
    assert (len(tiles) > 1) == (diameter * side < 40 * max(shape))
    for tile in (tiles[0], tiles[-1]):
        part = field[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        made = processor(np.repeat(part[..., None], 3, axis=2), return_tensors="np")
        wanted = np.asarray(made["pixel_values"])[0].transpose(1, 2, 0)
        assert tuple(np.asarray(made["reshaped_input_sizes"])[0]) == (tile.rows, tile.columns)
        got = (picture_of(field, tile, side) * used.scale - np.array(used.mean)) / np.array(used.std)
        got[tile.rows :] = got[:, tile.columns :] = 0  # in the graph: test_export_segmenter.py
        apart = np.abs(got - wanted) * np.array(used.std) / used.scale
        assert float(apart.max()) <= 1.001  # grey levels, and float32's rounding


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("fit", FITS, ids=str)
def test_torchs_own_resampling_of_8_bit_pictures_is_hardly_another(fit: Fit, layout: str, real_images: Path) -> None:
    """Its weights have fewer bits than Pillow's: a few pixels in a million are two levels away."""
    whole = fit.shortest or fit.side
    first = (whole - fit.side) // 2
    kept = slice(first, first + fit.side)
    for width in _widths(fit):
        as_cut, pictures = cells(real_images, width, fit)
        given = torch.from_numpy(as_cut.copy()).permute(0, 3, 1, 2)
        given = given.contiguous() if layout == "channels_first" else given
        resized = torch.nn.functional.interpolate(given, size=(whole, whole), mode=fit.resample, antialias=True)
        wanted = resized[:, :, kept, kept].permute(0, 2, 3, 1).numpy()
        apart = np.abs(pictures.astype(np.int16) - wanted)
        assert int(apart.max()) <= 2
        assert float((apart > 1).mean()) <= 1e-4
        assert float((apart == 0).mean()) >= 0.99


@pytest.mark.parametrize("name", ["cell-dino-hpa-l16", "cell-dino-cp-s8"])
def test_each_channel_of_a_multi_channel_picture_is_normalised_by_itself(
    name: str, real_images: Path, in_the_graph: Callable[[Preprocessing, int], Normalised]
) -> None:
    """Cell-DINO's own steps, (x / 255 - mean) / (deviation + 1e-7), on real pictures of so many channels."""
    encoder = declared(name)
    used, side, channels = encoder.preprocessing, encoder.input_size, encoder.channels
    image, _, _ = photographs(real_images, blood=1, phase=1)[-1]
    planes = [image.pixels[50 * i : 50 * i + 301, 70 * i : 70 * i + 301] for i in range(channels)]
    picture = fitted(np.stack(planes, axis=-1), used.fit)
    assert picture.shape == (side, side, channels)
    x = picture.astype(np.float64) / 255
    spread = x.std(axis=(0, 1)) + 1e-7
    wanted = ((x - x.mean(axis=(0, 1))) / spread).transpose(2, 0, 1)
    apart = np.abs(in_the_graph(used, channels)(picture[None])[0] - wanted) * 255 * spread.reshape(-1, 1, 1)
    assert float(apart.max()) <= 0.01  # grey levels
