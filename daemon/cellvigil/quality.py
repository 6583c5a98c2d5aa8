"""How good a frame's picture is: focus, exposure, coverage; and whether the frame counts. Pure.

Focus is the share of fine detail in the detail that is there: the ratio of two band-pass energies, about 1.5 um and
7 um, each freed of camera noise. It does not change with the number of cells, their contrast or the lamp. A field with
nothing in it has no focus to judge and gets 1, so that an empty well is never left out as blurred; a blurred field
keeps its coarse structure and loses the fine, and falls towards 0. The ratio is scaled so that an ideal edge gives 1.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from cellvigil.config import Response
from cellvigil.data import F32, Array, Cells, Quality

NOTHING_TO_FOCUS_ON = 1.0
"""`Quality.focus` of a field without structure."""

_FINE_UM = 0.5  # sigma of the fine band, about the resolution of a 20x objective
_COARSER = 5  # coarse sigma over fine sigma: 2.5 um, the size of a nucleus' and a cell body's edges
_TILE_UM = 40.0  # side of the tiles that vote: a few cells
_SIGNIFICANT = 4.0  # a tile votes when its coarse energy is so many times what noise alone would give
_MAD_TO_SIGMA = 1.4826


def measure(
    plane: Array, cells: Cells, intensity: tuple[float, float], *, pixel_size_um: float | None = None
) -> Quality:
    """Image quality of one raw (Y, X) plane; nothing is judged yet (`excluded` is "").

    `intensity` is the raw range's bottom and top, against which pixels are dark or saturated. Without `pixel_size_um`
    (micrometres a raw pixel) the bands are tied to the pixel: still comparable inside one plate.
    """
    low, high = intensity
    labels = np.asarray(cells.labels)
    return Quality(
        focus=focus(plane, pixel_size_um),
        saturated=_share(plane >= high),
        dark=_share(plane <= low),
        coverage=_share(labels > 0),
    )


def judge(quality: Quality, baseline_focus: float, limits: Response) -> Quality:
    """The same figures with `excluded` set: "exposure", "focus", "coverage" or "" (the first that applies).

    `baseline_focus` is the plate's usual focus; 0 (or no number) = not known yet, then focus excludes nothing.
    """
    reason = ""
    if quality.saturated > limits.max_saturated or quality.dark > limits.max_dark:
        reason = "exposure"
    elif baseline_focus > 0 and quality.focus < limits.min_focus * baseline_focus:
        reason = "focus"
    elif quality.coverage > limits.max_coverage:
        reason = "coverage"
    return dataclasses.replace(quality, excluded=reason)


def focus(plane: Array, pixel_size_um: float | None = None) -> float:
    """Sharpness of a (Y, X) plane: 0 = blurred away, 1 = as an ideal edge, or nothing there to focus on."""
    image = np.nan_to_num(plane.astype(np.float32, copy=False))
    if min(image.shape) < 8:
        return NOTHING_TO_FOCUS_ON
    fine_px = max(0.8, _FINE_UM / pixel_size_um) if pixel_size_um else 1.5
    tile_px = _TILE_UM / _FINE_UM * fine_px
    noise = _noise_sigma(image) ** 2
    step = max(1, round(_COARSER * fine_px / 3))  # the coarse band needs no finer grid
    small = _shrunk(image, step)
    fine = _tiles(_band(image, fine_px) ** 2, tile_px) - noise * _white_gain(fine_px)
    coarse_px = _COARSER * fine_px / step
    floor = noise / step**2 * _white_gain(coarse_px)
    coarse = _tiles(_band(small, coarse_px) ** 2, tile_px / step)
    fine = np.asarray(cv2.resize(fine, coarse.shape[::-1], interpolation=cv2.INTER_AREA))
    votes = coarse > _SIGNIFICANT * floor + np.float32(1e-12) * float(np.square(image).mean())
    if not votes.any():
        return NOTHING_TO_FOCUS_ON
    ratio = np.maximum(fine[votes], 0) / (coarse[votes] - floor)
    typical = _weighted_median(ratio, np.sqrt(coarse[votes]))
    return math.sqrt(typical * _COARSER)  # an ideal edge has band energies in proportion to sigma


def _band(image: F32, sigma: float) -> F32:
    """Detail about `sigma` px: the difference of two Gaussians, sigma and twice sigma."""
    near = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    far = cv2.GaussianBlur(image, (0, 0), 2 * sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(near - far, dtype=np.float32)


def _white_gain(sigma: float) -> float:
    """Variance that `_band` leaves of white noise of variance 1: the integral of the squared kernel."""
    return (1 / (4 * math.pi)) * (1 / sigma**2 + 1 / (2 * sigma) ** 2 - 2 * 2 / (sigma**2 + (2 * sigma) ** 2))


def _noise_sigma(image: F32) -> float:
    """Camera noise: robust spread of a mask that is blind to planes and ramps (Immerkaer 1996, eq. 3, by the MAD)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6
    rest = cv2.filter2D(image, cv2.CV_32F, mask)[1:-1:2, 1:-1:2]  # every second pixel is plenty
    return float(np.median(np.abs(rest))) * _MAD_TO_SIGMA


def _tiles(energy: F32, side: float) -> F32:
    """Mean energy of each tile of about `side` px."""
    rows, columns = (max(1, round(length / side)) for length in energy.shape)
    return np.asarray(cv2.resize(energy, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _shrunk(image: F32, step: int) -> F32:
    shape = tuple(max(1, length // step) for length in image.shape)
    return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _weighted_median(values: F32, weights: F32) -> float:
    order = np.argsort(values)
    reach = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reach, reach[-1] / 2)])


def _share(mask: Array) -> float:
    return float(np.count_nonzero(mask)) / mask.size if mask.size else 0.0
