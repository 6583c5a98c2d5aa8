"""The segmenter for label-free images (bright field, phase contrast, holotomography) with OpenCV alone. Pure.

What tells a cell from its ground without a dye is detail (rims, granules), and what tells it from its neighbour is the
bright line of light between the two rims (the halo of phase contrast and of defocused bright field), or, where cells
are simply brighter than their ground as in holotomography, a waist. So:

1. detail: band-pass energy against its own noise floor, at three sizes (`detail.py`)
2. ground: large areas without detail, and how bright the ground would be under the cells (`ground.py`)
3. body: what is not ground, less the halo around it; bright bodies end at a share of their own brightness
4. halo lines: the body is cut along bright ridges into small regions, and the regions that no strong ridge parts are
   joined again, weakest ridge first (`regions.py`)
5. waists: what is left is cut where it is narrow (distance transform, as a watershed)
6. size limits

Every length is a share of the cell's diameter, every threshold a multiple of noise or of local contrast: one setting,
`cell_diameter_um`, fits it to another cell type. The joining of watershed regions by the mean height of their common
border follows Arbelaez (2006) and Bailoni et al. (GASP, 2022); the rest is our own. What it cannot do is in
ARCHITECTURE.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.config import Segment
from cellvigil.data import F32, I32, U8, Bools
from cellvigil.segment.detail import detail_of, detail_threshold
from cellvigil.segment.ground import Ground, ground_of
from cellvigil.segment.regions import Merging, basins, joined, waisted
from cellvigil.segment.shape import blurred, disc, opened

_GRID = 28  # working pixels to a cell diameter: enough for its rim
_HALO = 1 / 6  # widest halo, in diameters
_SLIVER = 1 / 14  # a body nowhere thicker than twice this is no body
_REACH = 1 / 7  # thin processes of a body are kept so far from its thick part
_RIDGE = 1 / 24  # half the width of a halo line
_PART = 1 / 40  # smoothing of the ridges before the regions are taken
_DARK = 5.0  # noise sigmas below the ground: a rim, no halo
_BRIGHT_BODY = 0.1  # a body with a smaller share of dark detail is a bright one
_BRIGHT_EDGE = 0.25  # a bright body ends at this share of its local peak
_RIM_SHARE = 0.1  # share of dark pixels that a region must have to be a cell rather than the gap between cells
_RIM_DEPTH = 0.4  # how dark: in units of local contrast


def opencv_segmenter(settings: Segment) -> Callable[[U8, float], I32]:
    """A `Segmenter` for label-free images with `settings`.

    It works on a grid of 1/28 cell diameter (or the image's own, if that is coarser) and returns labels on it.
    """

    def segmenter(image: U8, pixel_size_um: float) -> I32:
        return segment(image, pixel_size_um, settings)

    return segmenter


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One image on the working grid; lengths in working pixels."""

    grey: F32  # (Y, X), lightly smoothed
    detail: F32  # (Y, X): log of detail over its noise floor, 0 and up
    threshold: float  # of detail
    diameter: float  # of a cell
    cell_area: float  # of a round cell of that diameter, square pixels


def segment(image: U8, pixel_size_um: float, settings: Segment) -> I32:
    """Labels of the cells of a (Y, X) u8 image, on a grid over the same field that may be coarser than the image's."""
    scene, grid_um = _scene(image, pixel_size_um, settings)
    ground = ground_of(scene.grey, scene.detail > scene.threshold, scene.diameter)
    body, bright = _body(scene, ground)
    contrast = _local_contrast(ground, scene.diameter)
    regions = _parted(scene, body, np.where(bright, 0, _ridges(scene.grey / contrast, scene.diameter)))
    regions = _without_gaps(regions, ground.relief < -_RIM_DEPTH * contrast, bright)
    cells = waisted(regions, scene.diameter)
    areas = np.bincount(cells.ravel()) * grid_um**2
    keep = (areas >= settings.min_area_um2) & (areas <= settings.max_area_um2)
    keep[0] = False
    return np.where(keep[cells], cells, 0).astype(np.int32)


def _scene(image: U8, pixel_size_um: float, settings: Segment) -> tuple[Scene, float]:
    """The image on the working grid, and that grid's micrometres a pixel."""
    grid_um = max(pixel_size_um, settings.cell_diameter_um / _GRID)
    shrink = pixel_size_um / grid_um
    shape = (max(1, round(image.shape[0] * shrink)), max(1, round(image.shape[1] * shrink)))
    diameter = settings.cell_diameter_um / grid_um
    detail = detail_of(image, shape, settings.cell_diameter_um / pixel_size_um)
    small = cv2.resize(image.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    grey = blurred(np.asarray(small, dtype=np.float32), diameter / 40)
    threshold = detail_threshold(detail, settings.sensitivity)
    return Scene(grey, detail, threshold, diameter, math.pi / 4 * diameter**2), grid_um


def _body(scene: Scene, ground: Ground) -> tuple[Bools, Bools]:
    """Where cells are, less their halos; and where they are bright bodies rather than rimmed ones. Both (Y, X)."""
    outside, relief = ground.mask, ground.relief
    _, lump = cv2.connectedComponents(np.asarray(~outside, dtype=np.uint8), connectivity=4)
    dark = np.bincount(lump.ravel(), weights=(relief < -_DARK * ground.noise).ravel())
    lit = np.bincount(lump.ravel(), weights=(relief > _DARK * ground.noise).ravel())
    bright = np.asarray((dark < _BRIGHT_BODY * (dark + lit))[lump] & ~outside)
    # Ground lies beyond the image's border too: else the halo of a cell near it is taken for the cell, and touches it.
    open_ends = cv2.copyMakeBorder(np.asarray(~outside, dtype=np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    near = cv2.distanceTransform(open_ends, cv2.DIST_L2, 5)[1:-1, 1:-1] < _HALO * scene.diameter
    halo = np.asarray(near & (relief > -_DARK * ground.noise) & ~bright & ~outside)
    rimmed = ~_reached(outside, halo)
    peak = np.asarray(cv2.dilate(relief, disc(scene.diameter / 4)))
    solid = (relief > _DARK * ground.noise) & (relief > _BRIGHT_EDGE * peak)
    body = _filled(np.where(bright, solid, rimmed), scene.cell_area / 20)
    thick = opened(body, _SLIVER * scene.diameter)
    around = cv2.dilate(np.asarray(thick, dtype=np.uint8), disc(_REACH * scene.diameter)) > 0
    return np.asarray(around & opened(body, scene.diameter / _GRID)), bright


def _reached(start: Bools, through: Bools) -> Bools:
    """`start`, and what can be walked to from it over `through`."""
    _, patch = cv2.connectedComponents(np.asarray(start | through, dtype=np.uint8), connectivity=4)
    known = np.bincount(patch.ravel(), weights=start.ravel()) > 0
    known[0] = False
    return np.asarray(known[patch])


def _filled(mask: Bools, largest: float) -> Bools:
    """`mask` with its holes of less than `largest` pixels filled."""
    hole = np.asarray(~mask, dtype=np.uint8)
    _, patch, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < largest
    small[0] = False
    return np.asarray(mask | small[patch])


def _local_contrast(ground: Ground, diameter: float) -> F32:
    """Spread of the brightness about half a diameter around each pixel, never below twice the noise: (Y, X)."""
    mean = blurred(ground.relief, diameter / 2)
    spread = blurred(ground.relief**2, diameter / 2) - mean**2
    return np.asarray(np.sqrt(np.maximum(spread, 0) + (2 * ground.noise) ** 2), dtype=np.float32)


def _ridges(picture: F32, diameter: float) -> F32:
    """How strongly each pixel lies on a bright line about d/12 wide; a round spot is no line. (Y, X), 0 and up.

    The larger principal curvature less the smaller one (eigenvalues of the Hessian at that scale).
    """
    sigma = _RIDGE * diameter
    smooth = blurred(picture, sigma)
    yy, xx = (cv2.Sobel(smooth, cv2.CV_32F, dx, dy, ksize=3, scale=sigma**2 / 4) for dx, dy in ((0, 2), (2, 0)))
    xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, ksize=3, scale=sigma**2 / 4)
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    line = np.maximum(half - middle, 0) - np.maximum(-half - middle, 0)
    return np.asarray(np.maximum(line, 0), dtype=np.float32)


def _parted(scene: Scene, body: Bools, ridges: F32) -> I32:
    """The body in regions 1..n that strong ridges part."""
    parts = basins(-blurred(ridges, _PART * scene.diameter), body)
    return joined(parts, ridges, Merging(scene.cell_area))


def _without_gaps(regions: I32, dark: Bools, bright: Bools) -> I32:
    """The regions less those between cells: a cell has a dark rim or dark grains, or is a bright body."""
    sizes = np.maximum(np.bincount(regions.ravel()), 1)
    rim = np.bincount(regions.ravel(), weights=dark.ravel()) / sizes
    lit = np.bincount(regions.ravel(), weights=bright.ravel()) / sizes
    keep = (rim > _RIM_SHARE) | (lit > 0.5)
    keep[0] = False
    return np.where(keep[regions], regions, 0).astype(np.int32)
