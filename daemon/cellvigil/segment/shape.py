"""Small tools of shape and smoothing, with sizes in pixels. Pure."""

from __future__ import annotations

import cv2
import numpy as np

from cellvigil.data import F32, U8, Bools


def blurred(image: F32, sigma: float) -> F32:
    """Gaussian blur; a sigma below 0.3 px changes nothing."""
    if sigma < 0.3:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)


def disc(radius: float) -> U8:
    """A round structuring element; a radius below 0.5 px is the single pixel."""
    side = 2 * max(round(radius), 0) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def opened(mask: Bools, radius: float) -> Bools:
    """What of `mask` a disc of `radius` can cover from inside."""
    return np.asarray(cv2.morphologyEx(np.asarray(mask, dtype=np.uint8), cv2.MORPH_OPEN, disc(radius)) > 0)


def closed(mask: Bools, radius: float) -> Bools:
    """`mask` with every gap that a disc of `radius` cannot enter."""
    return np.asarray(cv2.morphologyEx(np.asarray(mask, dtype=np.uint8), cv2.MORPH_CLOSE, disc(radius)) > 0)
