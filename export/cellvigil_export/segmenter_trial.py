"""What a segmenter is tried on: a drawn field of cells, and prompts that mean them. Seeded; nothing is a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, U8, Array

I64 = npt.NDArray[np.int64]

_SEED = 20251122  # any number, but always the same
_ACROSS = 4  # cells a row and a column
_OUTSIDE = 200  # grey level of what is not the picture: were it seen, the features would be others


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompts of one kind: p of them, k points each."""

    kind: str
    points: F32  # (p, k, 2) x, y in pixels
    labels: I64  # (p, k)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A picture and what is asked of it."""

    image: U8  # (1, side, side, 3): the picture in the upper left corner
    extent: I64  # (2,) its rows and columns
    cells: F32  # (n, 3) x, y and radius of the cells drawn, pixels
    prompts: tuple[Prompts, ...]
    golden: Prompts  # the few that a bundle carries

    def drawn(self) -> npt.NDArray[np.bool_]:
        """The cells' own masks (n, side, side)."""
        y, x = np.mgrid[: self.image.shape[1], : self.image.shape[2]]
        return np.stack([np.hypot(x - cell[0], y - cell[1]) <= cell[2] for cell in self.cells])


def trial(side: int) -> Trial:
    """A field of 16 grey cells, three quarters as high as wide, in a square of `side` pixels."""
    random = np.random.default_rng(_SEED)
    extent = np.array([side * 3 // 4, side], dtype=np.int64)
    step = extent[::-1] / _ACROSS  # of a cell's own place, x and y
    at = np.stack(np.meshgrid(np.arange(_ACROSS), np.arange(_ACROSS)), axis=-1).reshape(-1, 2)
    centres = (at + 0.5 + random.uniform(-0.1, 0.1, at.shape)) * step
    radii = random.uniform(0.2, 0.32, len(at)) * step.min()
    cells = np.column_stack([centres, radii]).astype(np.float32)
    image = np.full((1, side, side, 3), _OUTSIDE, dtype=np.uint8)
    image[0, : extent[0]] = _painted(cells, int(extent[0]), side, random)[..., None]
    prompts = _prompts(cells)
    return Trial(image, extent, cells, prompts, _golden(prompts))


def _painted(cells: F32, rows: int, columns: int, random: np.random.Generator) -> U8:
    """Dark cells with bright rims on an uneven, noisy background, (rows, columns)."""
    y, x = np.mgrid[:rows, :columns]
    level = 0.5 + 0.1 * (x / columns - 0.5) + 0.1 * (y / rows - 0.5)
    for cell_x, cell_y, radius in cells:
        distance = np.hypot(x - cell_x, y - cell_y) / radius
        level = level - 0.25 * (distance < 1.0) + 0.15 * np.exp(-(((distance - 1.0) / 0.08) ** 2))
    noise = random.normal(0.0, 0.02, level.shape)
    return np.asarray(np.clip((level + noise) * 255.0, 0, 255).round(), dtype=np.uint8)


def _prompts(cells: F32) -> tuple[Prompts, ...]:
    """Each cell as a point, as a box, by several points, and by a box and a point."""
    centres, radii = cells[:, None, :2], cells[:, None, 2:]
    nowhere = np.zeros_like(centres)
    corners = np.concatenate([centres - radii, centres + radii], axis=1)
    beside = centres + radii * np.array([1.6, 0.0], dtype=np.float32)
    return (
        _labelled("a point", [centres, nowhere], (1, -1)),
        _labelled("a box", [corners], (2, 3)),
        _labelled("points in and out", [centres - radii / 3, centres + radii / 3, beside, nowhere], (1, 1, 0, -1)),
        _labelled("a point and a box", [centres, corners], (1, 2, 3)),
    )


def _labelled(kind: str, points: Sequence[Array], labels: tuple[int, ...]) -> Prompts:
    joined = np.concatenate(points, axis=1).astype(np.float32)
    return Prompts(kind, joined, np.tile(np.array(labels, dtype=np.int64), (len(joined), 1)))


def _golden(prompts: tuple[Prompts, ...]) -> Prompts:
    """One cell by a point, another by its box."""
    point, box = prompts[0], prompts[1]
    return Prompts(
        "a point, and a box",
        np.stack([point.points[5], box.points[10]]),
        np.stack([point.labels[5], box.labels[10]]),
    )
