"""How a frame is cut into the square pictures that SAM takes, and the way between the two grids. Pure.

SAM's own way is one picture: the longer side brought to 1024 pixels, the rest left black (Kirillov et al. 2023), pixel
by pixel as its image processor does it. Its masks have a pixel of four, so a cell that would be small there is not seen
well. Such frames are cut into tiles that overlap by two cells, so that each cell lies whole in one of them, and each
tile is brought to the same size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.data import F32, U8
from cellvigil.resample import bilinear

LEAST_CELL = 40  # pixels of the picture to a cell's diameter, below which the frame is cut (see benchmarks/README.md)
_OVERLAP = 2.0  # of tiles, in cell diameters


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a frame, and how it is brought into a picture: upper left corner, enlarged `scale` times."""

    y: int  # first row, pixels of the frame
    x: int
    height: int
    width: int
    scale: float  # pixels of the picture to a pixel of the frame
    rows: int  # of the picture that it fills
    columns: int

    def depth(self, y: float, x: float) -> float:
        """How far inside a point of the frame lies, in pixels of the frame; negative outside."""
        return min(y - self.y, self.y + self.height - y, x - self.x, self.x + self.width - x)


def tiles_of(shape: tuple[int, int], diameter: float, side: int) -> tuple[Tile, ...]:
    """The tiles that cover a frame of `shape` (Y, X), with cells of `diameter` pixels, for pictures of `side`.

    One tile where the cells stay large enough in it, else as many as they need. Never none.
    """
    height, width = shape
    whole = side / max(shape)
    if diameter * whole >= LEAST_CELL or max(shape) == 1:
        return (_tile((0, 0), shape, whole),)
    reach = max(1, math.floor(side * diameter / LEAST_CELL))
    overlap = min(math.ceil(_OVERLAP * diameter), reach // 2)
    return tuple(
        _tile((y, x), (min(reach, height), min(reach, width)), side / reach)
        for y in _starts(height, reach, overlap)
        for x in _starts(width, reach, overlap)
    )


def _tile(corner: tuple[int, int], shape: tuple[int, int], scale: float) -> Tile:
    rows, columns = (max(int(length * scale + 0.5), 1) for length in shape)  # rounded as the image processor does
    return Tile(*corner, *shape, scale, rows, columns)


def _starts(length: int, reach: int, overlap: int) -> list[int]:
    """First pixels of as few stretches of `reach` as cover `length` with at least `overlap` between two."""
    if length <= reach:
        return [0]
    count = math.ceil((length - overlap) / (reach - overlap))
    return [round(place * (length - reach) / (count - 1)) for place in range(count)]


def owner(tiles: tuple[Tile, ...], y: float, x: float) -> int:
    """The tile that a point of the frame lies deepest in; the first of equals."""
    return max(range(len(tiles)), key=lambda place: tiles[place].depth(y, x))


def picture_of(image: U8, tile: Tile, side: int) -> U8:
    """The tile as SAM's picture, (side, side, 3) u8: grey repeated as red, green and blue, black beyond it."""
    part = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
    grey = np.zeros((side, side), np.uint8)
    grey[: tile.rows, : tile.columns] = bilinear(part, (tile.rows, tile.columns))
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def to_picture(tile: Tile, points: F32) -> F32:
    """Points (..., 2) x, y in pixels of the frame, measured from its corner, in pixels of the picture as SAM counts.

    SAM counts from the middle of the first pixel: the corner of the picture is at -0.5.
    """
    origin = np.array([tile.x, tile.y], np.float32)
    scale = np.array([tile.columns / tile.width, tile.rows / tile.height], np.float32)
    return np.asarray((points - origin) * scale - np.float32(0.5), dtype=np.float32)
