"""How far a field of view has moved between two pictures of it, by phase correlation. Pure.

For the plate that went out and came back (another seat in the holder): cells are the landmarks, so what
is compared is local detail, freed of the lamp and of contrast; a window takes the borders away, which are in one of the
pictures only. Kuglin and Hines 1975; OpenCV's `phaseCorrelate`.

How sure it is: the peak is the share of the correlation that lies in one place. Rehearsed cells that crawl, divide and
die, on ground without a speck, and real phase contrast (benchmarks/README.md): two places have a peak below 0.17 (99 %;
with 40 cells or more in sight), one place up to an hour apart above 0.2 in nine of ten, so 0.2 parts them. Six hours
later the cells have crawled too far, and nothing can be told.

How far it sees: the correlation wraps, so 0.6 of a side reads as 0.4 the other way. That still is far. What could pass
for little, a move of more than 0.8, leaves a fifth of the field in both pictures, at the windowed border: no peak, so
it is not told, like another place altogether.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from cellvigil.data import F32, Array

LEAST_PEAK = 0.2
"""With a lower one nobody knows how far the field moved, or whether it is the same place."""

LEAST_SIDE = 64
"""Pixels; a smaller picture shows too little."""

_DETAIL_PX = 6.0  # sigma of what counts as lamp and ground: about 8 um in a reduced picture at 20x
_EVEN = 0.3  # of the whole contrast: below it, detail is not raised to the level of the rest


def measure(before: Array, after: Array) -> tuple[float, float]:
    """How far `after` is displaced against `before`, both (Y, X): as a share of the side, of both axes the larger one,
    and the correlation's peak (about 0..1).

    The share is 0..0.5, wrapped (see above); NaN where the peak is below LEAST_PEAK, or the pictures are smaller than
    LEAST_SIDE, of two shapes, or without any detail (then the peak is 0).
    """
    if before.shape != after.shape or min(before.shape) < LEAST_SIDE:
        return math.nan, 0.0
    one, other = _detail(before), _detail(after)
    if one is None or other is None:
        return math.nan, 0.0
    height, width = before.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (x, y), peak = cv2.phaseCorrelate(one, other, window)
    if not peak >= LEAST_PEAK:
        return math.nan, peak if math.isfinite(peak) else 0.0
    return min(0.5, max(abs(y) / height, abs(x) / width)), peak


def _detail(image: Array) -> F32 | None:
    """What is smaller than the ground's unevenness, everywhere about as strong; None where there is nothing."""
    plane = np.nan_to_num(np.asarray(image, dtype=np.float32))
    fine = plane - _smooth(plane, _DETAIL_PX)
    contrast = float(fine.std())
    if not (math.isfinite(contrast) and contrast > 1e-6 * (1 + float(np.abs(plane).max()))):
        return None
    even = fine / (np.sqrt(_smooth(fine * fine, 2 * _DETAIL_PX)) + np.float32(_EVEN * contrast))
    return np.asarray(even - even.mean(), dtype=np.float32)


def _smooth(plane: F32, sigma: float) -> F32:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)
