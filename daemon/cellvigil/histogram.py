"""How bright the pixels of a plane are that is not segmented (fluorescence), kept so that any threshold can be put to
it later. Pure.

Which wells are controls, and when the plate was treated, may be told after the frame: a threshold that leans on them
cannot be applied to the pixels in time. So a frame keeps a histogram. Its bins are finest about the plane's own median,
since what matters is the distance from the background: each of the camera's levels for itself up to 32 levels away,
then 16 bins an octave. A threshold inside a bin shares its pixels out evenly, so a wrong share is at most that bin's
pixels, and a pixel's brightness above the background is off by 3 % at the very most (8-bit planes: nothing is off).
Otsu's threshold is measured on the plane itself: EWC-FAISS paper, section 3.4 (its control signal); Otsu 1979, eq. 12.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import I64, Array, Histogram

F64 = npt.NDArray[np.float64]

_LEVELS = 65_536
_EXACT = 32  # levels from the median that have a bin each
_AN_OCTAVE = 16
_FEW_LEVELS = 8  # a plane with fewer shows no pile at its top
_HEAD = struct.Struct("<IfddiHd")


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """A histogram laid out: (B,) bins that hold pixels, ascending, each with its pixels evenly between its ends."""

    low: F64
    high: F64
    counts: F64

    def below(self, values: F64 | float) -> F64:
        """How many pixels are darker than each value."""
        ends = np.stack([self.low, self.high], axis=1).ravel()
        reach = np.cumsum(self.counts)
        return np.asarray(np.interp(values, ends, np.stack([reach - self.counts, reach], axis=1).ravel()))

    def light_above(self, value: float) -> float:
        """The summed values of all pixels brighter than `value`."""
        start = np.clip(value, self.low, self.high)
        there = self.counts * (self.high - start) / (self.high - self.low)
        return float(np.sum(there * (start + self.high) / 2))


def line(histogram: Histogram) -> dict[str, Any]:
    """A histogram as a journal line tells it: plain JSON values."""
    return {
        "pixels": histogram.pixels,
        "saturated": round(histogram.saturated, 6),
        "origin": histogram.origin,
        "step": histogram.step,
        "zero": histogram.zero,
        "exact": histogram.exact,
        "otsu": histogram.otsu if math.isfinite(histogram.otsu) else None,
        "bins": base64.b64encode(histogram.bins).decode(),
    }


def read_line(told: Mapping[str, Any]) -> Histogram:
    """The histogram that a journal line tells. Raises KeyError, TypeError or ValueError for one that tells none."""
    return Histogram(
        pixels=int(told["pixels"]),
        saturated=float(told["saturated"]),
        origin=float(told["origin"]),
        step=float(told["step"]),
        zero=int(told["zero"]),
        exact=int(told["exact"]),
        otsu=math.nan if told["otsu"] is None else float(told["otsu"]),
        bins=base64.b64decode(told["bins"], validate=True),
    )


def packed(one: Histogram) -> bytes:
    """A histogram in as few bytes as it takes; `unpacked` reads them."""
    return _HEAD.pack(one.pixels, one.saturated, one.origin, one.step, one.zero, one.exact, one.otsu) + one.bins


def unpacked(data: bytes) -> Histogram:
    """What `packed` packed."""
    fields: tuple[Any, ...] = (*_HEAD.unpack_from(data), data[_HEAD.size :])
    return Histogram(*fields)


def measure(plane: Array) -> Histogram:
    """The histogram of a raw (Y, X) plane, u8, u16 or f32.

    Values that are not finite are left out. Floats are first put on 65,536 even levels between the plane's least and
    greatest value, which is what they are then known to.
    """
    levels, origin, step = _levels(plane)
    counts = np.bincount(levels.ravel(), minlength=_LEVELS)
    there = np.flatnonzero(counts)
    if not there.size:
        return Histogram(0, 0.0, origin, step, 0, _EXACT, math.nan, b"")
    fine = plane.dtype == np.uint8 or there.size < 2
    every = 1 if fine else int(np.gcd.reduce(np.diff(there)))  # 16 for 12 bits in the upper part of 16
    first, held = int(there[0]), counts[there]
    threshold = otsu(there, held)
    top = np.iinfo(plane.dtype).max if plane.dtype.kind == "u" else math.inf
    steps = (there - first) // every  # the camera's levels, from the darkest that is there
    zero = int(steps[np.searchsorted(np.cumsum(held), held.sum() / 2)])
    exact = 256 if plane.dtype == np.uint8 else _EXACT
    return Histogram(
        pixels=int(held.sum()),
        saturated=_saturated(there, held, top),
        origin=origin + first * step,
        step=every * step,
        zero=zero,
        exact=exact,
        otsu=origin + threshold * step,
        bins=_encoded(*_binned(steps - zero, held, exact)),
    )


def otsu(levels: npt.ArrayLike, counts: npt.ArrayLike) -> float:
    """The threshold that parts a histogram with the greatest variance between both parts; NaN with one level only.

    `levels`: (B,) ascending values; `counts`: (B,) pixels, none 0. The threshold lies halfway between two levels; of
    equally good ones the first.
    """
    values, weights = np.asarray(levels, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if values.size < 2:
        return math.nan
    below, light = np.cumsum(weights)[:-1], np.cumsum(weights * (values - values[0]))
    above = weights.sum() - below
    between = (light[-1] * below / weights.sum() - light[:-1]) ** 2 / (below * above)
    best = int(np.argmax(between >= between.max() * (1 - 1e-12)))
    return float(values[best] + values[best + 1]) / 2


def spread(histogram: Histogram) -> Spread:
    """The bins of a histogram as values."""
    codes, counts = _decoded(histogram.bins)
    ends = _ends(histogram.exact)
    place = np.abs(codes)
    near, far = ends[place] - 0.5, ends[place + 1] - 0.5  # a level reaches half a level to either side
    low = np.where(codes < 0, -far, np.where(codes == 0, -0.5, near))
    high = np.where(codes < 0, -near, far)
    start, step = histogram.origin + histogram.zero * histogram.step, histogram.step
    return Spread(start + low * step, start + high * step, counts.astype(np.float64))


def _levels(plane: Array) -> tuple[Array, float, float]:
    """Whole levels from 0 to 65,535, the value of level 0, and what a level is worth."""
    if plane.dtype.kind == "u" and plane.dtype.itemsize <= 2:
        return np.asarray(plane), 0.0, 1.0
    values = np.asarray(plane, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
    if not values.size:
        return np.empty(0, dtype=np.uint16), 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    step = (high - low) / (_LEVELS - 1)
    if not (math.isfinite(step) and step > 0):
        return np.zeros(values.shape, dtype=np.uint16), low, 1.0
    return np.rint((values - low) / step).astype(np.uint16), low, step


def _saturated(levels: I64, counts: I64, top: float) -> float:
    """Share of pixels at the type's top; else of a pile at the brightest level there, twice as high as the one below.

    A 12-bit camera whose values are stored in 16 bits ends at 4095.
    """
    piled = levels.size >= _FEW_LEVELS and counts[-1] > 2 * counts[-2]
    return float(counts[-1] / counts.sum()) if levels[-1] >= top or piled else 0.0


@cache
def _ends(exact: int) -> F64:
    """Where the bins begin, in levels from the median, to one side; the bin of the median itself is the first."""
    ends = list(range(exact + 1))
    while ends[-1] < _LEVELS:
        ends += [ends[-1] + (place + 1) * max(1, exact // _AN_OCTAVE) for place in range(_AN_OCTAVE)]
        exact *= 2
    found = np.array(ends, dtype=np.float64)
    found.flags.writeable = False
    return found


def _binned(away: I64, counts: I64, exact: int) -> tuple[I64, I64]:
    """Bins by number (0 = the median's, negative = darker), ascending, and their pixels."""
    places = np.searchsorted(_ends(exact), np.abs(away), side="right") - 1
    codes = np.where(away < 0, -places, places)
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    return codes[starts], np.add.reduceat(counts, starts)


def _encoded(codes: I64, counts: I64) -> bytes:
    gaps = np.diff(codes, prepend=codes[0])
    first = int(codes[0])
    numbers = np.stack([gaps, counts], axis=1).ravel()
    numbers[0] = 2 * first if first >= 0 else -2 * first - 1  # the first stands as it is, its sign in the last bit
    out = bytearray()
    for number in numbers.tolist():
        rest = number
        while rest >= 0x80:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _decoded(data: bytes) -> tuple[I64, I64]:
    raw = np.frombuffer(data, dtype=np.uint8)
    if not raw.size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    last = raw < 0x80
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    number: I64 = np.cumsum(last) - last  # which number each byte belongs to
    numbers = np.add.reduceat((raw & 0x7F).astype(np.int64) << 7 * (np.arange(raw.size) - starts[number]), starts)
    gaps, counts = numbers[::2].copy(), numbers[1::2]
    gaps[0] = gaps[0] // 2 if gaps[0] % 2 == 0 else -(gaps[0] + 1) // 2
    return np.cumsum(gaps), counts
