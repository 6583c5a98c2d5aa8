"""The real MobileSAM (its own weights) asked by OpenCV's boxes on real phase contrast: better outlines, no cell lost.

Skipped where the bundle is not in the repository's `encoders` folder (`cellvigil-export run mobile-sam` puts it there)
or the images are absent. Figures: benchmarks/README.md, made by benchmarks/sam_segmentation.py.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.segmenter import open_segmenter
from cellvigil.config import Segment
from cellvigil.data import IntensityRule
from cellvigil.normalize import intensity_range
from cellvigil.segment import opencv_segmenter
from cellvigil.segment.sam import sam_segmenter
from cellvigil.segment.sam_session import open_sam

BUNDLE = Path(__file__).parents[1] / "encoders" / "mobile-sam"
UM = 0.871
SETTINGS = Segment(method="sam", cell_diameter_um=65.0, min_area_um2=300.0, max_area_um2=10000.0)


@pytest.fixture(scope="module")
def mobile_sam():
    if not (BUNDLE / MANIFEST).is_file():
        pytest.skip(f"no real MobileSAM: {BUNDLE} is not there (`cellvigil-export run mobile-sam`)")
    return open_sam(open_segmenter(BUNDLE), device="cpu")


@pytest.fixture(scope="module")
def field(real_images):
    """The upper left of a frame of T98G cells, u8, and the true cells in it."""
    folder = real_images / "phase-t98g"
    plane = tifffile.imread(folder / "t03.tif")
    low, high = intensity_range([plane], IntensityRule())
    image = np.clip((plane.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return image, cv2.imread(str(folder / "t03_mask.png"), cv2.IMREAD_UNCHANGED)


def overlaps(labels, truth):
    """Intersection over union of each true cell with the mask that fits it best."""
    both = np.zeros((int(truth.max()) + 1, int(labels.max()) + 1))
    np.add.at(both, (truth.ravel(), labels.ravel()), 1)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    return (both / np.maximum(union, 1))[1:, 1:].max(axis=1)[np.unique(truth)[1:] - 1]


def test_boxes_of_opencv_give_better_outlines_and_lose_no_cell(mobile_sam, field):
    """Measured over the four frames: F1 0.55 with OpenCV alone, 0.65 with boxes."""
    image, truth = field
    plain = opencv_segmenter(SETTINGS)
    before = plain(image, UM)
    after = sam_segmenter(SETTINGS, mobile_sam, plain)(image, UM)
    whole = cv2.resize(before, image.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    assert set(np.unique(after)) == set(np.unique(whole))
    right = [int((overlaps(labels, truth) > 0.5).sum()) for labels in (whole, after)]
    assert right[1] >= right[0] + 3


def test_a_true_cell_s_box_is_answered_with_its_outline(mobile_sam, field):
    """What the decoder is for: measured, 0.97 of the cells are right at 0.5."""
    image, truth = field
    crop, cells = image[:512, :512], np.ascontiguousarray(truth[:512, :512]).astype(np.int32)
    sizes = np.bincount(cells.ravel())
    cells[(sizes < 1500)[cells]] = 0  # what the crop cut off
    labels = sam_segmenter(SETTINGS, mobile_sam, lambda _image, _um: cells)(crop, UM)
    assert np.mean(overlaps(labels, cells) > 0.5) > 0.85
