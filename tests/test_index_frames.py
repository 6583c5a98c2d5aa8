"""Homogeneous frames: every cell that the daemon's segmenter finds is of the folder's class."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile

from cellvigil import normalize
from cellvigil.config import Segment
from cellvigil.data import Fit, ImageRule, IntensityRule
from cellvigil.errors import UsageError
from cellvigil.rehearse.reference import write_reference
from cellvigil.segment import cells_from_labels, opencv_segmenter
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.collecting import collect
from cellvigil_indexes.inputs.folders import read_frames
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.images import read_image
from cellvigil_indexes.inputs.labelled import grouped
from cellvigil_indexes.inputs.pictures import picture_rule, pictures
from cellvigil_indexes.inputs.scene import frame_of, intensity_of, with_every_cell
from lab import small_assay

RULE = ImageRule(pixel_size_um=0.4, crop_um=28.0)


def quiet(done, total, /, cached=0):
    pass


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Two simulated fields a class, as TIFFs without a word on their scale; (folder, micrometres a pixel)."""
    base = tmp_path_factory.mktemp("frames")
    reference = write_reference(base / "reference", small_assay(), 4)
    found = read_coco(reference.annotations)
    for number, image in enumerate(found.images[:4]):
        folder = base / "frames" / ("control", "treated")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{number}.tif", read_image(image.path)[0])
    return base / "frames", found.pixel_size_um


@pytest.mark.parametrize("mask", [False, True])
def test_cells_are_those_that_the_pipeline_finds_and_so_are_their_pictures(frames, mask):
    folder, um = frames
    found = read_frames(folder, um)
    rule = replace(RULE, mask=mask)
    how = picture_rule(rule, found.images, found.pixel_size_um, 16.0)
    for image in found.images:
        pixels = read_image(image.path)
        frame = frame_of(image, pixels, (um, um))
        scaled = normalize.analysis_image(frame, "", rule, intensity_of(image, how))
        labels = opencv_segmenter(Segment(cell_diameter_um=16.0))(normalize.grey(scaled), scaled.pixel_size_um)
        live = cells_from_labels(labels, pixels.shape[1:], (um, um))
        inner = ~live.touches_edge
        assert inner.any()
        own = live.labels if mask else None
        wanted = normalize.crops(scaled, live.centroids_px, rule, fit=Fit(64), labels=own).pixels[inner]
        whole = with_every_cell(image, pixels, how)
        assert {cell.class_name for cell in whole.cells} == {image.name.partition("/")[0]}
        np.testing.assert_array_equal(pictures(whole, pixels, how, [Fit(64)])[Fit(64)], wanted)


@pytest.mark.parametrize("cached", [False, True])
def test_they_are_collected_with_and_without_a_cache_and_chosen_like_any(frames, tmp_path, cached):
    folder, um = frames
    found = read_frames(folder, um)
    images = grouped(found.images, None)
    how = picture_rule(RULE, images, um)
    plain = collect(images, how, [], quiet)
    assert set(Counter(cell.class_name for cell in plain.cells)) == {"control", "treated"}
    assert {cell.group for cell in plain.cells} == {image.name for image in images}
    cache = tmp_path / "cache" if cached else None
    for _ in range(2):
        few = collect(images, how, [], quiet, Gathering(limit=3, balance=True, cache=cache))
        assert Counter(cell.class_name for cell in few.cells) == {"control": 3, "treated": 3}
        assert set(few.cells) <= set(plain.cells)
    again = collect(images, how, [], quiet, Gathering(cache=cache))
    assert list(again.cells) == list(plain.cells)
    np.testing.assert_array_equal(again.thumbnails, plain.thumbnails)


def test_one_intensity_range_over_the_classes_so_that_none_is_normalised_by_itself(tmp_path):
    rng = np.random.default_rng(0)
    for name, level in (("dim", 500), ("bright", 3000)):
        for plate in ("p1", "p2"):
            (tmp_path / name / plate).mkdir(parents=True)
            low = level * (1 if plate == "p1" else 10)
            tifffile.imwrite(tmp_path / name / plate / "1.tif", rng.integers(low, low + 400, (40, 50), dtype=np.uint16))
    found = read_frames(tmp_path, 0.5)
    how = picture_rule(ImageRule(pixel_size_um=0.5, intensity=IntensityRule(low=0, high=100)), found.images, 0.5)
    ranges = {image.name: intensity_of(image, how) for image in found.images}
    assert ranges["dim/p1/1.tif"] == ranges["bright/p1/1.tif"]
    assert ranges["dim/p2/1.tif"] == ranges["bright/p2/1.tif"] != ranges["dim/p1/1.tif"]
    assert 490 < ranges["dim/p1/1.tif"][0] < 520
    assert 3380 < ranges["dim/p1/1.tif"][1] < 3400


def test_the_pixel_size_is_the_files_own_or_what_is_said(tmp_path):
    (tmp_path / "a").mkdir()
    blank = np.zeros((9, 9), np.uint16)
    tifffile.imwrite(
        tmp_path / "a" / "1.ome.tif", blank, metadata={"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3}
    )
    resolution = {"resolution": (1 / 0.25, 1 / 0.25), "metadata": {"unit": "um"}, "imagej": True}
    tifffile.imwrite(tmp_path / "a" / "2.tif", blank, **resolution)
    found = read_frames(tmp_path, None)
    sizes = [image.pixel_size_um for image in found.images]
    assert sizes == [pytest.approx((0.3, 0.3)), pytest.approx((0.25, 0.25))]
    assert found.pixel_size_um == pytest.approx(0.3)
    assert {image.pixel_size_um for image in read_frames(tmp_path, 0.5).images} == {(0.5, 0.5)}
    cv2.imwrite(str(tmp_path / "a" / "3.png"), blank)
    with pytest.raises(UsageError, match=r"how large a pixel is \(see --pixel-size\): 1 \(3\.png\)"):
        read_frames(tmp_path, None)
    assert len(read_frames(tmp_path, None, skip_bad=True).images) == 2


def test_frames_in_which_nothing_is_found(tmp_path):
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "empty" / "1.png"), np.full((120, 120), 128, np.uint8))
    found = read_frames(tmp_path, 0.4)
    with pytest.raises(UsageError, match=r"no cell in these images.*--cell-diameter"):
        collect(found.images, picture_rule(RULE, found.images, 0.4), [], quiet)
