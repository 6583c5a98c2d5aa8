"""The last frame as a picture: each cell outlined by the state that it was called. Pixels in, JPEG out."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from cellvigil.board.values import UNKNOWN_COLOUR
from cellvigil.data import I32, U8, Array

_WIDEST = 1200  # pixels of its longer side: more than a page shows
_QUALITY = 88  # JPEG: outlines stay crisp, a full field takes 150 kB


def drawn(plane: Array, labels: I32, states: Mapping[int, str], colours: Mapping[str, str]) -> bytes:
    """A raw plane (Y, X) as JPEG, darkest and brightest half percent cut off, no side longer than 1200 pixels.

    `labels` (Y, X): the masks, 0 = background; `states`: label -> state; `colours`: "#rrggbb" by state. A cell without
    a state, or a state without a colour, is grey.
    """
    height, width = plane.shape
    scale = min(1.0, _WIDEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    values = np.nan_to_num(np.asarray(plane, dtype=np.float32), posinf=0.0, neginf=0.0)
    grey = _grey(cv2.resize(values, size, interpolation=cv2.INTER_AREA))
    small = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    image = np.repeat(grey[..., None], 3, axis=2)
    palette = np.full((int(small.max(initial=0)) + 1, 3), _bgr(UNKNOWN_COLOUR), dtype=np.uint8)
    for label, state in states.items():
        if label < len(palette):
            palette[label] = _bgr(colours.get(state, UNKNOWN_COLOUR))
    edge = _edges(small, max(2, round(max(size) / 400)))
    image[edge] = palette[small[edge]]
    every_colour = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)  # outlines are thin
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, *every_colour])
    return encoded.tobytes()


def _grey(values: Array) -> U8:
    low, high = np.percentile(values, (0.5, 99.5))
    grey = np.clip((values - low) * (255 / max(float(high - low), 1e-6)), 0, 255)
    return np.asarray(grey, dtype=np.uint8)


def _edges(labels: Array, width: int) -> Array:
    """(Y, X) bool: the outermost pixels of every mask, `width` pixels wide."""
    values, kernel = labels.astype(np.float32), np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inner = (cv2.erode(values, kernel) == values) & (cv2.dilate(values, kernel) == values)
    return np.asarray((labels > 0) & ~inner)


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return blue, green, red
