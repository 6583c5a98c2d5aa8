"""Pictures brought to an encoder's side: Pillow's pixels to the bit without Pillow, and what stood before as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellvigil.data import U8, Fit, ImageRule
from cellvigil.normalize import AnalysisImage, crops, fit_single
from cellvigil.resample import RESAMPLES, bilinear, by_area, fitted
from real_cells import photographs

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def noise(side: int, channels: int, seed: int) -> U8:
    """Black and white pixels: cubic weights overshoot on them as far as they can."""
    shape = (side, side, channels) if channels else (side, side)
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8) * 255


def pillow(picture: U8, side: int, kind: str) -> U8:
    return pillow_to(picture, (side, side), kind)


def pillow_to(picture: U8, shape: tuple[int, int], kind: str) -> U8:
    return np.asarray(Image.fromarray(picture).resize(shape[::-1], PILLOW[kind]))


def former(picture: U8, side: int) -> U8:
    """How every picture was brought to an encoder's side before encoders had fits: the function as it stood."""
    shape = (side, side)
    if picture.shape[:2] == shape:
        return picture
    smaller = shape[0] * shape[1] < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), shape[::-1], interpolation=method), dtype=np.uint8)


@given(
    st.integers(1, 90), st.integers(1, 90), st.sampled_from(sorted(PILLOW)), st.sampled_from([0, 3]), st.integers(0, 9)
)
def test_resampling_is_pillows_to_the_bit(length, side, kind, channels, seed):
    picture = noise(length, channels, seed)
    np.testing.assert_array_equal(fitted(picture, Fit(side, kind)), pillow(picture, side, kind))


@pytest.mark.parametrize("kind", sorted(PILLOW))
@pytest.mark.parametrize(
    ("length", "side"),
    [(223, 224), (225, 224), (224, 256), (363, 224), (360, 192), (71, 1024), (1000, 224), (224, 518)],
)
def test_resampling_is_pillows_at_the_sizes_that_encoders_take(length, side, kind):
    for channels in (0, 3):
        picture = noise(length, channels, 1)
        np.testing.assert_array_equal(fitted(picture, Fit(side, kind)), pillow(picture, side, kind))


def test_resampling_is_pillows_on_photographs(real_images: Path):
    for image, _, _ in photographs(real_images):
        picture = np.ascontiguousarray(image.pixels[:351, :351])
        for kind in PILLOW:
            np.testing.assert_array_equal(fitted(picture, Fit(224, kind)), pillow(picture, 224, kind))


sides = st.tuples(st.integers(1, 70), st.integers(1, 70))


def pillow_in_passes(picture: U8, shape: tuple[int, int]) -> U8:
    """Its two passes one by one: which comes first in a single call is up to its version."""
    return pillow_to(pillow_to(picture, (picture.shape[0], shape[1]), "bilinear"), shape, "bilinear")


@given(sides, sides, st.sampled_from([(), (3,)]), st.integers(0, 9))
def test_pictures_that_are_not_square_are_pillows_two_passes_to_the_bit(size, shape, colours, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (*size, *colours), dtype=np.uint8)
    before = picture.copy()
    got = bilinear(picture, shape)
    np.testing.assert_array_equal(got, pillow_in_passes(picture, shape))
    np.testing.assert_array_equal(picture, before)
    assert np.abs(got.astype(np.int16) - pillow_to(picture, shape, "bilinear")).max() <= 1


@pytest.mark.parametrize(
    ("size", "shape"),
    [((2048, 1021), (1024, 511)), ((904, 1224), (756, 1024)), ((220, 219), (1024, 1019)), ((1, 900), (1, 1024))],
)
def test_frames_and_parts_of_frames_are_pillows(size, shape):
    frame = np.random.default_rng(3).integers(0, 256, (size[0] + 9, size[1] + 5), dtype=np.uint8)
    part = frame[4 : 4 + size[0], 2 : 2 + size[1]]  # as a tile is: rows that do not lie one behind the other
    got = bilinear(part, shape)
    np.testing.assert_array_equal(got, pillow_in_passes(part, shape))
    assert np.abs(got.astype(np.int16) - pillow_to(part, shape, "bilinear")).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_each_channel_of_a_picture_that_is_not_square_is_resized_by_itself(channels):
    picture = np.random.default_rng(4).integers(0, 256, (40, 70, channels), dtype=np.uint8)
    got = bilinear(picture, (25, 90))
    assert got.shape == (25, 90, channels)
    for channel in range(channels):
        alone = pillow_in_passes(np.ascontiguousarray(picture[..., channel]), (25, 90))
        np.testing.assert_array_equal(got[..., channel], alone)


@given(
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(0, 30),
    st.sampled_from(RESAMPLES),
    st.sampled_from([0, 1, 3]),
)
def test_a_cut_centre_is_that_of_the_whole_picture(length, side, more, kind, channels):
    picture = noise(length, channels, 2)
    whole = fitted(picture, Fit(side + more, kind))
    first = more // 2
    wanted = whole[first : first + side, first : first + side]
    np.testing.assert_array_equal(fitted(picture, Fit(side, kind, shortest=side + more)), wanted)


@pytest.mark.parametrize("kind", RESAMPLES)
@pytest.mark.parametrize("side", [30, 70, 75])
def test_each_of_many_channels_is_resized_by_itself(kind, side):
    picture = noise(70, 5, 3)
    got = fitted(picture, Fit(side, kind, shortest=side + 6))
    assert got.shape == (side, side, 5)
    for channel in range(5):
        alone = fitted(np.ascontiguousarray(picture[..., channel]), Fit(side, kind, shortest=side + 6))
        np.testing.assert_array_equal(got[..., channel], alone)


@pytest.mark.parametrize(
    ("shape", "fit"),
    [((20, 21), Fit(8)), ((20, 20), Fit(8, "lanczos")), ((20, 20), Fit(8, "bicubic", shortest=7))],
)
def test_what_no_picture_can_be_made_by_is_refused(shape, fit):
    with pytest.raises(ValueError, match="cannot be made"):
        fitted(np.zeros(shape, np.uint8), fit)


# ---- what stood before


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([0, 3]), st.integers(0, 9))
def test_a_plain_fit_is_what_was_done_before(length, side, channels, seed):
    picture = np.random.default_rng(seed).integers(0, 256, noise(length, channels, 0).shape, dtype=np.uint8)
    np.testing.assert_array_equal(fitted(picture, Fit(side)), former(picture, side))


@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("crop_um", [30.0, 44.8, 60.0])
@pytest.mark.parametrize("side", [64, 224])
def test_crops_by_a_plain_fit_are_what_they_were(colour, crop_um, side):
    pixels = noise(150, 3 if colour == "rgb" else 0, 4)
    rule = ImageRule(pixel_size_um=0.5, crop_um=crop_um, colour=colour)
    centres = [(75, 75), (0, 149), (40.4, 90.6)]
    width = round(crop_um / 0.5)
    padded = cv2.copyMakeBorder(pixels, width, width, width, width, cv2.BORDER_REFLECT_101)
    got = crops(AnalysisImage(pixels, 0.5, (1.0, 1.0)), centres, rule, fit=Fit(side)).pixels
    for cut, (y, x) in zip(got, centres, strict=True):
        top, left = round(y) + width - width // 2, round(x) + width - width // 2
        wanted = former(padded[top : top + width, left : left + width], side)
        np.testing.assert_array_equal(cut, wanted if colour == "rgb" else wanted[..., None])


def test_pictures_are_brought_to_a_scale_as_before():
    picture = np.random.default_rng(5).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    smaller = cv2.resize(picture, (60, 45), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(by_area(picture, (45, 60)), smaller)
    larger = cv2.resize(picture, (180, 135), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(by_area(picture, (135, 180)), larger)


# ---- where a cell's picture meets its encoder's fit


@pytest.mark.parametrize("fit", [Fit(40), Fit(40, "bilinear"), Fit(40, "bicubic", shortest=46)])
@pytest.mark.parametrize("mask", [False, True])
def test_a_crop_is_fitted_once_from_its_own_pixels(fit, mask):
    pixels = np.random.default_rng(6).integers(0, 256, (90, 90), dtype=np.uint8)
    image = AnalysisImage(pixels, 0.5, (1.0, 1.0))
    rule = ImageRule(pixel_size_um=0.5, crop_um=15.5, mask=mask)  # 31 px
    labels = np.ones(pixels.shape, np.int32)
    [as_it_is] = crops(image, [(45, 45)], rule, fit=Fit(31), labels=labels).pixels
    np.testing.assert_array_equal(as_it_is[..., 0], pixels[30:61, 30:61])
    [got] = crops(image, [(45, 45)], rule, fit=fit, labels=labels).pixels
    np.testing.assert_array_equal(got, fitted(as_it_is, fit))


@pytest.mark.parametrize("fit", [Fit(40), Fit(40, "bilinear"), Fit(40, "bicubic", shortest=46)])
def test_a_ready_made_picture_is_fitted_once_from_its_own_pixels(fit):
    picture = np.random.default_rng(7).integers(0, 256, (36, 33, 3), dtype=np.uint8)
    rule = ImageRule(colour="rgb", pad="edge")
    square = cv2.copyMakeBorder(picture, 0, 0, 1, 2, cv2.BORDER_REPLICATE)
    np.testing.assert_array_equal(fit_single(picture, rule, fit), fitted(square, fit))
    np.testing.assert_array_equal(fit_single(picture, replace(rule, pad="edge"), Fit(36)), square)
