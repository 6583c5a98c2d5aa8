"""A picture brought to the size that a model takes, in the way its checkpoint was made with. Arrays in, arrays out.

"area" is OpenCV's; "bilinear" and "bicubic" give Pillow's pixels to the bit, without Pillow: an encoder's published
vectors were made with its image processor, and those resize by Pillow. Pillow weighs each output pixel's neighbours by
a filter that is widened where the picture is made smaller, in fixed point, and rounds after each of its two passes.
"""

from __future__ import annotations

import functools
import math
import operator

import cv2
import numpy as np
import numpy.typing as npt

from cellvigil.data import I32, U8, Fit, frozen_array

RESAMPLES = ("area", "bilinear", "bicubic")
"""The ways to resize."""

_OPENCV_CHANNELS = 4  # more at once it does not resize or turn
_REACH = {"bilinear": 1.0, "bicubic": 2.0}  # half a filter's width, pixels
_CUBIC_A = -0.5  # of Keys' cubic, as Pillow has it; OpenCV's is -0.75
_BITS = 22  # of a weight's fraction, as Pillow has them for 8-bit pictures
_HALF = 1 << (_BITS - 1)
_BLOCK = 1 << 16  # numbers that are summed at once: they stay in a core's cache
_TABLES = 64  # weight tables that are kept, one a pair of sides, some ten kilobytes each

Taps = tuple[npt.NDArray[np.intp], I32]
"""Each (k, m): which pixels of a line make up each of m output pixels, and their weights, 2^22 = 1."""


def fitted(picture: U8, fit: Fit) -> U8:
    """A square picture, (W, W) or (W, W, C) u8, as (side, side) or (side, side, C): resized, its centre cut out.

    Raises ValueError for a picture that is not square, a resampling that is none of `RESAMPLES`, and a `shortest` that
    is less than `side`.
    """
    height, width = picture.shape[:2]
    whole = fit.shortest or fit.side
    if height != width or fit.resample not in RESAMPLES or whole < fit.side:
        raise ValueError(f"a picture of {height} x {width} pixels cannot be made {fit}")
    if whole == fit.side and (fit.resample == "area" or width == whole):
        return by_area(picture, (whole, whole))
    first = (whole - fit.side) // 2
    centre = slice(first, first + fit.side)
    if fit.resample == "area" or width == whole:
        return by_area(picture, (whole, whole))[centre, centre]
    index, weights = _taps(width, whole, fit.resample)
    taps = index[:, centre], weights[:, centre]  # only what stays is computed
    return _both_ways(picture, taps, taps)


def bilinear(picture: U8, shape: tuple[int, int]) -> U8:
    """`picture`, (Y, X) or (Y, X, C) u8, as (Y, X) = shape, square or not; antialiased where it is made smaller.

    Pillow's two passes to the bit. Which of them it takes first, where the sides are not scaled alike, is up to its
    version: a rounding, one grey level.
    """
    if picture.shape[:2] == shape:
        return picture
    down, across = (_taps(picture.shape[axis], shape[axis], "bilinear") for axis in (0, 1))
    return _both_ways(picture, down, across)


def by_area(pixels: U8, shape: tuple[int, int]) -> U8:
    """`pixels`, (Y, X) or (Y, X, C) u8, as (Y, X) = shape: averaged when made smaller, cubic when made larger."""
    if pixels.shape[:2] == shape:
        return pixels
    if pixels.ndim == 3 and pixels.shape[2] > _OPENCV_CHANNELS:
        return np.stack([by_area(plane, shape) for plane in np.moveaxis(pixels, 2, 0)], axis=2)
    smaller = shape[0] * shape[1] < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(pixels), shape[::-1], interpolation=method)
    return np.asarray(resized, dtype=np.uint8).reshape(*shape, *pixels.shape[2:])  # of one channel it drops the axis


def _both_ways(picture: U8, down: Taps, across: Taps) -> U8:
    """Each line's pixels first, as Pillow does with square pictures: it rounds in between."""
    return _weighed(_turned(_weighed(_turned(picture), across)), down)


def _turned(picture: U8) -> U8:
    """(Y, X, ...) as (X, Y, ...); OpenCV lays it out anew in a tenth of numpy's time."""
    if picture[0, 0].size > _OPENCV_CHANNELS:
        return picture.swapaxes(0, 1)
    turned = np.asarray(cv2.transpose(np.ascontiguousarray(picture)), dtype=np.uint8)
    return turned.reshape(picture.shape[1], picture.shape[0], *picture.shape[2:])


def _weighed(lines: U8, taps: Taps) -> U8:
    """(n, ...) u8 as (m, ...): each output line the weighted sum of some lines, rounded and clipped."""
    flat, wanted = lines.reshape(len(lines), -1), taps[0].shape[1]
    out = np.empty((wanted, flat.shape[1]), dtype=np.uint8)
    step = max(1, _BLOCK // wanted)
    for start in range(0, flat.shape[1], step):
        out[:, start : start + step] = _summed(flat[:, start : start + step].astype(np.int32), taps)
    return out.reshape(-1, *lines.shape[1:])


def _summed(source: I32, taps: Taps) -> I32:
    total = np.full((taps[0].shape[1], source.shape[1]), _HALF, dtype=np.int32)  # 255 * sum |weight| stays below 2^31
    part = np.empty_like(total)
    for index, weights in zip(*taps, strict=True):
        np.take(source, index, axis=0, out=part, mode="clip")  # with "raise", numpy copies `out` first
        part *= weights[:, None]
        total += part
    total >>= _BITS
    return np.clip(total, 0, 255, out=total)


@functools.lru_cache(maxsize=_TABLES)
def _taps(length: int, wanted: int, kind: str) -> Taps:
    """How a line of `length` pixels becomes one of `wanted`; as Pillow's `precompute_coeffs`, in its order of steps."""
    scale = length / wanted
    spread = max(scale, 1.0)
    reach, narrow = _REACH[kind] * spread, 1.0 / spread
    most = math.ceil(reach) * 2 + 1
    index = np.zeros((most, wanted), dtype=np.intp)
    weights = np.zeros((most, wanted), dtype=np.int32)
    for place in range(wanted):
        centre = (place + 0.5) * scale
        first, last = max(0, int(centre - reach + 0.5)), min(length, int(centre + reach + 0.5))
        values = [_filtered((pixel - centre + 0.5) * narrow, kind) for pixel in range(first, last)]
        total = functools.reduce(operator.add, values)  # sum() rounds differently from Python to Python
        index[: last - first, place] = range(first, last)
        weights[: last - first, place] = [_fixed(value / total) for value in values]
    used = weights.any(axis=1)
    return frozen_array(index[used]), frozen_array(weights[used])


def _filtered(x: float, kind: str) -> float:
    """The filter's value `x` pixels from its centre."""
    x = abs(x)
    if kind == "bilinear":
        return max(0.0, 1.0 - x)
    if x < 1.0:
        return ((_CUBIC_A + 2.0) * x - (_CUBIC_A + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * _CUBIC_A if x < 2.0 else 0.0


def _fixed(weight: float) -> int:
    """In units of 2^-22, to the nearest."""
    return int(weight * (1 << _BITS) + math.copysign(0.5, weight))
