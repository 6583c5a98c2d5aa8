"""Where is there a cell's texture? Band-pass energy over what the quiet background has. Pure.

Label-free cells are rarely brighter or darker than their ground, but always busier. All lengths are shares of a typical
cell's diameter, so that one set of numbers serves every magnification.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, U8, Array, Bools

PIXELS_A_CELL = 28  # the working grid: a cell's diameter in pixels; finer shows nothing more and costs its square
_BANDS = (40, 20, 10)  # detail looked for: the diameter divided by these
_WINDOW = 24  # the energy is averaged over the diameter divided by this
_QUIET_PERCENTILE = 1.0
_QUIET_TO_USUAL = 1.6  # what the ground usually has, over what its quietest percent has
_LEAST, _MOST = 1.6, 4.5  # bounds of the threshold: so many times the ground's energy
_NEIGHBOUR = 4  # within the diameter divided by this ...
_FADING = 5.0  # ... texture fainter than the strongest by more than this factor is that one's blur
_CLOSE = 24  # gaps up to the diameter divided by this are closed


@dataclass(frozen=True, slots=True, eq=False)
class Working:
    """The image on the working grid."""

    image: F32  # (Y, X) grey values 0..255
    energy: F32  # (Y, X) mean log of band energy over the ground's, >= 0
    threshold: float  # of the energy
    busy: Bools  # (Y, X) texture, closed over small gaps
    pixel_um: float  # micrometres a pixel


def working(image: U8, pixel_size_um: float, diameter_um: float, sensitivity: float) -> Working:
    """Bring an image (Y, X) to the working grid and find its texture. `sensitivity` above 1 lowers the threshold."""
    scale = min(1.0, pixel_size_um * PIXELS_A_CELL / diameter_um)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    pixel_um = pixel_size_um / scale
    energy = _energy(image, pixel_size_um, diameter_um, size, pixel_um)
    low, high = np.log(max(_LEAST / sensitivity, 1.05)), np.log(max(_MOST / sensitivity, 1.1))
    threshold = float(np.clip(_otsu(energy) / sensitivity, low, high))
    strongest = cv2.dilate(energy, disc(diameter_um / _NEIGHBOUR / pixel_um))
    busy = (energy > threshold) & (energy > strongest - np.log(_FADING))
    closed = cv2.morphologyEx(busy.astype(np.uint8), cv2.MORPH_CLOSE, disc(diameter_um / _CLOSE / pixel_um))
    small = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return Working(np.asarray(small, dtype=np.float32), energy, threshold, np.asarray(closed) > 0, pixel_um)


def disc(radius_px: float) -> U8:
    """A disc as a morphological element; a single pixel for a radius below one half."""
    radius = max(round(radius_px), 0)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), dtype=np.uint8)


def blurred(image: Array, sigma_px: float) -> F32:
    """Gaussian blur; the image itself below a third of a pixel."""
    if sigma_px <= 0.3:
        return np.asarray(image, dtype=np.float32)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.float32)


def large(mask: Bools, area_um2: float, pixel_um: float) -> Bools:
    """The 4-connected parts of a mask that are larger than an area."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] * pixel_um**2 > area_um2
    keep[0] = False
    return np.asarray(keep[parts]) if count else mask


def _energy(image: U8, pixel_size_um: float, diameter_um: float, size: tuple[int, int], pixel_um: float) -> F32:
    window = diameter_um / _WINDOW / pixel_um
    fine = image.astype(np.float32)
    clipped: npt.NDArray[np.float32] = ((image == 0) | (image == 255)).astype(np.float32)
    # A clipped patch has no texture of its own: it must not pass for the quietest ground.
    honest = cv2.dilate(cv2.resize(clipped, size, interpolation=cv2.INTER_AREA), disc(2 * window)) == 0
    if honest.mean() < 0.05:
        honest[:] = True
    total = np.zeros(size[::-1], dtype=np.float32)
    for band in _BANDS:
        sigma = diameter_um / band / pixel_size_um
        detail = np.abs(blurred(fine, sigma / 2) - blurred(fine, sigma))
        local = blurred(cv2.resize(detail, size, interpolation=cv2.INTER_AREA), window)
        ground = max(float(np.percentile(local[honest], _QUIET_PERCENTILE)) * _QUIET_TO_USUAL, 0.1)
        total += np.log(np.maximum(local / ground, 1))
    return np.asarray(total / len(_BANDS), dtype=np.float32)


def _otsu(values: F32) -> float:
    top = float(values.max())
    if top <= 0:
        return 0.0
    level, _ = cv2.threshold((values / top * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return float(level) / 255 * top
