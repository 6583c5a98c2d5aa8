"""What SAM answers, as masks cut out on the frame's own grid: from coarse logits to bits, area and stability. Pure.

The stability score is that of SAM's automatic mask generator (Kirillov et al. 2023, section B): how much of a mask
stays when its threshold moves by one logit either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.bundle.segmenter import STRIDE
from cellvigil.data import F32, U8, Array, Bools
from cellvigil.segment.sam_tiles import Tile

OFFSET = 1.0  # logits; the threshold itself is 0
Box = tuple[int, int, int, int]  # y0, x0, y1, x1 in pixels of the frame, half-open


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One object, cut out of the frame."""

    box: Box  # where `bits` lies; as tight as can be
    bits: Bools  # (y1 - y0, x1 - x0)
    iou: float  # the overlap with the truth that SAM predicts
    stability: float
    area: int  # pixels of the frame

    @property
    def quality(self) -> float:
        """Which of two masks stands."""
        return self.iou


def cut_out(logits: F32, iou: float, tile: Tile, frame: tuple[int, int]) -> Mask | None:
    """A mask's logits (rows, columns), one for every four pixels of the picture, on the grid of a frame (Y, X).

    Only its largest connected piece is kept, holes and all. None where nothing is above the threshold.
    """
    within = logits[: math.ceil(tile.rows / STRIDE), : math.ceil(tile.columns / STRIDE)]
    box = _around(within > -OFFSET, tile, frame)
    if box is None:
        return None
    fine = on_frame(within, tile, box)
    above, below = int(np.count_nonzero(fine > OFFSET)), int(np.count_nonzero(fine > -OFFSET))
    return trimmed(box, largest_piece(fine > 0), iou, above / max(below, 1))


def trimmed(box: Box, bits: Bools, iou: float, stability: float) -> Mask | None:
    """A mask with its box drawn tight; None if no bit is set."""
    ys, xs = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if not len(ys):
        return None
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    tight = (box[0] + y0, box[1] + x0, box[0] + y1, box[1] + x1)
    own = np.ascontiguousarray(bits[y0:y1, x0:x1])
    return Mask(tight, own, iou, stability, int(np.count_nonzero(own)))


def on_frame(logits: F32, tile: Tile, box: Box) -> F32:
    """The logits at every pixel of the frame in `box`, bilinear: as torch's `interpolate` without aligned corners."""
    ys = _places(np.arange(box[0], box[2]) - tile.y, tile.rows / tile.height)
    xs = _places(np.arange(box[1], box[3]) - tile.x, tile.columns / tile.width)
    (top, bottom, down), (left, right, across) = (
        _between(places, length) for places, length in zip((ys, xs), logits.shape, strict=True)
    )
    rows = logits[top] * (1 - down[:, None]) + logits[bottom] * down[:, None]
    return np.asarray(rows[:, left] * (1 - across) + rows[:, right] * across, dtype=np.float32)


def _places(pixels: Array, scale: float) -> F32:
    """Where the middles of a tile's pixels lie among the logits."""
    return np.asarray((pixels + 0.5) * scale / STRIDE - 0.5, dtype=np.float32)


def _between(places: F32, length: int) -> tuple[Array, Array, F32]:
    """The two logits that each place lies between, and how far on; held at the border."""
    held = np.clip(places, 0, length - 1)
    first = np.floor(held).astype(np.int64)
    return first, np.minimum(first + 1, length - 1), np.asarray(held - first, dtype=np.float32)


def _around(there: Bools, tile: Tile, frame: tuple[int, int]) -> Box | None:
    """The pixels of the frame on which logits that are `there` have a bearing."""
    ys, xs = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(ys):
        return None
    bounds = []
    for line, first, length, scale, most in (
        (ys, tile.y, tile.height, tile.rows / tile.height, frame[0]),
        (xs, tile.x, tile.width, tile.columns / tile.width, frame[1]),
    ):
        low = first + math.floor((line[0] - 0.5) * STRIDE / scale)
        high = first + math.ceil((line[-1] + 1.5) * STRIDE / scale)
        bounds.append((max(low, first, 0), min(high, first + length, most)))
    (y0, y1), (x0, x1) = bounds
    return y0, x0, y1, x1


def largest_piece(bits: Bools) -> Bools:
    """The largest connected piece (by sides) of `bits`; the first of equals."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=4)
    if count <= 2:
        return bits
    return np.asarray(pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def without_holes(bits: Bools, largest: float) -> Bools:
    """`bits` with every hole of less than `largest` pixels filled; what reaches the border of the box is no hole."""
    framed: U8 = cv2.copyMakeBorder((~bits).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1).astype(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(framed, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < largest
    small[[0, int(pieces[0, 0])]] = False
    return np.asarray(bits | small[pieces][1:-1, 1:-1])
