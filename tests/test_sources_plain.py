"""Plain images of every kind of file."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cellvigil import config
from cellvigil.data import Array
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.plain import Plain
from source_files import LIMITS, image_bytes, make_source, texture, tiff_bytes

GREY8 = texture(top=255).astype(np.uint8)
GREY16 = texture()
COLOUR = np.dstack([texture(seed=seed, top=255).astype(np.uint8) for seed in range(3)])  # red, green, blue
ALPHA = np.dstack([COLOUR, GREY8])


def _plain(root: Path, limits: config.Limits = LIMITS, **settings: Any) -> Plain:
    return Plain(make_source(root, "plain", **settings), limits)


def _read(root: Path, name: str, data: bytes, limits: config.Limits = LIMITS) -> Any:
    (root / name).write_bytes(data)
    fmt = _plain(root, limits)
    fmt.finished(root, name)
    return fmt.read(root, name)


def _bgr(rgb: Array) -> Array:
    return np.ascontiguousarray(rgb[..., [2, 1, 0, *range(3, rgb.shape[2])]])


GREY = [
    ("a.png", image_bytes(".png", GREY8), GREY8),
    ("a.PNG", image_bytes(".png", GREY16), GREY16),
    ("a.bmp", image_bytes(".bmp", GREY8), GREY8),
    ("a.tif", tiff_bytes(GREY16), GREY16),
    ("be.tif", tiff_bytes(GREY16, byteorder=">"), GREY16),
    ("zip.tif", tiff_bytes(GREY16, compression="zlib", predictor=True), GREY16),
    ("lzw.tif", image_bytes(".tif", GREY16, cv2.IMWRITE_TIFF_COMPRESSION, 5), GREY16),
    (
        "jpeg.tif",
        image_bytes(".tif", np.full_like(GREY8, 90), cv2.IMWRITE_TIFF_COMPRESSION, 7),
        np.full_like(GREY8, 90),
    ),
    ("white.tif", tiff_bytes(GREY16, photometric="miniswhite"), 65535 - GREY16),
    ("bits.tif", tiff_bytes(GREY8 > 99), np.where(GREY8 > 99, 255, 0)),
    ("float.tif", tiff_bytes(GREY8.astype(np.float64) / 7), (GREY8 / 7).astype(np.float32)),
    ("signed.tif", tiff_bytes(GREY8.astype(np.int16) - 9), GREY8.astype(np.float32) - 9),
]


@pytest.mark.parametrize(("name", "data", "expected"), GREY, ids=[case[0] for case in GREY])
def test_a_grey_image_is_one_channel(tmp_path: Path, name: str, data: bytes, expected: Array) -> None:
    plane = _read(tmp_path, name, data)
    assert plane.channels == ("",)
    assert np.array_equal(plane.pixels[0], expected)
    assert plane.pixels.dtype in (np.uint8, np.uint16, np.float32)
    assert plane.pixels.dtype.isnative


COLOURS = [
    ("a.png", image_bytes(".png", _bgr(COLOUR))),
    ("alpha.png", image_bytes(".png", _bgr(ALPHA))),
    ("a.bmp", image_bytes(".bmp", _bgr(COLOUR))),
    ("a.tif", tiff_bytes(COLOUR, photometric="rgb")),
    ("alpha.tif", tiff_bytes(ALPHA, photometric="rgb", extrasamples=["unassalpha"])),
    ("planar.tif", tiff_bytes(np.moveaxis(COLOUR, 2, 0), photometric="rgb", planarconfig="separate")),
    ("lzw.tif", image_bytes(".tif", _bgr(COLOUR), cv2.IMWRITE_TIFF_COMPRESSION, 5)),
]


@pytest.mark.parametrize(("name", "data"), COLOURS, ids=[case[0] for case in COLOURS])
def test_a_colour_image_is_red_green_and_blue(tmp_path: Path, name: str, data: bytes) -> None:
    plane = _read(tmp_path, name, data)
    assert plane.channels == ("red", "green", "blue")
    assert np.array_equal(plane.pixels, np.moveaxis(COLOUR, 2, 0))


def test_a_jpeg_is_near_what_was_written(tmp_path: Path) -> None:
    colour = np.full((24, 32, 3), (200, 100, 50), np.uint8)  # red, green, blue
    plane = _read(tmp_path, "a.jpeg", image_bytes(".jpg", _bgr(colour)))
    assert plane.channels == ("red", "green", "blue")
    assert np.abs(plane.pixels.astype(int) - np.moveaxis(colour, 2, 0)).max() <= 3


def test_every_page_counts_as_a_slice(tmp_path: Path) -> None:
    flat = np.full_like(GREY16, 300)
    assert np.array_equal(_read(tmp_path, "z.tif", tiff_bytes(np.stack([flat, GREY16, flat]))).pixels[0], GREY16)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.png", image_bytes(".jpg", GREY8), "wrong_type"),
        ("a.jpg", image_bytes(".png", GREY8), "wrong_type"),
        ("a.tif", b"this is text, not an image", "wrong_type"),
        ("a.tif", tiff_bytes(np.full_like(GREY8, 1, dtype=np.float32) * np.nan), "unreadable"),
        ("a.tif", tiff_bytes(GREY8.astype(np.complex64)), "unreadable"),
        ("t.tif", tiff_bytes(np.stack([GREY8] * 2), imagej=True, metadata={"axes": "TYX"}), "wrong_type"),
        ("c.tif", tiff_bytes(np.stack([GREY8] * 2), imagej=True, metadata={"axes": "CYX"}), "wrong_type"),
    ],
)
def test_what_cannot_be_one_image_is_refused(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(BadFile) as caught:
        _read(tmp_path, name, data)
    assert (caught.value.reason, caught.value.where) == (reason, name)


def _png_of(width: int, height: int) -> bytes:
    """A PNG that says it is huge."""
    data = bytearray(image_bytes(".png", GREY8))
    data[16:24] = struct.pack(">II", width, height)
    return bytes(data)


def _bmp_of(width: int, height: int) -> bytes:
    data = bytearray(image_bytes(".bmp", GREY8))
    data[18:26] = struct.pack("<ii", width, -height)
    return bytes(data)


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(image_bytes(".jpg", GREY8))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", _png_of(60_000, 60_000)),
        ("a.bmp", _bmp_of(60_000, 60_000)),
        ("a.jpg", _jpeg_of(60_000, 60_000)),
        ("a.tif", tiff_bytes(np.zeros((1100, 1000), np.uint8), compression="zlib")),
    ],
)
def test_an_image_beyond_the_limit_is_refused_before_decoding(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(BadFile) as caught:
        _read(tmp_path, name, data, config.Limits(max_pixels=1_000_000))
    assert caught.value.reason == "too_large"
    assert "limits.max_pixels" in str(caught.value)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bytes(20_000))
    with pytest.raises(BadFile) as caught:
        _plain(tmp_path, config.Limits(max_file_mb=0.01)).read(tmp_path, "a.png")
    assert caught.value.reason == "too_large"


def test_an_empty_file_is_empty_not_broken(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(NotYet) as caught:
        _plain(tmp_path).read(tmp_path, "a.png")
    assert caught.value.expired().reason == "empty"


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    data = image_bytes(".png", GREY8)
    assert _read(tmp_path, "a.png", data).digest == hashlib.sha256(data).hexdigest()
