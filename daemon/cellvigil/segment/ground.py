"""The empty ground of an image: where it is, how bright it would be under the cells, and its noise. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.data import F32, Bools
from cellvigil.segment.shape import blurred, closed

_GAP = 1 / 24  # gaps in detail narrower than twice this are closed, in diameters
_LEAST_AREA = 0.7  # flat areas smaller than this share of a cell are inside a cell, or between cells
_VAST_AREA = 4.0  # flat areas larger than so many cells are ground beyond doubt
_SHADE = 3.0  # spreads of the ground: a flat area so much darker is a faded cell
_STEP = 8  # the brightness of the ground is worked out on every 8th pixel
_REACH = 2.0  # sigma over which it may bend, in diameters
_CELL_WEIGHT = 0.002  # of pixels that are not ground, so that the fit holds where no ground is near
_LEAST_NOISE = 0.7  # grey levels
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The ground of one image; (Y, X) on the working grid."""

    mask: Bools  # True where nothing is
    relief: F32  # brightness above (below) the ground's, grey levels
    noise: float  # sigma of the relief on the ground, grey levels


def ground_of(grey: F32, detailed: Bools, diameter: float) -> Ground:
    """The ground of `grey`, (Y, X), given where it is detailed; `diameter` of a cell in pixels.

    Ground is every large area without detail, unless it is of about a cell's size and clearly darker than the rest:
    a dead cell that has lost its detail still casts its shade.
    """
    cell_area = math.pi / 4 * diameter**2
    flat = np.asarray(~closed(detailed, _GAP * diameter), dtype=np.uint8)
    count, area, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    sizes = stats[:, cv2.CC_STAT_AREA]
    large = sizes > _LEAST_AREA * cell_area
    large[0] = False
    relief = grey - _brightness(grey, large[area], diameter)
    vast = large & (sizes > _VAST_AREA * cell_area)
    reference = vast if vast.any() else large
    if reference.any():
        broad = np.abs(blurred(relief, diameter / 8)[reference[area]])
        spread = float(np.median(broad)) * _MAD_TO_SIGMA + 0.5
        level = np.bincount(area.ravel(), weights=relief.ravel(), minlength=count) / np.maximum(sizes, 1)
        large &= vast | (level > -_SHADE * spread)
        relief = grey - _brightness(grey, large[area], diameter)
    mask = large[area]
    return Ground(mask, relief, _noise(grey, mask, diameter))


def _brightness(grey: F32, mask: Bools, diameter: float) -> F32:
    """How bright the ground is everywhere: a parabola through the ground's pixels, and what bends slowly beside it."""
    coarse = tuple(max(1, side // _STEP) for side in grey.shape)[::-1]
    weights = mask.astype(np.float32) + np.float32(_CELL_WEIGHT)
    weight = np.asarray(cv2.resize(weights, coarse, interpolation=cv2.INTER_AREA), dtype=np.float32)
    value = np.asarray(cv2.resize(weights * grey, coarse, interpolation=cv2.INTER_AREA), dtype=np.float32) / weight
    y = np.linspace(-1, 1, coarse[1])[:, None] + np.zeros(coarse[0])
    x = np.linspace(-1, 1, coarse[0])[None, :] + np.zeros((coarse[1], 1))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    root = np.sqrt(weight.ravel())
    factors = np.linalg.lstsq(terms * root[:, None], value.ravel() * root, rcond=None)[0]
    parabola = np.asarray((terms @ factors).reshape(weight.shape), dtype=np.float32)
    sigma = _REACH * diameter / _STEP
    rest = blurred(weight * (value - parabola), sigma) / blurred(weight, sigma)
    return np.asarray(cv2.resize(parabola + rest, grey.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _noise(grey: F32, mask: Bools, diameter: float) -> float:
    """Sigma of the fine fluctuation of the ground; of the whole image where there is no ground."""
    rough = np.abs(grey - blurred(grey, diameter / 8))
    return max(float(np.median(rough[mask] if mask.any() else rough)) * _MAD_TO_SIGMA, _LEAST_NOISE)
