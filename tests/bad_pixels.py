"""Compressed pixels that become too many, and pixels of types that are rare, wrong or impossible."""

from __future__ import annotations

import functools
import lzma
import struct
import zlib

import numpy as np

from bad_cases import READS, add
from raw_tiff import LONG, SHORT, Values, page, tiff
from source_files import image_bytes, texture, tiff_bytes


# 4. Compression.
def _packed(data: bytes, kind: int, raw_bytes: int = 512, **changes: Values | None) -> bytes:
    side = max(16, int((raw_bytes // 2) ** 0.5))
    return tiff(page(side, side, t259=(SHORT, [kind]), t279=(LONG, [len(data)]), **changes), data=data)


@functools.cache
def _bomb(size: int) -> bytes:
    """So many zeros, deflated: a thousandth of it."""
    packer = zlib.compressobj(9)
    part = bytes(1 << 20)
    return b"".join(packer.compress(part) for _ in range(size >> 20)) + packer.flush()


add("deflate bomb", "gen5", lambda: _packed(_bomb(1 << 28), 8), "too_large")
add("deflate bomb, old code", "plain", lambda: _packed(_bomb(1 << 28), 32946), "too_large")
add("deflate bomb in a later page", "plain", lambda: _later_bomb(), "too_large")  # noqa: PLW0108 - defined below
add("LZMA bomb", "plain", lambda: _packed(_lzma_bomb(), 34925), "too_large")
add("LZW bomb", "plain", lambda: _packed(b"\x80\0" * 200_000, 5), "unreadable", READS)
add("LZW of noise", "plain", lambda: _packed(np.random.default_rng(2).bytes(512), 5), "unreadable", READS)
add("PackBits bomb", "plain", lambda: _packed(b"\x81\0" * 500_000, 32773), "unreadable", READS)
add("deflate of noise", "gen5", lambda: _packed(np.random.default_rng(3).bytes(512), 8), "unreadable")
add("deflate cut", "gen5", lambda: _packed(zlib.compress(np.random.default_rng(4).bytes(512))[:200], 8), "unreadable")
add("ZSTD of noise", "plain", lambda: _packed(np.random.default_rng(5).bytes(512), 50000), "unreadable")
add("unknown compression", "gen5", lambda: _packed(bytes(512), 9999), "unreadable")
add("JPEG that is none", "plain", lambda: _packed(b"\xff\xd8\xff" + bytes(500), 7), "unreadable")
add(
    "JPEG in TIFF, cut",
    "plain",
    lambda: _packed(_jpeg()[: len(_jpeg()) // 2], 7, 4096, t258=(SHORT, [8])),
    "unreadable",
    READS,
)
add("old JPEG in TIFF", "plain", lambda: _packed(_jpeg(), 6, 4096, t258=(SHORT, [8])), "unreadable", READS)


def _later_bomb() -> bytes:
    good, bomb = zlib.compress(bytes(512)), _bomb(1 << 28)
    first = page(t259=(SHORT, [8]), t279=(LONG, [len(good)]))
    later = page(t259=(SHORT, [8]), t273=(LONG, [8 + len(good)]), t279=(LONG, [len(bomb)]))
    return tiff(first, later, data=good + bomb)


def _lzma_bomb() -> bytes:
    packer = lzma.LZMACompressor(preset=0)
    part = bytes(1 << 20)
    return b"".join(packer.compress(part) for _ in range(1 << 9)) + packer.flush()


def _jpeg() -> bytes:
    return image_bytes(".jpg", texture(64, 64, top=255).astype(np.uint8))


# 5. Pixels.
add("NaN", "plain", lambda: tiff_bytes(np.full((16, 16), np.nan, np.float32)), "unreadable")
add("infinity", "plain", lambda: tiff_bytes(np.full((16, 16), np.inf, np.float32)), "unreadable")
add("beyond float32", "plain", lambda: tiff_bytes(np.full((16, 16), 1e300)), "unreadable")
add("complex", "plain", lambda: tiff_bytes(np.ones((16, 16), np.complex64)), "unreadable")
for bits in (1, 4, 12, 64):
    add(f"{bits} bits", "plain", lambda bits=bits: tiff(page(bits=bits), data=bytes(2048)), "unreadable", READS)
add("7 bits", "plain", lambda: tiff(page(bits=7)), "unreadable", READS)
add("0 bits", "plain", lambda: tiff(page(t258=(SHORT, [0]))), "unreadable")
add("65,535 bits", "plain", lambda: tiff(page(t258=(SHORT, [65535]))), "unreadable", "too_large")
add("sample format 9", "plain", lambda: tiff(page(t339=(SHORT, [9]))), "unreadable", READS)
add("16-bit float", "plain", lambda: tiff(page(t339=(SHORT, [3]))), READS, "unreadable")
add("palette", "plain", lambda: tiff(page(bits=8, t262=(SHORT, [3]), t320=(SHORT, [0] * 768))), READS, "unreadable")
add("palette without one", "plain", lambda: tiff(page(bits=8, t262=(SHORT, [3]))), READS, "unreadable")
add("CMYK", "plain", lambda: tiff_bytes(np.zeros((16, 16, 4), np.uint8), photometric="separated"), READS, "wrong_type")
add(
    "YCbCr",
    "plain",
    lambda: tiff(
        page(t262=(SHORT, [6]), t277=(SHORT, [3]), t258=(SHORT, [8, 8, 8]), t279=(LONG, [768])), data=bytes(768)
    ),
    READS,
    "unreadable",
    "wrong_type",
)
add(
    "separate planes",
    "plain",
    lambda: tiff_bytes(np.zeros((3, 16, 16), np.uint8), photometric="rgb", planarconfig="separate"),
    READS,
)
add(
    "separate planes, one strip",
    "plain",
    lambda: tiff(page(bits=8, t277=(SHORT, [3]), t284=(SHORT, [2]))),
    "unreadable",
    READS,
    "wrong_type",
)
add("BigTIFF of offset size 4", "gen5", b"II+\0\x04\0\0\0" + bytes(500), "unreadable", "truncated")
add("BigTIFF, page beyond the end", "gen5", b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(500), "truncated")
add("BigTIFF, 2^64 entries", "gen5", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**64 - 1) + bytes(500), "unreadable")
add("BigTIFF, offset near 2^64", "gen5", lambda: tiff(page(at=16, t273=(16, [2**64 - 8])), big=True), "truncated")
add("BigTIFF without metadata", "gen5", lambda: tiff(page(at=16), big=True), "no_pixel_size")
add("PNG of 2^31 x 2^31", "plain", lambda: _png(2**31 - 1, 2**31 - 1), "too_large", suffix=".png")
add("PNG of 0 x 0", "plain", lambda: _png(0, 0), "unreadable", suffix=".png")
add("PNG cut in its pixels", "plain", lambda: image_bytes(".png", texture())[:200], "truncated", suffix=".png")
add(
    "PNG of noise",
    "plain",
    lambda: _png(16, 16, np.random.default_rng(6).bytes(99)),
    "unreadable",
    READS,
    suffix=".png",
)
add("JPEG without a frame", "plain", b"\xff\xd8\xff\xe0\0\x04ab\xff\xd9", "unreadable", suffix=".jpg")
add("JPEG segment of length 0", "plain", b"\xff\xd8\xff\xe0\0\0" + bytes(50), "unreadable", suffix=".jpg")
add(
    "JPEG of 65,535 x 65,535",
    "plain",
    b"\xff\xd8\xff\xc0\0\x0b\x08" + b"\xff" * 4 + b"\x01\x01\x11\0\xff\xd9",
    "too_large",
    suffix=".jpg",
)
add(
    "BMP of 2^31 x 2^31",
    "plain",
    b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    "too_large",
    suffix=".bmp",
)
add("BMP without a header", "plain", b"BM" + struct.pack("<III", 20, 0, 14) + bytes(6), "unreadable", suffix=".bmp")
add(
    "BMP that promises more", "plain", b"BM" + struct.pack("<III", 2**31, 0, 54) + bytes(60), "truncated", suffix=".bmp"
)


def _png(width: int, height: int, packed: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
