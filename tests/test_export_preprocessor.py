"""What a checkpoint's own preprocessor_config.json becomes: a fit outside the graph, a normalisation inside."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cellvigil.data import Fit
from cellvigil.errors import BundleError
from cellvigil_export.preprocessor import differences, preprocessing_of, read
from cellvigil_export.zoo import declared
from published_processors import CLIP, CONVNEXT, DINOV2, PUBLISHED, SAM, SWINV2


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_what_is_declared_is_what_the_checkpoint_says_itself(name: str) -> None:
    assert differences(preprocessing_of(PUBLISHED[name]), declared(name).preprocessing) == ()


@pytest.mark.parametrize(
    ("config", "change", "fit"),
    [
        (DINOV2, {}, Fit(224, "bicubic", shortest=256)),
        (DINOV2, {"crop_size": 256}, Fit(256, "bicubic")),
        (DINOV2, {"do_center_crop": False}, Fit(256, "bicubic")),
        (DINOV2, {"resample": "PILImageResampling.BILINEAR"}, Fit(224, "bilinear", shortest=256)),
        (DINOV2, {"size": 518, "crop_size": {"height": 518, "width": 518}}, Fit(518, "bicubic")),
        (DINOV2, {"resample": None, "size": None}, Fit(224, "bicubic")),  # as the class has them
        (CONVNEXT, {}, Fit(224, "bicubic", shortest=256)),
        (CONVNEXT, {"crop_pct": None}, Fit(224, "bicubic", shortest=256)),  # the class's own share
        (CONVNEXT, {"crop_pct": 0.9}, Fit(224, "bicubic", shortest=248)),
        (CONVNEXT, {"size": 384}, Fit(384, "bicubic")),  # nothing is cut from 384 on
        (SWINV2, {}, Fit(192, "bicubic")),
        (SWINV2, {"crop_pct": 0.9}, Fit(192, "bicubic")),  # a ViT's processor does not look at it
        (SWINV2, {"crop_size": 160}, Fit(192, "bicubic")),  # nor cuts without being told
        (SWINV2, {"size": [192, 192]}, Fit(192, "bicubic")),
        (CLIP, {}, Fit(224, "bicubic")),
        (SAM, {}, Fit(1024, "bilinear")),
        ({"image_processor_type": "LevitImageProcessor"}, {}, Fit(224, "bicubic", shortest=256)),
        ({"image_processor_type": "PoolFormerImageProcessor"}, {}, Fit(224, "bicubic", shortest=248)),
        ({"image_processor_type": "PoolFormerImageProcessor"}, {"do_center_crop": False}, Fit(248, "bicubic")),
        ({"image_processor_type": "DINOv3ViTImageProcessorFast"}, {}, Fit(224, "bilinear")),
        ({"image_mean": 0.5, "image_std": 0.5}, {"resample": 3, "size": 96, "crop_size": 84}, Fit(84, "bicubic", 96)),
    ],
)
def test_the_fit_is_that_of_the_image_processor(config, change, fit) -> None:
    assert preprocessing_of({**config, **change}).fit == fit


@pytest.mark.parametrize(
    ("change", "scale", "mean", "std"),
    [
        ({}, 1 / 255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ({"do_normalize": False}, 1 / 255, (0.0,) * 3, (1.0,) * 3),
        ({"do_rescale": False, "image_mean": 127.5, "image_std": [127.5]}, 1.0, (127.5,) * 3, (127.5,) * 3),
        ({"rescale_factor": 1 / 128, "image_mean": None}, 1 / 128, (0.48145466, 0.4578275, 0.40821073), None),
    ],
)
def test_the_normalisation_is_that_of_the_image_processor(change, scale, mean, std) -> None:
    got = preprocessing_of({**CLIP, **change})
    assert (got.scale, got.mean) == (scale, mean)
    assert std is None or got.std == std


def test_other_channels_have_numbers_of_their_own() -> None:
    config = {**SWINV2, "image_mean": [0.1, 0.2, 0.3, 0.4, 0.5], "image_std": 2.0}
    assert preprocessing_of(config, channels=5).std == (2.0,) * 5
    with pytest.raises(BundleError, match="of which there are 3"):
        preprocessing_of(config)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"do_resize": False}, "resizes nothing"),
        ({"resample": 1}, "resamples by 1"),
        ({"resample": "nearest"}, "resamples by 'nearest'"),
        ({"size": {"height": 224, "width": 160}}, "no square"),
        ({"size": {"shortest_edge": 224, "longest_edge": 1333}}, "no square"),
        ({"size": 200}, "cuts 224 px out of 200"),
        ({"size": 0}, "no square"),
        ({"size": "large"}, "cannot be followed"),
        ({"do_pad": True, "pad_size": 256}, "pads 224 px to 256"),
        ({"do_flip_channel_order": True}, "blue, green, red"),
        ({"image_std": [0.2, 0.0, 0.2]}, "cannot be divided by"),
        ({"image_mean": [0.5, 0.5]}, "of which there are 3"),
        ({"image_mean": [math.nan] * 3}, "of which there are 3"),
        ({"rescale_factor": 0}, "scales by 0"),
        ({"image_processor_type": "PerceiverImageProcessor"}, "PerceiverImageProcessor does is not known"),
        ({"image_processor_type": "", "feature_extractor_type": "", "resample": None}, "does not say its resample"),
    ],
)
def test_what_cannot_be_followed_is_refused(change, told) -> None:
    with pytest.raises(BundleError, match=told):
        preprocessing_of({**DINOV2, **change})


def test_differences_are_told_one_by_one() -> None:
    usual = preprocessing_of(DINOV2)
    assert differences(usual, usual) == ()
    other = replace(usual, fit=Fit(224, "bilinear"), mean=(0.5,) * 3)
    fit, mean = differences(other, usual)
    assert fit == "pictures are brought to 224 px (bilinear), not brought to 256 px (bicubic) and cut to 224"
    assert mean == "mean is (0.5, 0.5, 0.5), not (0.485, 0.456, 0.406)"


# ---- the file


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    (tmp_path / "processor_config.json").write_text('{"processor_class": "SamProcessor"}')
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content"), [("preprocessor_config.json", SAM), ("processor_config.json", {"image_processor": SAM})]
)
def test_a_checkpoints_own_file_is_read(tmp_path: Path, name: str, content: dict[str, object]) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    assert read(tmp_path) == SAM


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", "{"),
        ("preprocessor_config.json", "[1]"),
        ("preprocessor_config.json", "\xff"),
        ("processor_config.json", '{"image_processor": 3}'),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match=name):
        read(tmp_path)
