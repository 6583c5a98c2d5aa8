"""Opens a labelled image: PNG, JPEG, BMP or TIFF into (C, Y, X), and a TIFF's word on its pixel size. Reads files."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import tifffile

from cellvigil.data import Array
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources import bti, ome, tiff

_HINT = "mend it, or leave it out with --exclude or --skip-bad"


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


def own_pixel_size(path: Path) -> tuple[float, float] | None:
    """(y, x) in micrometres, as Gen5, OME or ImageJ write it into a TIFF; None where the file does not say.

    A file that does not open says nothing here: it is told when it is read.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with tiff.opened(path, path.name) as file:
            text = tiff.description(file)
            gen5 = bti.parse(text, path.name)
            if gen5 is not None and gen5.pixel_size_um is not None:
                return gen5.pixel_size_um
            if file.is_ome:
                return next((image.pixel_size_um for image in ome.parse(text, path.name, ZoneInfo("UTC"))), None)
            return tiff.pixel_size_um(file)
    except (BadFile, NotYet):
        return None


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
        with tifffile.TiffFile(path) as tiff:
            pixels = np.squeeze(tiff.series[0].asarray())
            channels_first = tiff.series[0].axes in ("SYX", "CYX")
    except (tifffile.TiffFileError, ValueError, IndexError, OSError) as error:
        raise BadFile("unreadable", f"the TIFF does not open: {error}", where=path, hint=_HINT) from None
    return np.asarray(np.moveaxis(pixels, 0, 2) if channels_first and pixels.ndim == 3 else pixels)
