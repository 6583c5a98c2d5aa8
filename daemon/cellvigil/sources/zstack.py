"""One image out of a z stack: the sharpest slice, or the maximum along z. One slice in memory at a time.

`focus` is for bright field and phase, where slices out of focus are of no use; `max` is the maximum-intensity
projection that the EWC-FAISS papers use for holotomography, and the usual one for fluorescence.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from cellvigil.data import Array
from cellvigil.errors import BadFile


def reduce_z(slices: Iterable[Array], rule: str, *, where: str = "") -> Array:
    """The slices, each (Y, X) or (C, Y, X) and all of one shape, as one of them.

    `rule` is "focus" (ties to the lower slice) or "max". Raises BadFile("geometry_changed") for unequal shapes and
    BadFile("unreadable") if there is no slice.
    """
    best: Array | None = None
    best_sharpness = -1.0
    for current in slices:
        if best is None:
            best = current
            continue
        if current.shape != best.shape:
            what = f"z slices of {best.shape} and {current.shape} pixels"
            raise BadFile("geometry_changed", what, where=where)
        if rule == "max":
            best = np.maximum(best, current)
            continue
        if best_sharpness < 0:
            best_sharpness = sharpness(best)
        if (value := sharpness(current)) > best_sharpness:
            best, best_sharpness = current, value
    if best is None:
        raise BadFile("unreadable", "there is no image in it", where=where)
    return best


def sharpness(image: Array) -> float:
    """Variance of the Laplacian of the slightly smoothed image: larger is sharper. Comparable inside one stack."""
    grey = image.mean(axis=0) if image.ndim == 3 else image
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (3, 3), 0)
    return float(cv2.Laplacian(smooth, cv2.CV_32F).var())
