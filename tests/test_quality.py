"""Focus, exposure and coverage, and which frames they leave out."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cellvigil.config import Response
from cellvigil.data import Quality
from cellvigil.quality import focus, judge, measure, usual_focus
from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.segment import cells_from_labels

UM = 0.322
SHAPE = (452, 612)
GOOD = Quality(focus=1.0, saturated=0.0, dark=0.0, coverage=0.3)


def no_cells(shape=SHAPE):
    return cells_from_labels(np.zeros(shape, np.int32), shape, (UM, UM))


def field(cells, seed=0, blur_px=0.0, noise=200.0, contrast=1.0, level=30000.0):
    """A raw u16 plane with so many dark-rimmed cells on it."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros(SHAPE, dtype=np.float32)
    for _ in range(cells):
        place = (int(rng.integers(40, SHAPE[1] - 40)), int(rng.integers(40, SHAPE[0] - 40)))
        cv2.circle(canvas, place, int(rng.integers(18, 30)), -8000, 3)
    canvas = cv2.GaussianBlur(canvas, (0, 0), math.hypot(1.0, blur_px))
    canvas += 3000 * np.linspace(-1, 1, SHAPE[1], dtype=np.float32)[None]
    return np.clip(level + contrast * canvas + rng.normal(0, noise, SHAPE), 0, 65535).astype(np.uint16)


# ---- focus


@pytest.mark.parametrize("cells", [1, 8, 60])
@pytest.mark.parametrize("noise", [30.0, 400.0])
def test_focus_falls_with_blur_whatever_the_cells_and_the_noise(cells, noise):
    sharp, soft, blurred = (focus(field(cells, blur_px=blur, noise=noise), UM) for blur in (0, 3, 8))
    assert sharp > 1.5 * soft > 2 * blurred


def test_focus_hardly_depends_on_cell_number_contrast_noise_and_lamp():
    usual = focus(field(30), UM)
    for plane in (field(5, 1), field(90, 2), field(30, contrast=0.5), field(30, noise=500), field(30, level=15000)):
        assert focus(plane, UM) == pytest.approx(usual, rel=0.25)


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros(SHAPE, np.uint16),
        np.full(SHAPE, 65535, np.uint16),
        field(0),
        field(0, noise=3000),
        np.full(SHAPE, np.nan, np.float32),
        np.zeros((5, 5), np.uint8),
        np.zeros((1, 1), np.uint8),
    ],
    ids=["black", "white", "empty", "empty and noisy", "no numbers", "tiny", "one pixel"],
)
def test_a_field_with_nothing_in_it_has_no_focus(plane):
    assert math.isnan(focus(plane, UM))


def test_focus_without_a_pixel_size_is_tied_to_the_pixel():
    assert focus(field(30)) > 2 * focus(field(30, blur_px=8))


@pytest.mark.parametrize(("figures", "usual"), [((2.0, math.nan, 4.0), 3.0), ((math.nan,), 0.0), ((), 0.0)])
def test_the_usual_focus_leaves_out_frames_without_one(figures, usual):
    assert usual_focus(figures) == usual


# ---- exposure and coverage


def test_exposure_counts_pixels_at_the_ends_of_the_range():
    plane = np.full((40, 40), 500, np.uint16)
    plane[:10], plane[10:14] = 1000, 100
    quality = measure(plane, no_cells((40, 40)), (100.0, 1000.0), pixel_size_um=UM)
    assert (quality.saturated, quality.dark, quality.coverage) == (0.25, 0.1, 0.0)
    assert quality.excluded == ""


def test_coverage_is_the_share_under_masks():
    labels = np.zeros((40, 40), np.int32)
    labels[:10, :20] = 1
    cells = cells_from_labels(labels, (40, 40), (UM, UM))
    assert measure(np.zeros((40, 40)), cells, (0.0, 1.0), pixel_size_um=UM).coverage == pytest.approx(0.125)


# ---- judging


@pytest.mark.parametrize(
    ("changes", "usual", "reason"),
    [
        ({}, 1.0, ""),
        ({"focus": 0.24}, 1.0, "focus"),
        ({"focus": 0.26}, 1.0, ""),
        ({"focus": 0.24}, 0.0, ""),
        ({"focus": math.nan}, 1.0, ""),
        ({"focus": math.nan, "coverage": 0.0}, 0.0, ""),
        ({"saturated": 0.31}, 1.0, "exposure"),
        ({"dark": 0.31}, 1.0, "exposure"),
        ({"dark": 1.0, "focus": math.nan}, 1.0, "exposure"),
        ({"coverage": 0.91}, 1.0, "coverage"),
        ({"coverage": 0.91, "focus": 0.1}, 1.0, "focus"),
    ],
)
def test_a_frame_outside_the_limits_says_why(changes, usual, reason):
    judged = judge(replace(GOOD, **changes), usual, Response())
    assert judged.excluded == reason
    assert judged.coverage == replace(GOOD, **changes).coverage


def test_dying_wells_stay_in_focus_and_defocused_frames_do_not():
    """The drug changes how cells look; only the optics may put a frame out of focus."""
    assay = Assay(seed=9, timepoints=13, wells=("A1", "B1"), treated=("B1",), defocus_rate=0.2, bubble_rate=0.1)
    scenes = [scene for scene in simulate(assay) if scene.timepoint % 2 == 0]
    sharpness = [focus(optics.bright_field(scene, assay.optics), UM) for scene in scenes]
    usual = usual_focus(sharpness[:4])
    blurred = [scene.defocus_um > 0 for scene in scenes]
    assert 0 < sum(blurred) < len(blurred)
    for value, expected in zip(sharpness, blurred, strict=True):
        judged = judge(replace(GOOD, focus=value), usual, Response())
        assert (judged.excluded == "focus") == expected
