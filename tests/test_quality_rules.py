"""Focus, exposure and coverage beyond test_quality.py: both kinds of frames, exact invariances, few cells."""

import dataclasses
import itertools
import math

import cv2
import numpy as np
import pytest

from cellvigil.config import Response
from cellvigil.data import Calls, Cells, Quality
from cellvigil.quality import focus, judge, judge_debris, measure, usual_focus
from cellvigil.segment import cells_from_labels
from simulated import assay_of, cells_of, frames_of, plane_of, range_of
from store_records import calls_of

KINDS = ["gen5", "nanolive"]


def noisy(shape=(300, 400), level=1000.0, sigma=8.0, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, sigma, shape).astype(np.float32)


def grains(shape=(300, 400), seed=1) -> np.ndarray:
    """Texture with detail of all sizes, like a picture of things."""
    rng = np.random.default_rng(seed)
    sizes = (1, 3, 9)
    return sum(s * cv2.GaussianBlur(rng.normal(0, 1000, shape).astype(np.float32), (0, 0), s) for s in sizes)


def edge_picture(blur=0.0) -> np.ndarray:
    """Straight edges with the noise of a camera."""
    picture = np.zeros((300, 400), np.float32)
    picture[:, 100:200], picture[120:180] = 600, 900
    blurred = cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture
    return blurred + noisy()


def no_cells(shape) -> Cells:
    return cells_from_labels(np.zeros(shape, np.int32), shape, (1.0, 1.0))


# --- focus ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [grains(), edge_picture()])
@pytest.mark.parametrize("pixel_um", [None, 0.322])
def test_focus_falls_with_blur(picture, pixel_um):
    values = [focus(cv2.GaussianBlur(picture, (0, 0), s) + noisy(seed=2, sigma=2), pixel_um) for s in (0.5, 1, 2, 4, 6)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.35 * values[0]


@pytest.mark.parametrize("kind", KINDS)
def test_focus_falls_with_defocus_on_simulated_frames(kind):
    assay = assay_of(kind, shape=(300, 400))
    for scene, _ in frames_of(assay)[:4]:
        planes = [plane_of(assay, scene, defocus_um=blur) for blur in (0.0, 0.5, 1.0, 1.6, 2.4, 3.4)]
        values = [focus(plane, assay.micrometres_a_pixel) for plane in planes]
        assert all(after < before or after < 0.1 * values[0] for before, after in itertools.pairwise(values))
        assert max(values[-2:]) < 0.4 * values[0]


def test_an_ideal_edge_has_focus_one():
    assert focus(edge_picture(), 0.322) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("gain", "offset"), [(0.2, 0), (3.0, 0), (1.0, 5000), (0.5, -400), (2.0, 20_000)])
def test_focus_does_not_depend_on_contrast_or_offset(gain, offset):
    picture = cv2.GaussianBlur(edge_picture(), (0, 0), 1.0)
    assert focus(picture * gain + offset, 0.322) == pytest.approx(focus(picture, 0.322), rel=0.01)


def test_focus_does_not_depend_on_the_pixel_type():
    picture = np.clip(cv2.GaussianBlur(edge_picture(), (0, 0), 1.0), 0, 65535)
    assert focus(picture.astype(np.uint16), 0.322) == pytest.approx(focus(picture, 0.322), rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_focus_hardly_depends_on_the_number_of_cells(kind):
    """From a few cells to all: in focus far above the default limit, out of focus below it, whatever their number."""
    assay = assay_of(kind, timepoints=1, wells=("A1",), treated=(), shape=(452, 612))
    [(scene, _)] = frames_of(assay)
    rows = np.flatnonzero((scene.cells["y_um"] > 8) & (scene.cells["x_um"] > 8) & (scene.cells["state"] == 0))
    inside = scene.cells[rows]
    sharp, soft = [], []
    for cells in (inside[:4], inside[:8], inside, scene.cells):
        for values, blur in ((sharp, 0.0), (soft, 2.5)):
            values.append(focus(plane_of(assay, scene, cells=cells, defocus_um=blur), assay.micrometres_a_pixel))
    assert max(sharp) < 1.6 * min(sharp)
    assert max(soft) < 0.3 * min(sharp)


# --- measure --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_saturated_dark_and_covered_shares_are_counted(dtype):
    plane = np.full((20, 30), 100, dtype)
    plane[:2], plane[2:5, :10], plane[7, :6], plane[8, :12] = 250, 3, 240, 10  # at the limit counts, on both sides
    labels = np.zeros((20, 30), np.int32)
    labels[4:8, 4:9], labels[10:12, 10:15] = 1, 2
    found = measure(plane, cells_from_labels(labels, labels.shape, (1.0, 1.0)), (10.0, 240.0), pixel_size_um=0.3)
    assert found.saturated == pytest.approx((60 + 6) / 600)
    assert found.dark == pytest.approx((30 + 12) / 600)
    assert found.coverage == pytest.approx(30 / 600)
    assert found.excluded == ""


# --- judge ----------------------------------------------------------------------------------------------------------

GOOD = {"focus": 1.0, "saturated": 0.0, "dark": 0.0, "coverage": 0.5}
LIMITS = Response()


@pytest.mark.parametrize(
    ("figures", "baseline", "reason"),
    [
        ({}, 1.0, ""),
        ({"focus": 0.26}, 1.0, ""),
        ({"focus": 0.24}, 1.0, "focus"),
        ({"focus": 0.26}, 2.0, "focus"),
        ({"focus": 0.0}, 0.0, ""),  # the baseline is not known yet
        ({"focus": math.nan}, 1.0, ""),  # nothing to focus on
        ({"focus": math.nan, "dark": 0.31}, 1.0, "exposure"),
        ({"saturated": 0.3}, 1.0, ""),  # at the limit it still counts
        ({"saturated": 0.31}, 1.0, "exposure"),
        ({"dark": 0.31}, 1.0, "exposure"),
        ({"coverage": 0.9}, 1.0, ""),
        ({"coverage": 0.91}, 1.0, "coverage"),
        ({"focus": 0.1, "dark": 0.9, "coverage": 1.0}, 1.0, "exposure"),
        ({"focus": 0.1, "coverage": 1.0}, 1.0, "focus"),
    ],
)
def test_frames_outside_the_limits_are_excluded_for_the_first_reason(figures, baseline, reason):
    quality = Quality(**{**GOOD, **figures})
    judged = judge(quality, baseline, LIMITS)
    assert judged.excluded == reason
    assert judge(judged, baseline, LIMITS).excluded == reason
    assert (judged.saturated, judged.dark, judged.coverage) == (quality.saturated, quality.dark, quality.coverage)


@pytest.mark.parametrize("kind", KINDS)
def test_defocused_frames_are_excluded_and_only_they(kind):
    """24 frames of an assay with misses of the autofocus, bubbles and dying cells, judged by the default limits."""
    assay = assay_of(kind, seed=7, timepoints=12, minutes=180.0, defocus_rate=0.3, bubble_rate=0.2)
    frames = frames_of(assay)
    intensity = range_of(frames[0][1])
    measured = [
        measure(frame.pixels[0], no_cells(assay.frame_shape), intensity, pixel_size_um=assay.micrometres_a_pixel)
        for _, frame in frames
    ]
    usual = usual_focus(quality.focus for (scene, _), quality in zip(frames, measured, strict=True)
                        if scene.timepoint < 4 and not scene.defocus_um)  # fmt: skip
    excluded = [judge(quality, usual, LIMITS).excluded for quality in measured]
    assert excluded == ["focus" if scene.defocus_um else "" for scene, _ in frames]
    assert excluded.count("focus") >= 4


def test_a_well_that_dies_is_not_mistaken_for_a_blurred_one():
    """Dead cells have faint rims: half the live cells' detail at the same focus."""
    assay = assay_of(seed=5, timepoints=13, minutes=180.0)
    frames = [(scene, frame) for scene, frame in frames_of(assay) if scene.timepoint in (0, 12)]
    first, last = frames[0][1], frames[-1][1]
    assert np.mean(frames[-1][0].cells["state"] > 0) > 0.8
    intensity = range_of(first)
    usual = focus(first.pixels[0], 0.322)
    dead = measure(last.pixels[0], cells_of(last, intensity), intensity, pixel_size_um=0.322)
    assert judge(dead, usual, LIMITS).excluded == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_few_cells_is_not_mistaken_for_a_blurred_one(kind):
    assay = assay_of(kind, timepoints=1)
    scene, frame = frames_of(assay)[0]
    intensity = range_of(frame)
    usual = focus(frame.pixels[0], assay.micrometres_a_pixel)
    inside = (scene.cells["y_um"] > 20) & (scene.cells["x_um"] > 20) & (scene.cells["state"] == 0)
    few = plane_of(assay, scene, cells=scene.cells[inside][:4])
    quality = measure(few, no_cells(few.shape), intensity, pixel_size_um=assay.micrometres_a_pixel)
    assert judge(quality, usual, LIMITS).excluded == ""


@pytest.mark.parametrize("usual", [0.3, 1.0, 2.0, focus(grains(), 0.322)])
def test_a_field_without_structure_is_never_left_out_as_blurred(usual):
    quality = measure(noisy(), no_cells((300, 400)), (0.0, 4000.0), pixel_size_um=0.322)
    assert judge(quality, usual, LIMITS).excluded == ""


def called(states: str, *, edge: str = "") -> tuple[Calls, np.ndarray]:
    """Calls of cells: l(ive), d(ebris), u(nknown debris); `edge`: x = at the border."""
    calls = calls_of(len(states), classes=2)
    best = np.array([0 if state == "l" else 1 for state in states], np.int16)
    unknown = np.array([state == "u" for state in states], bool)
    counted = np.array([mark != "x" for mark in edge.ljust(len(states))], bool)
    return dataclasses.replace(calls, best_ids=best, unknown=unknown), counted


@pytest.mark.parametrize(
    ("states", "edge", "excluded"),
    [
        ("lldd", "", ""),  # just at the limit
        ("lddd", "", "debris"),
        ("lddd", " xx", ""),  # debris at the border is not counted
        ("dl", " x", "debris"),  # nor are cells there
        ("lduu", "", ""),  # an unknown cell is no artefact, whatever it resembles
        ("dd", "xx", ""),  # nothing counts: there is no debris either
        ("", "", ""),
    ],
)
def test_a_frame_that_is_mostly_debris_is_left_out(states, edge, excluded):
    fine = Quality(focus=1.0, saturated=0.0, dark=0.0, coverage=0.1)
    calls, counted = called(states, edge=edge)
    assert judge_debris(fine, calls, counted, [1], 0.5).excluded == excluded
    assert judge_debris(fine, calls, counted, [], 0.5).excluded == ""  # an index without artefacts sees none
    blurred = dataclasses.replace(fine, excluded="focus")
    assert judge_debris(blurred, calls, counted, [1], 0.5) == blurred  # the first reason stands
