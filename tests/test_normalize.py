"""From raw pixels to crops: intensity map, scale, CLAHE, crops, ready-made single-cell images."""

from dataclasses import replace
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.data import ClaheRule, Fit, Frame, FrameKey, ImageRule, IntensityRule
from cellvigil.errors import BadFile, UsageError
from cellvigil.normalize import analysis_image, crops, fit_single, grey, intensity_range, plane_of
from cellvigil.segment import cells_from_labels

RULE = ImageRule(pixel_size_um=0.5, crop_um=8.0)  # 16 px crops
RGB = ("Red", "Green", "Blue")


def frame_of(pixels, channels=("Bright Field",), um=(0.5, 0.5)):
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    return Frame(FrameKey("s", "e", "p", "A1", "1", 0), datetime(2026, 1, 1, tzinfo=UTC), pixels, channels, um, ())


def image_of(pixels, rule=RULE, intensity=(0.0, 255.0), **place):
    return analysis_image(frame_of(pixels, **place), "", rule, intensity)


def ramp(shape=(40, 60), dtype=np.uint8):
    return (np.add.outer(np.arange(shape[0]) * 2, np.arange(shape[1]) * 2) % 251).astype(dtype)


# ---- the intensity range


def test_percentiles_are_pooled_over_all_planes():
    planes = [np.full((10, 10), 100, np.uint16), np.full((10, 10), 900, np.uint16)]
    assert intensity_range(planes, IntensityRule(low=0, high=100)) == (100.0, 900.0)
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 4000, (50, 60)).astype(np.uint16) for _ in range(3)]
    expected = np.percentile(np.stack(planes), (1, 99))
    np.testing.assert_allclose(intensity_range(planes, IntensityRule(low=1, high=99)), expected)


@pytest.mark.parametrize(
    ("planes", "rule", "expected"),
    [
        ([], IntensityRule("range", 1.33, 1.40), (1.33, 1.40)),
        ([np.full((4, 4), 7, np.uint8)], IntensityRule(), (7.0, 8.0)),
        ([np.full((4, 4), np.nan, np.float32)], IntensityRule(), (0.0, 1.0)),
        ([np.array([[np.nan, 1.0], [np.inf, 3.0]], np.float32)], IntensityRule(low=0, high=100), (1.0, 3.0)),
        ([np.zeros((2, 2), np.uint16)], IntensityRule("full"), (0.0, 65535.0)),
        ([np.zeros((2, 2), np.float32)], IntensityRule("full"), (0.0, 1.0)),
    ],
    ids=["fixed", "constant", "no numbers", "some numbers", "full u16", "full float"],
)
def test_the_range_is_never_empty(planes, rule, expected):
    assert intensity_range(planes, rule) == expected


@pytest.mark.parametrize(
    "rule",
    [IntensityRule("range", 5, 5), IntensityRule("range", 9, 1), IntensityRule("gamma"),
     IntensityRule(low=50, high=20), IntensityRule(low=-1), IntensityRule(high=101)],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(rule):
    with pytest.raises(UsageError, match="intensity"):
        intensity_range([np.zeros((2, 2))], rule)


def test_percentiles_without_a_plane_are_refused():
    with pytest.raises(ValueError, match="at least one plane"):
        intensity_range([], IntensityRule())


# ---- the analysis image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_raw_values_are_mapped_linearly_and_clipped(dtype):
    raw = np.array([[0, 50, 100], [150, 200, 250]], dtype=dtype)
    image = image_of(raw, intensity=(50.0, 200.0))
    np.testing.assert_array_equal(image.pixels, [[0, 0, 85], [170, 255, 255]])
    assert image.scale == (1.0, 1.0)


def test_what_is_no_number_becomes_black():
    raw = np.array([[np.nan, np.inf], [-np.inf, 1.0]], dtype=np.float32)
    np.testing.assert_array_equal(image_of(raw, intensity=(0.0, 2.0)).pixels, [[0, 255], [0, 128]])


def test_the_image_is_brought_to_the_rules_pixel_size():
    raw = np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(2, axis=0).repeat(4, axis=1) * 10
    image = image_of(raw, um=(0.25, 0.125))
    np.testing.assert_array_equal(image.pixels, np.arange(16).reshape(4, 4) * 10)  # averaged, not picked
    assert image.scale == (0.5, 0.25)
    assert image.pixel_size_um == 0.5
    assert image_of(raw, um=(1.0, 1.0)).pixels.shape == (16, 32)


def test_a_wrong_pixel_size_does_not_eat_the_memory():
    with pytest.raises(BadFile, match="pixel_size_um") as caught:
        image_of(np.zeros((100, 100), np.uint8), um=(1e6, 1e6))
    assert caught.value.reason == "too_large"


def test_clahe_comes_last_and_raises_local_contrast():
    raw = np.full((64, 64), 100, np.uint8)
    raw[::4] = 110
    plain, equalised = image_of(raw).pixels, image_of(raw, replace(RULE, clahe=ClaheRule(2.0, 16.0))).pixels
    assert np.ptp(equalised) > np.ptp(plain)
    expected = cv2.createCLAHE(2.0, (2, 2)).apply(plain)  # 64 px of 0.5 um: two tiles of 16 um a side
    np.testing.assert_array_equal(equalised, expected)


def test_a_colour_frame_is_grey_for_a_grey_rule_and_colour_for_a_colour_rule():
    pixels = np.zeros((3, 4, 5), np.uint8)
    pixels[0], pixels[1], pixels[2] = 200, 100, 50
    frame = frame_of(pixels, RGB)
    as_grey = analysis_image(frame, "", RULE, (0.0, 255.0))
    np.testing.assert_array_equal(as_grey.pixels, np.full((4, 5), round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)))
    coloured = analysis_image(frame, "", replace(RULE, colour="rgb"), (0.0, 255.0))
    assert coloured.pixels[0, 0].tolist() == [200, 100, 50]
    np.testing.assert_array_equal(grey(coloured), as_grey.pixels)


def test_a_channel_is_taken_by_name_and_a_missing_one_is_named():
    frame = frame_of(np.stack([np.zeros((2, 2)), np.ones((2, 2))]).astype(np.uint8), ("DAPI", "GFP"))
    assert plane_of(frame, "GFP").max() == 1
    assert plane_of(frame, "").max() == 0
    with pytest.raises(BadFile, match="DAPI, GFP") as caught:
        plane_of(frame, "Bright Field")
    assert caught.value.reason == "incomplete"


# ---- crops


def crop_slowly(pixels, centre, side, pad):
    """One crop without scaling, pixel by pixel."""
    mode = {"reflect": "reflect", "edge": "edge"}[pad]
    padded = np.pad(pixels, side, mode=mode)
    y, x = (int(place) + side - side // 2 for place in centre)
    return padded[y : y + side, x : x + side]


@given(st.integers(0, 39), st.integers(0, 59), st.sampled_from(["reflect", "edge"]), st.sampled_from([3, 8, 16, 17]))
def test_a_crop_is_the_window_around_its_centre(y, x, pad, side):
    rule = replace(RULE, crop_um=side * 0.5, pad=pad)
    image = image_of(ramp(), rule)
    [crop] = crops(image, [(y, x)], rule, fit=Fit(side)).pixels
    np.testing.assert_array_equal(crop[..., 0], crop_slowly(ramp(), (y, x), side, pad))


def test_centres_are_raw_pixels_whatever_the_scale():
    raw = np.zeros((80, 120), np.uint8)
    raw[40:44, 60:64] = 200  # centre 41.5, 61.5
    for um in (0.25, 0.5, 1.0):
        rule = replace(RULE, crop_um=20.0)
        image = image_of(raw, rule, um=(um, um))
        [crop] = crops(image, [(41.5, 61.5)], rule, fit=Fit(40)).pixels[..., 0]
        weights = crop.astype(float)
        centre = [(weights.sum(axis=1 - axis) * np.arange(40)).sum() / weights.sum() for axis in (0, 1)]
        np.testing.assert_allclose(centre, (19.5, 19.5), atol=1.1)


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
def test_the_channels_follow_the_rule_and_no_cells_give_no_crops(colour, channels):
    rule = replace(RULE, colour=colour)
    image = image_of(ramp(), rule)
    assert crops(image, np.zeros((0, 2)), rule, fit=Fit(24)).pixels.shape == (0, 24, 24, channels)
    some = crops(image, [(5, 5), (20, 30)], rule, fit=Fit(24)).pixels
    assert some.shape == (2, 24, 24, channels)
    assert (some == some[..., :1]).all()  # a grey frame is the same in all three


def test_a_coloured_crop_keeps_its_colours():
    pixels = np.stack([np.full((30, 30), value, np.uint8) for value in (10, 90, 200)])
    rule = replace(RULE, colour="rgb")
    image = analysis_image(frame_of(pixels, RGB), "", rule, (0.0, 255.0))
    [crop] = crops(image, [(15, 15)], rule, fit=Fit(8)).pixels
    assert crop[4, 4].tolist() == [10, 90, 200]


@pytest.mark.parametrize("um", [0.25, 0.5, 1.0])
def test_a_mask_rule_blanks_all_but_the_cell_itself(um):
    raw = np.full((80, 80), 60, np.uint8)
    labels = np.zeros((80, 80), np.int32)
    raw[30:42, 30:42], labels[30:42, 30:42] = 200, 1
    raw[30:42, 44:56], labels[30:42, 44:56] = 150, 2
    cells = cells_from_labels(labels, (80, 80), (um, um))
    rule = replace(RULE, mask=True, crop_um=24 * um)
    first, second = crops(
        image_of(raw, rule, um=(um, um)), cells.centroids_px, rule, fit=Fit(24), labels=cells.labels
    ).pixels
    for crop, own, column_of_other in ((first, 200, 22), (second, 150, 1)):
        assert crop[12, 12, 0] == pytest.approx(own, abs=2)
        assert crop[12, column_of_other, 0] == pytest.approx(60, abs=2)
        assert crop[0, 0, 0] == 60


def test_a_mask_rule_needs_labels():
    with pytest.raises(ValueError, match="labels"):
        crops(image_of(ramp()), [(5, 5)], replace(RULE, mask=True), fit=Fit(8))


# ---- ready-made single-cell images


def test_a_picture_without_a_scale_is_fitted_whole_and_not_squashed():
    picture = np.full((20, 40), 50, np.uint8)
    picture[5:15, 15:25] = 200  # a square stays a square
    fitted = fit_single(picture, replace(RULE, pad="edge"), Fit(80))[..., 0]
    ys, xs = np.nonzero(fitted > 125)
    assert fitted.shape == (80, 80)
    assert (np.ptp(ys) + 1, np.ptp(xs) + 1) == (20, 20)


def test_a_picture_with_a_scale_is_cut_like_a_live_cell():
    raw = ramp((60, 60))
    [live] = crops(image_of(raw), [(30, 30)], RULE, fit=Fit(16)).pixels
    np.testing.assert_array_equal(fit_single(raw, RULE, Fit(16), pixel_size_um=0.5), live)
    halved = fit_single(raw, RULE, Fit(16), pixel_size_um=0.25)
    np.testing.assert_array_equal(halved[..., 0], cv2.resize(raw, (30, 30), interpolation=cv2.INTER_AREA)[7:23, 7:23])


def test_a_picture_smaller_than_the_crop_is_continued():
    picture = np.full((4, 4), 90, np.uint8)
    np.testing.assert_array_equal(fit_single(picture, RULE, Fit(16), pixel_size_um=0.5), np.full((16, 16, 1), 90))


def test_the_centre_window_is_taken_first():
    picture = np.zeros((30, 40), np.uint8)
    picture[10:20, 15:25] = 100
    np.testing.assert_array_equal(fit_single(picture, RULE, Fit(10), centre_px=10), np.full((10, 10, 1), 100))


@pytest.mark.parametrize(
    ("shape", "colour", "channels"),
    [((9, 9), "grey", 1), ((9, 9, 3), "grey", 1), ((9, 9), "rgb", 3), ((9, 9, 3), "rgb", 3)],
)
def test_single_pictures_come_in_the_rules_channels(shape, colour, channels):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, shape).astype(np.uint8)
    assert fit_single(picture, replace(RULE, colour=colour, clahe=ClaheRule()), Fit(24)).shape == (24, 24, channels)
