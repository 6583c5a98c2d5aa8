"""The OpenCV segmenter for label-free images: bright-field, phase contrast, holotomography. Pure.

    texture -> ground and halos taken off -> bright lines between cells -> regions -> waists cut -> areas

Knows no training: what it cannot do stands in ARCHITECTURE.md. Lengths are tied to `segment.cell_diameter_um`.
"""

from __future__ import annotations

import numpy as np

from cellvigil.config import Segment
from cellvigil.data import F32, I32, U8
from cellvigil.segment.foreground import Ground, foreground
from cellvigil.segment.protocol import Segmenter
from cellvigil.segment.regions import cut_at_necks, joined, lines
from cellvigil.segment.texture import Working, working

_DARK = 0.3  # times the local contrast below the ground is dark
_DARK_SHARE = 0.1  # a cell has at least so much of it (its rim)
_ENERGY_SHARE = 0.5  # and at least so much of the threshold's energy on average
_SMALLEST_PX = 16  # an image smaller than this on a side holds no cell


def opencv_segmenter(settings: Segment) -> Segmenter:
    """A segmenter with these settings."""

    def run(image: U8, pixel_size_um: float) -> I32:
        return _segment(image, pixel_size_um, settings)

    return run


def _segment(image: U8, pixel_size_um: float, settings: Segment) -> I32:
    """Labels (Y, X) i32 on the working grid, which is no finer than the image; 0 = background."""
    diameter = settings.cell_diameter_um
    work = working(image, pixel_size_um, diameter, settings.sensitivity)
    if min(work.image.shape) < _SMALLEST_PX or not work.busy.any():
        return np.zeros(work.image.shape, dtype=np.int32)
    ground = foreground(work, diameter)
    diameter_px = diameter / work.pixel_um
    height = lines(work.image, ground.contrast, ground.bright, diameter_px)
    labels = _cells_only(joined(ground.mask, height, diameter_px), work, ground)
    labels = cut_at_necks(labels, diameter_px)
    areas: F32 = np.bincount(labels.ravel()).astype(np.float32) * np.float32(work.pixel_um**2)
    keep = (areas >= settings.min_area_um2) & (areas <= settings.max_area_um2)
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _cells_only(labels: I32, work: Working, ground: Ground) -> I32:
    """Without regions that have neither a dark rim nor a bright body."""
    pixels = np.maximum(np.bincount(labels.ravel()), 1)
    energy = np.bincount(labels.ravel(), work.energy.ravel()) / pixels
    dark = np.bincount(labels.ravel(), (ground.relief < -_DARK).ravel()) / pixels
    bright = np.bincount(labels.ravel(), ground.bright.ravel()) / pixels
    keep = ((dark > _DARK_SHARE) & (energy > _ENERGY_SHARE * work.threshold)) | (bright > 0.5)
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)
