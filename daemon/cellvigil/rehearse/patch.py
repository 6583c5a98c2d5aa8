"""The piece of a frame that one cell covers: how deep each of its points lies in the cell, and granules. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.data import F32
from cellvigil.rehearse.scene import Floats
from cellvigil.rehearse.shape import LOBES, Shapes

MARGIN_UM = 3.0
"""How far a patch reaches beyond the cell: as far as its halo."""
TABLE_STEP = 16
"""Entries of a depth table a um."""
TABLE_INSIDE_UM = 24.0
_TILE = 512
_ROUGHNESS_UM = 0.22

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One cell's piece of the frame, h by w pixels."""

    index: int  # row of the cell in its table
    window: Window  # rows and columns of the frame
    dy: F32  # (h, 1) um from the cell's centre
    dx: F32  # (1, w) um
    depth: F32  # (h, w) um inside the outline; negative outside
    grain: F32  # (h, w) granules, about zero mean and unit variance
    traits: Floats  # (TRAITS,) the cell's own fixed numbers in [0, 1)


def patches(
    shapes: Shapes, order: Iterable[int], centres_px: Floats, frame: tuple[int, int], pixel_size_um: float
) -> Iterator[Patch]:
    """The patches of the cells in `order` that reach into the frame (Y, X); `centres_px` are (n, 2) y, x."""
    grain = granules(pixel_size_um)
    rough = granules(pixel_size_um * 0.4)
    for index in order:
        reach_px = (float(shapes.radius[index]) * 1.45 + MARGIN_UM) / pixel_size_um
        window = window_of(frame, centres_px[index], reach_px)
        if window is None:
            continue
        dy, dx = distances(window, centres_px[index], pixel_size_um)
        traits = shapes.traits[index]
        piece = _grain_window(traits, window)
        depth = depth_inside(shapes, index, dy, dx)
        depth += np.float32(_ROUGHNESS_UM) * rough[piece]
        yield Patch(index, window, dy, dx, depth, grain[piece], traits)


def window_of(frame: tuple[int, ...], centre: Floats, reach_px: float) -> Window | None:
    """The part of the frame within `reach_px` of `centre` (y, x), or None where that is off the frame."""
    y0, x0 = (max(0, int(np.floor(at - reach_px))) for at in centre)
    y1, x1 = (min(size, int(np.ceil(at + reach_px)) + 1) for at, size in zip(centre, frame, strict=True))
    return (slice(y0, y1), slice(x0, x1)) if y1 > y0 and x1 > x0 else None


def distances(window: Window, centre: Floats, pixel_size_um: float) -> tuple[F32, F32]:
    """Distances of a window's rows and columns from `centre` (y, x pixels), um: (h, 1) and (1, w)."""
    dy, dx = (
        (np.arange(part.start, part.stop, dtype=np.float32) - np.float32(at)) * np.float32(pixel_size_um)
        for part, at in zip(window, centre, strict=True)
    )
    return dy[:, None], dx[None, :]


def depth_inside(shapes: Shapes, index: int, dy: F32, dx: F32) -> F32:
    """How deep inside the cell's outline each point is, um, (h, w); negative outside. Lobes join the body."""
    distance = np.sqrt(dy * dy + dx * dx)
    near = distance + np.float32(1e-3)
    cos1, sin1 = dx / near, dy / near
    cos2, sin2 = cos1 * cos1 - sin1 * sin1, 2 * cos1 * sin1
    cos3, sin3 = cos2 * cos1 - sin2 * sin1, sin2 * cos1 + cos2 * sin1
    cos5, sin5 = cos3 * cos2 - sin3 * sin2, sin3 * cos2 + cos3 * sin2
    depth = np.float32(shapes.body[index]) - distance
    for column, (cosine, sine) in enumerate(((cos2, sin2), (cos3, sin3), (cos5, sin5))):
        size, phase = shapes.body[index] * shapes.waves[index, column], shapes.phases[index, column]
        depth += cosine * np.float32(size * np.cos(phase)) + sine * np.float32(size * np.sin(phase))
    for lobe in range(LOBES):
        lobe_y, lobe_x, radius = (np.float32(part) for part in shapes.lobes[index, lobe])
        if radius > 0:
            np.maximum(depth, radius - np.sqrt((dy - lobe_y) ** 2 + (dx - lobe_x) ** 2), out=depth)
    return np.asarray(depth, dtype=np.float32)


def table_depths() -> Floats:
    """The depths, um, that the entries of a depth table stand for."""
    return np.arange(-MARGIN_UM, TABLE_INSIDE_UM, 1 / TABLE_STEP)


def table_rows(depth: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Which entry of a depth table each point takes."""
    rows = ((depth + np.float32(MARGIN_UM)) * np.float32(TABLE_STEP)).astype(np.int16)
    return np.clip(rows, 0, int((TABLE_INSIDE_UM + MARGIN_UM) * TABLE_STEP) - 1, out=rows)


def blob(dy: F32, dx: F32, y_um: float, x_um: float, size_um: float) -> F32:
    """A soft round spot of height 1 at (y_um, x_um) from the centre, (h, w)."""
    return np.asarray(
        np.exp(-((dy - np.float32(y_um)) ** 2) / np.float32(size_um**2))
        * np.exp(-((dx - np.float32(x_um)) ** 2) / np.float32(size_um**2)),
        dtype=np.float32,
    )


def turned(patch: Patch, angle: float, y_um: float, x_um: float) -> tuple[F32, F32]:
    """Coordinates, um, along and across a line at `angle` through the point (y_um, x_um) of the cell, (h, w) each."""
    ny, nx = patch.dy - np.float32(y_um), patch.dx - np.float32(x_um)
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    return ny * sine + nx * cosine, ny * cosine - nx * sine


def _grain_window(traits: Floats, window: Window) -> Window:
    """Where in the tile of granules a cell's own piece lies; it goes with the cell."""
    height, width = (part.stop - part.start for part in window)
    top, left = int(traits[37] * (_TILE - height - 1)), int(traits[38] * (_TILE - width - 1))
    return slice(top, top + height), slice(left, left + width)


@functools.lru_cache(maxsize=8)
def granules(pixel_size_um: float) -> F32:
    """A tile of granular texture, zero mean and unit variance, (512, 512): organelles of about half to one um."""
    noise = np.random.default_rng(270).standard_normal((_TILE, _TILE), dtype=np.float32)

    def smooth(sigma_um: float) -> F32:
        picture = cv2.GaussianBlur(noise, (0, 0), sigma_um / pixel_size_um)
        return np.asarray(picture / picture.std(), dtype=np.float32)

    mixed = smooth(0.4) + 0.9 * smooth(0.9) - 0.5 * smooth(2.5)
    tile = np.asarray((mixed - mixed.mean()) / mixed.std(), dtype=np.float32)
    tile.flags.writeable = False
    return tile
