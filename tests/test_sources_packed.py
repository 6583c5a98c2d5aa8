"""Compressed pixels: what is packed reads as what is not, and room is made for what the page can hold only."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.data import Array
from cellvigil.errors import BadFile
from cellvigil.sources import tiff
from raw_tiff import LONG, SHORT, page
from raw_tiff import tiff as raw_tiff
from source_files import LIMITS

PACKBITS, DEFLATE = 32773, 8


def read(data: bytes) -> Array:
    with tiff.opened(data, "x.tif", LIMITS) as file:
        return tiff.read_planes(file, data, "x.tif", rule="max", limits=LIMITS)


def packed(data: bytes) -> bytes:
    """PackBits, all literal (TIFF 6.0 section 9)."""
    runs = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(
    ("dtype", "kind"), [("u1", 1), ("u2", 1), ("u4", 1), ("i2", 2), ("i4", 2), ("f4", 3), ("f8", 3)]
)
def test_packed_bits_read_as_plain_ones(dtype: str, kind: int, *, white_is_zero: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 120, (16, 16)).astype(dtype)
    bits, meaning = pixels.itemsize * 8, {"t262": (SHORT, [0 if white_is_zero else 1]), "t339": (SHORT, [kind])}
    data = packed(pixels.tobytes())
    squeezed = raw_tiff(page(bits=bits, t259=(SHORT, [PACKBITS]), t279=(LONG, [len(data)]), **meaning), data=data)
    plain = raw_tiff(page(bits=bits, **meaning), data=pixels.tobytes())
    assert np.array_equal(read(squeezed), read(plain))


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 40),
    strip=st.integers(1, 50),
    dtype=st.sampled_from(["u1", "u2", "f4"]),
)
def test_whatever_is_packed_soundly_is_read(compression: str, rows: int, width: int, strip: int, dtype: str) -> None:
    pixels = np.zeros((rows, width), dtype)  # what packs best looks most like a bomb
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, compression=compression, rowsperstrip=strip, photometric="minisblack")
    assert np.array_equal(read(file.getvalue())[0], pixels)


@pytest.mark.parametrize(("share", "fits"), [(1, True), (2, True), (200, False)])
def test_a_piece_may_be_padded_but_not_without_end(share: int, *, fits: bool) -> None:
    data = zlib.compress(bytes(512 * share))
    squeezed = raw_tiff(page(t259=(SHORT, [DEFLATE]), t279=(LONG, [len(data)])), data=data)
    if fits:
        assert read(squeezed).shape == (1, 16, 16)
    else:
        with pytest.raises(BadFile) as caught:
            read(squeezed)
        assert caught.value.reason == "too_large"
