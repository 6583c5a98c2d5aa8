"""Opens a picture of cells: PNG, JPEG, BMP or TIFF into (C, Y, X). Reads files; knows no microscope's metadata."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile

from cellvigil.data import Array
from cellvigil.errors import BadFile
from cellvigil.sources.load import decoding

_HINT = "mend it, or leave it out"


def read_image(path: Path) -> Array:
    """The image's pixels, (C, Y, X) u8, u16 or f32; C is 1 or 3 (red, green, blue; transparency is dropped).

    Raises BadFile if it is empty, broken, of another depth, or has slices or channels other than that.
    """
    data = _bytes(path)
    pixels = _tiff(path) if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") else _raster(path, data)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise BadFile(
            "wrong_type", f"an image of shape {pixels.shape} is neither grey nor colour", where=path, hint=_HINT
        )
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise BadFile("wrong_type", f"pixels of type {pixels.dtype} are not supported", where=path, hint=_HINT)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0))


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile("unreadable", f"cannot read the image: {error.strerror}", where=path, hint=_HINT) from None
    if not data:
        raise BadFile("empty", "the image has no bytes", where=path, hint=_HINT)
    return data


def _raster(path: Path, data: bytes) -> Array:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadFile("unreadable", f"the image does not open: {error.err}", where=path, hint=_HINT) from None
    if pixels is None:
        raise BadFile("unreadable", "this is no image that can be read", where=path, hint=_HINT)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0]]
    return np.asarray(pixels)


def _tiff(path: Path) -> Array:
    try:
        with decoding(path.name), tifffile.TiffFile(path) as tiff:
            pixels = np.squeeze(tiff.series[0].asarray())
            channels_first = tiff.series[0].axes in ("SYX", "CYX")
    except (BadFile, OSError) as error:
        why = error.what if isinstance(error, BadFile) else error
        raise BadFile("unreadable", f"the TIFF does not open: {why}", where=path, hint=_HINT) from None
    return np.asarray(np.moveaxis(pixels, 0, 2) if channels_first and pixels.ndim == 3 else pixels)
