"""From texture to the cells' ground: uneven light taken out, bright halos peeled off, holes filled. Pure.

A cell seen without a label has a dark rim and, outside it, a bright halo that is as busy as the cell. Background flows
into whatever is bright and near the border of the texture, through gaps wide enough; what it cannot reach is cell.
Bodies that are bright alone (holotomography, rounded cells) have no such rim and are taken by brightness instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.data import F32, U8, Bools
from cellvigil.segment.texture import Working, blurred, disc, large

_SMOOTH = 40  # image noise is blurred by the diameter divided by this
_GROUND_AREA = 1.0  # flat parts larger than so many cells are ground
_GROUND_SIGMA = 2.0  # diameters over which the light may vary
_GROUND_STEP = 8  # the light is fitted on a grid coarser by this
_EVERYWHERE = 0.002  # weight of pixels that are not ground: holds the fit where there is none
_CONTRAST_SIGMA = 0.5  # diameters over which contrast is measured
_NOISE_FLOOR = 2.0  # contrast is at least so many times the ground's noise
_CLEAR = 5.0  # so many times the noise above or below the ground is bright or dark
_BRIGHT_ALONE = 0.1  # a body with a smaller share of dark pixels has no rim
_HALO_REACH = 8  # a halo is no wider than the diameter divided by this
_HALO_DEPTH = 3.0  # a halo is nowhere darker than the ground by so many times the noise
_BALL = 60  # background flows through gaps wider than twice the diameter divided by this
_HOLE = 0.05  # holes smaller than this share of a cell are filled
_SPECK = 14  # what is thinner than twice the diameter divided by this is cut away


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The cells' common mask, and the image against its ground."""

    mask: Bools  # (Y, X) cells
    relief: F32  # (Y, X) image minus ground over the local contrast, dimensionless
    contrast: F32  # (Y, X) local contrast, grey values
    bright: Bools  # (Y, X) bodies without a dark rim


def foreground(work: Working, diameter_um: float) -> Ground:
    """The mask of all cells together."""
    d, um = diameter_um, work.pixel_um
    cell = np.pi / 4 * d * d
    smooth = blurred(work.image, d / _SMOOTH / um)
    flat = large(~work.busy, _GROUND_AREA * cell, um)
    above = smooth - _light(smooth, flat, d, um)
    fine = np.abs(smooth - blurred(smooth, d / 8 / um))
    noise = max(float(np.median(fine[flat])) * 1.48 if flat.any() else 1.0, 0.7)
    sigma = _CONTRAST_SIGMA * d / um
    spread = blurred(above * above, sigma) - blurred(above, sigma) ** 2
    contrast = np.sqrt(np.maximum(spread, 0) + (_NOISE_FLOOR * noise) ** 2)
    bright = _bright_bodies(~flat, above, noise)
    mask = _without_halo(flat, above, noise, bright, d / um)
    peak = cv2.dilate(above, disc(d / 4 / um))
    mask = np.where(bright, (above > _CLEAR * noise) & (above > peak / 4), mask)
    mask = mask | (~mask & ~large(~mask, _HOLE * cell, um))
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(d / _SPECK / um)) > 0
    return Ground(mask, np.asarray(above / contrast, dtype=np.float32), contrast, bright)


def _light(smooth: F32, flat: Bools, diameter_um: float, pixel_um: float) -> F32:
    """The uneven light: a quadratic through the ground, and what the ground itself adds to it nearby."""
    height, width = (max(1, side // _GROUND_STEP) for side in smooth.shape)
    size = (width, height)
    weight = cv2.resize(flat.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    value = cv2.resize(flat * smooth, size, interpolation=cv2.INTER_AREA)
    value = value + _EVERYWHERE * cv2.resize(smooth, size, interpolation=cv2.INTER_AREA)
    weight = weight + _EVERYWHERE
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    root = np.sqrt(weight.ravel()).astype(np.float64)
    fit = terms @ np.linalg.lstsq(terms * root[:, None], value.ravel() / weight.ravel() * root, rcond=None)[0]
    fit = fit.reshape(height, width).astype(np.float32)
    sigma = _GROUND_SIGMA * diameter_um / pixel_um / _GROUND_STEP
    rest = blurred(value - weight * fit, sigma) / blurred(weight, sigma)
    return np.asarray(cv2.resize(fit + rest, smooth.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _bright_bodies(busy: Bools, above: F32, noise: float) -> Bools:
    """Connected parts of the texture that have hardly a dark pixel."""
    count, parts = cv2.connectedComponents(busy.astype(np.uint8), connectivity=4)
    dark = np.bincount(parts.ravel(), (above < -_CLEAR * noise).ravel(), count)
    lit = np.bincount(parts.ravel(), (above > _CLEAR * noise).ravel(), count)
    alone = dark < _BRIGHT_ALONE * (dark + lit)
    alone[0] = False
    return np.asarray(alone[parts])


def _without_halo(flat: Bools, above: F32, noise: float, bright: Bools, diameter_px: float) -> Bools:
    """Texture that background cannot flow into."""
    busy = (~flat).astype(np.uint8)
    near = cv2.distanceTransform(busy, cv2.DIST_L2, 5) < diameter_px / _HALO_REACH
    passable = flat | (near & (above > -_HALO_DEPTH * noise) & ~bright)
    ball: U8 = disc(diameter_px / _BALL)
    open_ground = cv2.erode(passable.astype(np.uint8), ball, borderValue=1)
    count, parts = cv2.connectedComponents(open_ground, connectivity=4)
    reached = np.bincount(parts.ravel(), flat.ravel(), count) > 0
    reached[0] = False
    outside = (cv2.dilate(reached[parts].astype(np.uint8), ball) > 0) & passable
    return np.asarray(~(outside | flat))
