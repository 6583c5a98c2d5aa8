"""COCO's three ways to write a mask (polygons, uncompressed and compressed run lengths), as boolean images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import Bools


def mask_of(segmentation: Any, height: int, width: int) -> Bools:
    """The mask that a COCO `segmentation` describes, (height, width) bool.

    Raises ValueError if it is of no known form or does not fit the image.
    """
    if isinstance(segmentation, list):
        return polygon_mask(segmentation, height, width)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise ValueError("neither polygons nor run lengths")
    if list(segmentation.get("size", (height, width))) != [height, width]:
        raise ValueError(f"run lengths of size {segmentation['size']} in an image of {[height, width]}")
    counts = segmentation["counts"]
    runs = decompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
    return run_length_mask(runs, height, width)


def polygon_mask(polygons: list[Any], height: int, width: int) -> Bools:
    """The pixels whose centres lie in one of the polygons [x, y, x, y, ...], (height, width) bool.

    In COCO whole numbers are the pixels' corners: the first pixel's centre is at 0.5.
    """
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        flat = np.asarray(polygon, dtype=np.float64)
        if flat.ndim != 1 or flat.size < 6 or flat.size % 2 or not np.isfinite(flat).all():
            raise ValueError("a polygon needs three corners or more, written x, y, x, y, ...")
        corners = flat.reshape(-1, 2)
        top, bottom = (int(np.clip(y, 0, height)) for y in (corners[:, 1].min(), np.ceil(corners[:, 1].max())))
        mask[top:bottom] |= _inside(corners, top, bottom, width)
    return mask


def _inside(corners: npt.NDArray[np.float64], top: int, bottom: int, width: int) -> Bools:
    """Rows `top` to `bottom` of the polygon, by the even-odd rule.

    Each edge that crosses a row of pixel centres toggles all pixels from the crossing on.
    """
    toggles = np.zeros((bottom - top, width + 1), dtype=np.int64)
    rows = np.arange(top, bottom) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crossed = np.flatnonzero((rows >= min(y0, y1)) & (rows < max(y0, y1)))
        if crossed.size:
            x = x0 + (rows[crossed] - y0) * ((x1 - x0) / (y1 - y0))
            np.add.at(toggles, (crossed, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :width] % 2 == 1)


def run_length_mask(runs: list[int], height: int, width: int) -> Bools:
    """Runs of background and mask in turn, down the columns, background first."""
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths do not add up to {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def decompressed(text: str) -> list[int]:
    """COCO's compressed run lengths: 5 bits a character from "0" on, and from the fourth on differences to two before.

    Raises ValueError if the text ends inside a number or holds other characters.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is no character of compressed run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths end inside a number")
    return runs
