"""The image rule beyond test_normalize.py: the order of its steps, exact scales, and crops against slow twins."""

from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cellvigil.data import ClaheRule, Fit, Frame, FrameKey, ImageRule, IntensityRule
from cellvigil.normalize import AnalysisImage, analysis_image, crops, fit_single, intensity_range, plane_of

BYTES = (0.0, 255.0)


def frame(pixels, channels=("BF",), pixel_um=(1.0, 1.0)) -> Frame:
    stack = np.asarray(pixels)
    stack = stack[None] if stack.ndim == 2 else stack
    key = FrameKey("scope", "e", "p", "A1", "1", 0)
    return Frame(key, datetime(2024, 3, 1, tzinfo=UTC), stack, tuple(channels), pixel_um, ())


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- intensity range ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planes", "dtype", "expected"),
    [
        ([noise(4, 4)], None, (0, 255)),
        ([], np.uint16, (0, 65535)),
        ([], np.float32, (0, 1)),
        ([noise(4, 4).astype(np.float32)], np.uint8, (0, 255)),  # luminance of a u8 frame
    ],
)
def test_the_full_range_is_that_of_the_frames_pixel_type(planes, dtype, expected):
    assert intensity_range(planes, IntensityRule("full"), dtype=dtype) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)), min_size=1, max_size=4),
    st.tuples(st.integers(0, 49), st.integers(51, 100)),
)
def test_percentiles_are_pooled_over_all_planes(planes, percentiles):
    low, high = intensity_range(planes, IntensityRule("percentiles", *percentiles))
    values = sorted(float(value) for plane in planes for value in plane.ravel())

    def percentile(share: float) -> float:
        place = (len(values) - 1) * share / 100
        before, after = values[int(place)], values[min(int(place) + 1, len(values) - 1)]
        return before + (after - before) * (place - int(place))

    assert low == pytest.approx(percentile(percentiles[0]))
    assert high > low
    if values[0] < values[-1] and percentile(percentiles[1]) > percentile(percentiles[0]):
        assert high == pytest.approx(percentile(percentiles[1]))


# --- analysis image -------------------------------------------------------------------------------------------------


def test_the_intensity_map_comes_before_the_scale():
    """Half the pixels far above the range: clipped first they average to grey, averaged first they would be white."""
    raw = np.zeros((8, 8), dtype=np.uint16)
    raw[:, ::2] = 10_000
    image = analysis_image(frame(raw), "", ImageRule(pixel_size_um=2.0), (0.0, 100.0))
    assert image.pixels.shape == (4, 4)
    assert set(np.unique(image.pixels)) <= {127, 128}


def test_the_scale_comes_before_clahe():
    raw = cv2.GaussianBlur(noise(96, 120), (0, 0), 2)
    rule = ImageRule(pixel_size_um=2.0, clahe=ClaheRule(clip=3.0, tile_um=24.0))
    clahe = cv2.createCLAHE(3.0, (5, 4))  # 120 x 96 um in tiles of 24 um
    small = cv2.resize(raw, (60, 48), interpolation=cv2.INTER_AREA)
    other_order = cv2.resize(clahe.apply(raw), (60, 48), interpolation=cv2.INTER_AREA)
    image = analysis_image(frame(raw), "", rule, BYTES).pixels
    np.testing.assert_array_equal(image, clahe.apply(small))
    assert np.abs(image.astype(int) - other_order).max() > 10


def test_clahe_of_colour_keeps_grey_grey():
    image = np.repeat(cv2.GaussianBlur(noise(60, 60), (0, 0), 3)[None], 3, axis=0)
    rule = ImageRule(pixel_size_um=1.0, colour="rgb", clahe=ClaheRule(tile_um=20.0))
    pixels = analysis_image(frame(image, ("red", "green", "blue")), "", rule, BYTES).pixels.astype(int)
    assert np.abs(pixels - pixels[..., :1]).max() <= 1
    assert pixels.std() > image.std()


@pytest.mark.parametrize(
    ("shape", "pixel_um", "target_um", "expected"),
    [
        ((448, 448), (0.19, 0.19), 0.322, (264, 264)),  # Nanolive to the papers' scale: 264.35
        ((452, 612), (0.322, 0.322), 0.322, (452, 612)),
        ((100, 80), (0.5, 1.0), 1.0, (50, 80)),
        ((10, 12), (1.0, 1.0), 0.5, (20, 24)),
        ((1, 1), (0.1, 0.1), 5.0, (1, 1)),
    ],
)
def test_the_frame_is_brought_to_the_rules_scale(shape, pixel_um, target_um, expected):
    image = analysis_image(frame(noise(*shape), pixel_um=pixel_um), "", ImageRule(pixel_size_um=target_um), BYTES)
    assert image.pixels.shape == expected
    assert image.pixel_size_um == target_um
    assert image.scale == (expected[0] / shape[0], expected[1] / shape[1])


RED, GREEN, BLUE = noise(6, 7, seed=1), noise(6, 7, seed=2), noise(6, 7, seed=3)
COLOUR = frame(np.stack([BLUE, RED, GREEN]), ("Blue", "RED", "green"))


def test_a_named_channel_is_taken_alone():
    for colour in ("grey", "rgb"):
        image = analysis_image(COLOUR, "RED", ImageRule(pixel_size_um=1.0, colour=colour), BYTES)
        np.testing.assert_array_equal(image.pixels, RED)
    np.testing.assert_array_equal(plane_of(frame(np.stack([RED, GREEN]), ("BF", "GFP")), ""), RED)


# --- crops ----------------------------------------------------------------------------------------------------------

NUMPY_PAD = {"reflect": "reflect", "edge": "edge"}


def slow_crops(pixels, centres, side, pad, labels=None) -> np.ndarray:
    """The obvious version: pad widely, index directly; with labels, blank what is not the cell's own."""
    far = side + 1
    padded = np.pad(pixels, far, mode=NUMPY_PAD[pad])
    owner = np.pad(labels, far) if labels is not None else None
    out = []
    for row, (y, x) in enumerate(centres):
        top, left = round(y) - side // 2 + far, round(x) - side // 2 + far
        window = padded[top : top + side, left : left + side].copy()
        if owner is not None:
            rim = [window[i, j] for i in range(side) for j in range(side) if i in (0, side - 1) or j in (0, side - 1)]
            for i in range(side):
                for j in range(side):
                    if owner[top + i, left + j] != row + 1:
                        window[i, j] = np.rint(np.median(rim))
        out.append(window)
    return np.array(out).reshape(-1, side, side, 1)


@st.composite
def fields(draw):
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    place = st.tuples(st.floats(0, shape[0] - 1), st.floats(0, shape[1] - 1))
    return draw(arrays.arrays(np.uint8, shape)), draw(st.lists(place, max_size=4))


@settings(max_examples=80, deadline=None)
@given(fields(), st.integers(1, 9), st.sampled_from(["reflect", "edge"]))
def test_crops_agree_with_direct_indexing(field, side, pad):
    pixels, centres = field
    rule = ImageRule(pixel_size_um=1.0, crop_um=float(side), pad=pad)
    cut = crops(AnalysisImage(pixels, 1.0, (1.0, 1.0)), centres, rule, fit=Fit(side))
    assert len(cut) == len(centres)
    np.testing.assert_array_equal(cut.pixels, slow_crops(pixels, centres, side, pad))


@settings(max_examples=60, deadline=None)
@given(fields(), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_masked_crops_agree_with_the_obvious_version(field, side, seed):
    pixels, centres = field
    labels = np.random.default_rng(seed).integers(0, len(centres) + 1, pixels.shape).astype(np.int32)
    rule = ImageRule(pixel_size_um=1.0, crop_um=float(side), mask=True)
    cut = crops(AnalysisImage(pixels, 1.0, (1.0, 1.0)), centres, rule, fit=Fit(side), labels=labels)
    np.testing.assert_array_equal(cut.pixels, slow_crops(pixels, centres, side, "reflect", labels))


@pytest.mark.parametrize("pixel_um", [0.161, 0.19, 0.322, 0.65])
@pytest.mark.parametrize("at_um", [(30.0, 41.0), (52.3, 20.9), (4.0, 66.0)])  # the last one near a corner
def test_a_marked_point_lands_in_the_crops_centre(pixel_um, at_um):
    y, x = (np.arange(round(70 / pixel_um)) * pixel_um for _ in range(2))
    spot = np.exp(-((y[:, None] - at_um[0]) ** 2 + (x[None, :] - at_um[1]) ** 2) / 2)
    rule = ImageRule(pixel_size_um=0.322, crop_um=72.0 / 3)
    image = analysis_image(frame((spot * 60_000).astype(np.uint16), pixel_um=(pixel_um,) * 2), "", rule, (0.0, 6e4))
    centre = np.array([at_um]) / pixel_um
    crop = crops(image, centre, rule, fit=Fit(75)).pixels[0, ..., 0].astype(float)
    crop[crop < 30] = 0
    if min(at_um) > 5:
        rows, columns = np.indices(crop.shape)
        found = np.array([(rows * crop).sum(), (columns * crop).sum()]) / crop.sum()
        np.testing.assert_allclose(found, 37, atol=0.8)  # half a raw and half an analysis pixel
    assert crop[36:39, 36:39].max() == crop.max() > 200


@pytest.mark.parametrize("colour", [False, True])
def test_a_mask_rule_blanks_the_neighbour(colour):
    field, labels = np.full((40, 40), 90, np.uint8), np.zeros((20, 20), np.int32)
    field[14:26, 8:18], labels[7:13, 4:9] = 200, 1
    field[14:26, 20:30], labels[7:13, 10:15] = 30, 2
    pixels = np.repeat(field[..., None], 3, axis=2) if colour else field
    rule = ImageRule(pixel_size_um=1.0, crop_um=30.0, mask=True, colour="rgb" if colour else "grey")
    image = AnalysisImage(pixels, 1.0, (2.0, 2.0))  # raw pixels of 2 um
    cut = crops(image, [(9.5, 6.0), (9.5, 12.0)], rule, fit=Fit(60), labels=labels)
    # Where pictures are enlarged, edges overshoot by a few grey values.
    for crop, own, neighbour in zip(cut.pixels, (200, 30), (30, 200), strict=True):
        assert np.abs(crop[28:32, 28:32].astype(int) - own).max() <= 2
        assert np.abs(crop.astype(int) - neighbour).min() > 20
        assert np.abs(crop[:4].astype(int) - 90).max() <= 2


# --- ready-made pictures --------------------------------------------------------------------------------------------


def disc_picture(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.indices((height, width), dtype=float)
    inside = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2 <= radius**2
    return np.where(inside, 220, 20).astype(np.uint8)


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Height and width of what is bright."""
    rows, columns = np.nonzero(picture[..., 0] > 120)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize(
    ("picture", "rule", "arguments", "diameter"),
    [
        (disc_picture(100, 100, 25), ImageRule(), {}, 112),  # fitted whole: 50 of 100 px
        (disc_picture(60, 100, 25), ImageRule(), {}, 112),  # the shorter side is continued, nothing is squashed
        (disc_picture(100, 100, 25), ImageRule(), {"centre_px": 80}, 140),
        (disc_picture(100, 100, 25), ImageRule(), {"centre_px": 500}, 112),  # wider than the picture: all of it
        (disc_picture(300, 300, 50), ImageRule(crop_um=40.0), {"pixel_size_um": 0.2}, 112),  # 20 of 40 um
        (disc_picture(90, 120, 30), ImageRule(crop_um=40.0), {"pixel_size_um": 0.2}, 67),  # smaller than the window
        (disc_picture(300, 300, 50), ImageRule(crop_um=40.0), {"pixel_size_um": 0.2, "centre_px": 150}, 112),
    ],
)
def test_a_single_picture_is_fitted_without_squashing(picture, rule, arguments, diameter):
    rule = ImageRule(crop_um=rule.crop_um, pad="edge")
    height, width = extent(fit_single(picture, rule, Fit(224), **arguments))
    assert abs(height - diameter) <= 3
    assert abs(width - diameter) <= 3


def test_live_and_reference_cells_pass_the_same_steps():
    """A ready-made picture of a field equals the crop of a frame of that field."""
    field = cv2.GaussianBlur(noise(101, 101), (0, 0), 1.5)
    rule = ImageRule(pixel_size_um=0.5, crop_um=43 * 0.5, clahe=ClaheRule(tile_um=12.0))
    image = analysis_image(frame(field, pixel_um=(0.5, 0.5)), "", rule, BYTES)
    live = crops(image, [(50, 50)], rule, fit=Fit(64)).pixels[0]
    np.testing.assert_array_equal(fit_single(field, rule, Fit(64), pixel_size_um=0.5), live)
