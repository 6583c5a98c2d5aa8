"""Pixels of one image as arrays: decoded in bounds, colour first, and of a type that a frame may have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile

from cellvigil import config
from cellvigil.data import Array
from cellvigil.errors import BadFile
from cellvigil.sources.inflate import MEASURED, NONE, check_inflation
from cellvigil.sources.load import load


def decoded(
    page: tifffile.TiffPage | tifffile.TiffFrame,
    tags: tifffile.TiffPage,
    content: bytes | Path,
    name: str,
    limits: config.Limits,
) -> Array:
    """One page's pixels, (Y, X) or (S, Y, X) as stored; `tags` are those of the page that stands for its series.

    Compressions that `tifffile` lacks without `imagecodecs` (LZW, JPEG) are decoded by OpenCV's libtiff, which makes
    room by the page's size. Raises BadFile.
    """
    by_opencv = tags.compression != NONE and tags.compression not in MEASURED
    if by_opencv:
        pixels = _decode_by_opencv(page.index, content, name, limits)
    else:
        check_inflation(page, tags, name)
        pixels = samples_first(page.asarray(), "".join(axis for axis in tags.axes if axis in "YXS"))
    # OpenCV turns pixels of 8 bits over by itself, and only those.
    turned = by_opencv and pixels.dtype.itemsize == 1
    if tags.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u" and not turned:
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels


def _decode_by_opencv(index: int, content: bytes | Path, name: str, limits: config.Limits) -> Array:
    data = content if isinstance(content, bytes) else load(content.parent, content.name, limits)
    done, images = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(index, index + 1))
    if not done or not images:
        raise BadFile("unreadable", "its compression is not known here", where=name, hint="pip install imagecodecs")
    return colours_first(images[0])


def colours_first(image: Array) -> Array:
    """(Y, X) for grey, (3, Y, X) red, green, blue for colour, from OpenCV's (Y, X[, BGR[A]])."""
    if image.ndim == 2:
        return image
    if image.shape[2] < 3:
        return np.asarray(image[:, :, 0])
    return np.moveaxis(image[:, :, 2::-1], 2, 0)


def plain_pixels(pixels: Array, name: str) -> Array:
    """The pixels as u8, u16 or f32: the types that a frame may have. Raises BadFile for values that are no numbers."""
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "uif":
        raise BadFile("unreadable", f"pixels of type {pixels.dtype}", where=name)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    with np.errstate(over="ignore"):  # a value beyond f32 becomes infinite, and is refused as that
        numbers = np.ascontiguousarray(pixels, dtype=np.float32)
    if pixels.dtype.kind == "f" and not np.isfinite(numbers).all():
        raise BadFile("unreadable", "pixels that are no numbers", where=name)
    return numbers


def samples_first(pixels: Array, axes: str) -> Array:
    """(Y, X) for grey, (3, Y, X) for colour, from a page with `axes` like "YX", "YXS" or "SYX"; alpha is dropped."""
    if "S" not in axes:
        return pixels
    ordered = np.moveaxis(pixels, axes.index("S"), 0)
    return ordered[:3] if len(ordered) >= 3 else ordered[0]
