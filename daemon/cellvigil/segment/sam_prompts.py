"""What SAM is asked: a box a cell, or points all over a tile. Pure. Kirillov et al. (2023), sections 2 and D.2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I32, I64
from cellvigil.segment.sam_tiles import Tile, owner, to_picture

POINT, CORNER, OPPOSITE, PADDING = 1, 2, 3, -1  # labels of a prompt's points


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """p prompts for one tile; each asks for a mask of what it points at."""

    points: F32  # (p, 2, 2) x, y in pixels of the picture
    labels: I64  # (p, 2)

    def __len__(self) -> int:
        return len(self.points)


def boxes_of(labels: I32, count: int) -> I32:
    """Half-open boxes (count, 4) y0, x0, y1, x1 of labels 1..count in a label image (Y, X); 0, 0, 0, 0 if absent."""
    boxes = np.zeros((count, 4), np.int32)
    y, x = np.nonzero(labels)
    which = labels[y, x] - 1
    for column, line in ((0, y), (1, x)):
        least = np.full(count, np.iinfo(np.int32).max, np.int32)
        np.minimum.at(least, which, line.astype(np.int32))
        np.maximum.at(boxes[:, column + 2], which, line.astype(np.int32) + 1)
        boxes[:, column] = np.where(boxes[:, column + 2] > 0, least, 0)
    return boxes


def box_prompts(boxes: F32, tile: Tile, margin: float) -> Prompts:
    """Boxes (n, 4) y0, x0, y1, x1 in pixels of the frame, `margin` pixels wider on each side, within the tile."""
    y0, x0, y1, x1 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    left, right = (np.clip(x, tile.x, tile.x + tile.width) for x in (x0 - margin, x1 + margin))
    top, bottom = (np.clip(y, tile.y, tile.y + tile.height) for y in (y0 - margin, y1 + margin))
    corners = np.stack([np.stack([left, top], axis=-1), np.stack([right, bottom], axis=-1)], axis=1)
    labels = np.tile(np.array([CORNER, OPPOSITE], np.int64), (len(y0), 1))
    return Prompts(to_picture(tile, corners.astype(np.float32)), labels)


def grid_prompts(tile: Tile, tiles: tuple[Tile, ...], points_per_side: int) -> Prompts:
    """Points over a tile, `points_per_side` along its longer side, each in the middle of its part.

    Points that lie deeper in another of the frame's `tiles` are left to that one.
    """
    step = max(tile.height, tile.width) / points_per_side
    lines = [(np.arange(max(1, round(length / step))) + 0.5) for length in (tile.height, tile.width)]
    ys = tile.y + lines[0] * tile.height / len(lines[0])
    xs = tile.x + lines[1] * tile.width / len(lines[1])
    places = [(x, y) for y in ys.tolist() for x in xs.tolist()]
    if len(tiles) > 1:
        own = tiles.index(tile)
        places = [(x, y) for x, y in places if owner(tiles, y, x) == own]
    middle = to_picture(tile, np.array(places, np.float32).reshape(-1, 2))
    # Without a box the original adds a point that is none.
    points = np.stack([middle, np.zeros_like(middle)], axis=1)
    return Prompts(points, np.tile(np.array([POINT, PADDING], np.int64), (len(points), 1)))
