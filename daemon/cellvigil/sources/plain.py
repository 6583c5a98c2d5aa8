"""Plain images with names of any form: PNG, JPEG, TIFF, BMP; a configured pattern tells well, field, time, channel, z.

A colour image is three channels, red, green and blue; a grey one is one, named by the pattern.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cellvigil import config
from cellvigil.data import Array, FileStat, Plane, Sighting
from cellvigil.errors import BadFile
from cellvigil.sources import tiff
from cellvigil.sources.complete import PNG_MAGIC, finished
from cellvigil.sources.load import decoding, load, sha256, too_large
from cellvigil.sources.names import NameRule
from cellvigil.sources.pixels import colours_first, plain_pixels

_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".tif": "tiff", ".tiff": "tiff", ".bmp": "bmp"}
_SIZED = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG segments that begin a frame and tell its size


@dataclass(frozen=True, slots=True)
class Plain:
    """The files of one folder of plain images."""

    source: config.Source
    limits: config.Limits
    suffixes: tuple[str, ...] = tuple(_KINDS)
    first_number: int = 0

    def sight(self, path: str) -> Sighting | None:
        """What the name says; None for what is no image. Raises BadFile("bad_name")."""
        return NameRule(self.source, self.suffixes).sight(path)

    def finished(self, root: Path, path: str) -> None:
        """Return if the image is whole. Raises NotYet or BadFile."""
        finished(root / path, path, _kind(path), self.limits)

    def expand(self, root: Path, stat: FileStat) -> tuple[FileStat, ...]:  # noqa: ARG002 - the protocol's signature
        """Every file is one image."""
        return (stat,)

    def read(self, root: Path, path: str) -> Plane:
        """Decode one image; several pages of a TIFF are z slices. Raises NotYet or BadFile."""
        data = load(root, path, self.limits)
        size = None
        if _kind(path) == "tiff":
            with tiff.opened(data, path, self.limits) as file:
                pixels = tiff.read_planes(file, data, path, rule=self.source.z, limits=self.limits)
                names = tiff.only_image(file, len(pixels), path)
                size = tiff.pixel_size_um(file)
        else:
            pixels = _raster(data, path, self.limits)
            names = tiff.COLOURS if len(pixels) == 3 else ("",)
        return Plane(pixels, names, size, None, digest=sha256(data))


def _kind(path: str) -> str:
    return _KINDS[Path(path).suffix.lower()]


def _raster(data: bytes, path: str, limits: config.Limits) -> Array:
    """(C, Y, X) of a PNG, JPEG or BMP; the size is read and checked before anything is decoded."""
    with decoding(path):
        height, width = _size(data)
        if height * width > limits.max_pixels:
            raise too_large(path, f"the image has {width} x {height} pixels", "limits.max_pixels")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise BadFile("unreadable", "it does not decode", where=path)
        pixels = plain_pixels(colours_first(image), path)
    return pixels if pixels.ndim == 3 else pixels[None]


def _size(data: bytes) -> tuple[int, int]:
    """Height and width by the header. Raises ValueError or struct.error where there is none."""
    if data.startswith(PNG_MAGIC):
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if data.startswith(b"BM"):
        if struct.unpack_from("<I", data, 14)[0] == 12:  # the oldest header has short numbers
            width, height = struct.unpack_from("<HH", data, 18)
        else:
            width, height = struct.unpack_from("<ii", data, 18)
        return abs(height), abs(width)  # a negative height means rows from the top
    return _jpeg_size(data)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            raise ValueError("a JPEG segment without its marker")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _SIZED:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError("a JPEG without a frame")
