"""Local detail against noise: what a cell has and empty ground has not, whatever the contrast. Pure."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cellvigil.data import F32, U8
from cellvigil.segment.shape import blurred, disc

_SIZES = (1 / 40, 1 / 25, 1 / 15)  # of the detail, in diameters: granules, a rim, a nucleus' edge
_WINDOW = 1 / 24  # sigma of the window over which detail is averaged, in diameters
_FLOOR_PERCENTILE = 1.0  # of a band's energy: there is nearly always a hundredth of empty ground
_FLOOR_GAIN = 1.6  # from that percentile to the typical energy of empty ground
_LEAST_FLOOR = 0.1  # grey levels: an 8-bit image cannot be quieter
_LOWEST, _HIGHEST = math.log(1.6), math.log(5.0)  # limits of the threshold


def detail_of(image: U8, shape: tuple[int, int], diameter_px: float) -> F32:
    """Mean over three bands of log(energy / noise floor), at least 0, on a grid of `shape`.

    `diameter_px` is the cell diameter in pixels of `image`. Each band has its own floor, so that noise of one size
    cannot hide detail of another. Pixels clipped to black or white have no noise and are left out of the floor.
    """
    fine = image.astype(np.float32)
    window = _WINDOW * diameter_px * shape[0] / image.shape[0]
    usable = _unclipped(image, shape, window)
    total = np.zeros(shape, dtype=np.float32)
    for size in _SIZES:
        sigma = size * diameter_px
        band = np.abs(blurred(fine, sigma / 2) - blurred(fine, sigma))
        energy = blurred(np.asarray(cv2.resize(band, shape[::-1], interpolation=cv2.INTER_AREA)), window)
        floor = max(float(np.percentile(energy[usable], _FLOOR_PERCENTILE)) * _FLOOR_GAIN, _LEAST_FLOOR)
        total += np.log(np.maximum(energy / np.float32(floor), 1))
    return total / np.float32(len(_SIZES))


def detail_threshold(detail: F32, sensitivity: float) -> float:
    """Detail above this is a cell's: Otsu's, kept within 1.6 to 5 noise floors, then divided by `sensitivity`.

    Within limits, because Otsu's own splits noise where there are no cells, and cells where there is no ground.
    """
    top = float(detail.max())
    otsu = 0.0
    if top > 0:
        otsu, _ = cv2.threshold((detail * (255 / top)).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return max(min(max(otsu * top / 255, _LOWEST), _HIGHEST) - math.log(sensitivity), 0.0)


def _unclipped(image: U8, shape: tuple[int, int], window: float) -> np.ndarray:
    clipped = np.asarray((image == 0) | (image == 255), dtype=np.float32)
    small = cv2.resize(clipped, shape[::-1], interpolation=cv2.INTER_AREA)
    usable = np.asarray(cv2.dilate(small, disc(2 * window)) == 0)
    return usable if usable.mean() > 0.05 else np.ones(shape, dtype=np.bool_)
