"""Opens a picture of cells: PNG, JPEG, BMP or TIFF into (C, Y, X). Reads files; knows no microscope's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import tifffile

from cellvigil.data import Array
from cellvigil.errors import BadFile
from cellvigil.sources import ome, tiff
from cellvigil.sources.load import decoding

_HINT = "mend it, or leave it out"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_image(path: Path) -> Array:
    """The image's pixels, (C, Y, X) u8, u16 or f32; C is 1 or 3 (red, green, blue; transparency is dropped).

    Raises BadFile if it is empty, broken, of another depth, or has slices or channels other than that.
    """
    data = _bytes(path)
    pixels = _tiff(path) if data[:4] in _TIFF else _raster(path, data)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise BadFile(
            "wrong_type", f"an image of shape {pixels.shape} is neither grey nor colour", where=path, hint=_HINT
        )
    pixels = _known_depth(pixels, path)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0))


def _known_depth(pixels: Array, path: Path) -> Array:
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise BadFile("wrong_type", f"pixels of type {pixels.dtype} are not supported", where=path, hint=_HINT)
    return pixels


def read_channels(path: Path, names: Sequence[str]) -> Array:
    """The planes of these names of a TIFF of several channels, (C, Y, X) u8, u16 or f32, in the names' order.

    By the file's own names where OME or ImageJ metadata has them, else by order: then it has just so many planes.
    Raises BadFile as `read_image`, and for a file that lacks a channel or has other than one plane a channel.
    """
    if _bytes(path)[:4] not in _TIFF:
        what = f"no TIFF of several channels; the index looks at {', '.join(names)}"
        raise BadFile("wrong_type", what, where=path, hint="write one with a page, or a channel, for each of them")
    planes, own = _planes(path)
    if all(own):
        if missing := [name for name in names if name not in own]:
            what = f"there is no channel {missing[0]!r}, the file has {', '.join(own)}"
            raise BadFile("incomplete", what, where=path, hint=_HINT)
        planes = planes[[own.index(name) for name in names]]
    elif len(planes) != len(names):
        what = f"{len(planes)} planes without names are not the channels {', '.join(names)}"
        raise BadFile("wrong_type", what, where=path, hint="write the channels' names as OME metadata, or just these")
    return np.ascontiguousarray(_known_depth(planes, path))


def _planes(path: Path) -> tuple[Array, tuple[str, ...]]:
    """(C, Y, X), and the file's own names of them, "" where it has none."""
    with tiff.opened(path.resolve(), path.name, final=True) as file:
        parts = [part for part in file.series if part.shape == file.series[0].shape]
        planes = np.concatenate([_apart(part, path) for part in parts])
        names: tuple[str, ...] = ()
        if file.is_ome:
            (first, *_) = (*ome.parse(tiff.description(file), path.name, ZoneInfo("UTC")), None)
            names = first.channels if first else ()
        elif file.is_imagej:
            names = tuple(map(str, (file.imagej_metadata or {}).get("Labels") or ()))
    known = len(names) == len(planes) and len(set(names)) == len(names)
    return planes, names if known else ("",) * len(planes)


def _apart(part: tifffile.TiffPageSeries, path: Path) -> Array:
    """One series of pages as (C, Y, X)."""
    sizes = [(axis, length) for axis, length in zip(part.axes, part.shape, strict=True) if length > 1 or axis in "YX"]
    axes = "".join(axis for axis, _ in sizes)
    if len(axes) > len("CYX") or not axes.endswith(("YX", "YXS")) or axes[0] in "ZT":
        what = f"an image of axes {part.axes} {part.shape} is not one plane a channel"
        raise BadFile("wrong_type", what, where=path, hint="write channels, and neither slices nor time points")
    pixels = part.asarray().reshape([length for _, length in sizes])
    return np.asarray(np.moveaxis(pixels, 2, 0) if axes.endswith("S") else pixels.reshape(-1, *pixels.shape[-2:]))


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
