"""How good a frame's picture is: focus, exposure, coverage, debris; and whether the frame counts. Pure.

Focus is the share of fine detail in the detail that is there: the ratio of two band-pass amplitudes, sigma 0.5 um and
2.5 um, each freed of camera noise, tile by tile. An ideal edge gives 1, the fine lines of bright field more, a blurred
field less. It does not change with the number of cells, their contrast or the lamp. The sharpest tenth of the tiles
speaks for the field: dying cells lose their edges, and a treated well must not pass for one out of focus; the optics
blur everything. A field with nothing in it has no focus (NaN): an empty well is never left out as blurred.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable

import cv2
import numpy as np

from cellvigil.config import Response
from cellvigil.data import F32, Array, Bools, Calls, Cells, Quality

NOTHING_TO_FOCUS_ON = math.nan
"""`Quality.focus` of a field without structure."""

_FINE_UM = 0.5  # sigma of the fine band, about the resolution of a 20x objective
_COARSER = 5  # coarse sigma over fine sigma: 2.5 um, the size of a nucleus' and a cell body's edges
_TILE_UM = 40.0  # side of the tiles that vote: a few cells
_SPOKESMEN = 0.9  # quantile of the tiles, weighed by how much is in them
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

    `baseline_focus` is the plate's `usual_focus`; 0 = not known, then focus excludes nothing. A field without a focus
    (NaN) is never out of focus.
    """
    reason = ""
    if quality.saturated > limits.max_saturated or quality.dark > limits.max_dark:
        reason = "exposure"
    elif baseline_focus > 0 and quality.focus < limits.min_focus * baseline_focus:
        reason = "focus"
    elif quality.coverage > limits.max_coverage:
        reason = "coverage"
    return dataclasses.replace(quality, excluded=reason)


def judge_debris(
    quality: Quality, calls: Calls, counted: Bools, artefacts: Collection[int], max_debris: float
) -> Quality:
    """The same figures with `excluded` "debris" where more than this share of the counted cells is artefact.

    `counted` (n,) bool: cells not at the border; `artefacts`: class ids of that group. What `judge` excluded stays so.
    A frame without counted cells has no debris.
    """
    if quality.excluded or not counted.any():
        return quality
    debris = np.isin(calls.best_ids[counted & ~calls.unknown], list(artefacts))
    share = np.count_nonzero(debris) / np.count_nonzero(counted)
    return dataclasses.replace(quality, excluded="debris") if share > max_debris else quality


def usual_focus(figures: Iterable[float]) -> float:
    """Median focus of a plate's first frames, those without one left out; 0 = none of them had any."""
    known = [figure for figure in figures if math.isfinite(figure)]
    return float(np.median(known)) if known else 0.0


def focus(plane: Array, pixel_size_um: float | None = None) -> float:
    """Sharpness of a (Y, X) plane: towards 0 = blurred, 1 = as an ideal edge, NaN = nothing there to focus on."""
    image = np.nan_to_num(plane.astype(np.float32, copy=False))
    fine_px = max(0.8, _FINE_UM / pixel_size_um) if pixel_size_um else 1.5
    step = max(1, round(_COARSER * fine_px / 3))  # the coarse band needs no finer grid
    coarse_px = _COARSER * fine_px / step
    margin = math.ceil(4 * coarse_px)  # a slope ends in a false edge at the border
    if min(image.shape) < 4 * margin * step:
        return NOTHING_TO_FOCUS_ON
    noise = _noise_sigma(image) ** 2
    fine_noise, coarse_noise = noise * _white_gain(fine_px), noise / step**2 * _white_gain(coarse_px)
    fine, coarse = _shrunk(_band(image, fine_px) ** 2, step), _band(_shrunk(image, step), coarse_px) ** 2
    side = _TILE_UM / _FINE_UM * fine_px / step
    fine, coarse = (_tiles(energy[margin:-margin, margin:-margin], side) for energy in (fine, coarse))
    votes = coarse > _SIGNIFICANT * coarse_noise + np.float32(1e-10) * float(np.square(image).mean())
    if not votes.any():
        return NOTHING_TO_FOCUS_ON
    ratio = np.maximum(fine[votes] - fine_noise, 0) / (coarse[votes] - coarse_noise)
    sharp = _weighted_quantile(ratio, np.sqrt(coarse[votes]), _SPOKESMEN)
    return math.sqrt(sharp * _COARSER)  # an ideal edge has band energies in proportion to sigma


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


def _weighted_quantile(values: F32, weights: F32, share: float) -> float:
    order = np.argsort(values)
    reach = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reach, reach[-1] * share)])


def _share(mask: Array) -> float:
    return float(np.count_nonzero(mask)) / mask.size if mask.size else 0.0
