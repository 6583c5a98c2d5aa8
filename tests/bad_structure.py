"""Files that are no image, TIFFs whose pages lead nowhere, and sizes that no image has."""

from __future__ import annotations

import struct

import numpy as np

from bad_cases import READS, add
from raw_tiff import LONG, SHORT, ome, page, tiff, whole
from source_files import image_bytes, texture, tiff_bytes

# 1. No image at all, or not all of it.
add("empty", "gen5", b"", "empty")
add("one byte", "gen5", b"I", "truncated")
add("header only", "gen5", b"II*\0", "truncated")
for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
    add(f"cut at {share:.0%}", "gen5", lambda share=share: whole()[: int(share * len(whole()))], "truncated")
    add(f"OME cut at {share:.0%}", "ometiff", lambda share=share: ome()[: int(share * len(ome()))], "truncated")
add("zeros", "gen5", bytes(4096), "wrong_type")
add("HTML", "gen5", b"<!doctype html><title>502 Bad Gateway</title>" * 50, "wrong_type")
add("text", "nanolive", b"this is no image, whatever its name says\n" * 20, "wrong_type")
add("PNG named TIFF", "gen5", lambda: image_bytes(".png", texture()), "wrong_type")
add("TIFF named PNG", "plain", lambda: tiff_bytes(texture()), "wrong_type", suffix=".png")
add("wrong magic", "ometiff", b"IM*\0" + bytes(500), "wrong_type")
add("no page", "gen5", b"II*\0\0\0\0\0", "truncated")
add("page beyond the end", "gen5", b"II*\0\xff\xff\xff\x7f" + bytes(500), "truncated")
add("every byte random", "gen5", lambda: np.random.default_rng(0).bytes(5000), "wrong_type")
add(
    "random after the header",
    "gen5",
    lambda: b"II*\0\x08\0\0\0" + np.random.default_rng(1).bytes(5000),
    "truncated",
    "unreadable",
    "too_large",
)

# 2. The page chain.
add("a page that follows itself", "gen5", lambda: tiff(page(), last=8 + 512), "unreadable")
add("two pages in a circle", "plain", lambda: tiff(page(), page(), last=8 + 512), "unreadable")
add("a circle of sub-pages", "gen5", lambda: tiff(page(t330=(LONG, [520]))), "unreadable")
add("a page after the end", "plain", lambda: tiff(page(), last=2**31), "truncated")
add("a million pages", "plain", lambda: _many_pages(1_000_000), "too_large")
add("a million OME pages", "ometiff", lambda: _many_pages(1_000_000), "too_large")
add("no entries", "gen5", b"II*\0\x08\0\0\0" + bytes(500), "truncated")
add("65,535 entries", "gen5", b"II*\0\x08\0\0\0\xff\xff" + bytes(900_000), "unreadable")
add(
    "two million strips",
    "gen5",
    lambda: tiff(page(t273=(LONG, [8] * 2_000_000), t279=(LONG, [1] * 2_000_000))),
    "too_large",
)
add(
    "the same strip again and again",
    "plain",
    lambda: tiff(
        page(100, 40000, 8, t278=(LONG, [1]), t273=(LONG, [8] * 40000), t279=(LONG, [500_000] * 40000)),
        data=bytes(500_000),
    ),
    "unreadable",
)
add("zero strips", "gen5", lambda: tiff(page(t273=None, t279=None)), "unreadable")
add("strips without lengths", "plain", lambda: tiff(page(t273=(LONG, [8, 9]), t279=None)), "unreadable")
add("strips beyond the end", "gen5", lambda: tiff(page(t273=(LONG, [2**31]))), "truncated")
add("a strip of 4 GB", "gen5", lambda: tiff(page(t279=(LONG, [2**32 - 1]))), "truncated")
add("a strip at zero", "gen5", lambda: tiff(page(t273=(LONG, [0]))), "truncated")
add("empty strips", "plain", lambda: tiff(page(t279=(LONG, [0]))), "unreadable", READS)
add("offsets that are text", "gen5", lambda: tiff(page(t273=(2, b"\x08\0\0\0"))), "unreadable")
add("more offsets than lengths", "gen5", lambda: tiff(page(t273=(LONG, [8, 8]))), "unreadable")


# 3. Sizes.
add("2^31 x 2^31", "gen5", lambda: tiff(page(2**31, 2**31, t279=(LONG, [512]))), "too_large")
add("2^31 x 1", "plain", lambda: tiff(page(2**31, 1, t279=(LONG, [512]))), "too_large")
add("0 x 16", "gen5", lambda: tiff(page(0, 16, t279=(LONG, [0]))), "unreadable")
add("16 x 0", "plain", lambda: tiff(page(16, 0, t279=(LONG, [0]))), "unreadable")
add("no width", "plain", lambda: tiff(page(t256=None)), "unreadable")
add("1 x 1", "plain", lambda: tiff(page(1, 1)), READS)
add("a second page of 2^31 x 2^31", "plain", lambda: tiff(page(), page(2**31, 2**31, t279=(LONG, [512]))), "too_large")
add("pages of unequal size", "plain", lambda: tiff(page(), page(8, 8)), READS, "geometry_changed", "wrong_type")
add("a volume in one page", "plain", lambda: tiff(page(t32997=(LONG, [2**30]))), "wrong_type")
add("65,535 samples", "plain", lambda: tiff(page(t277=(SHORT, [65535]))), "unreadable")
add(
    "tiles of 2^31",
    "plain",
    lambda: tiff(
        page(t322=(LONG, [2**31]), t323=(LONG, [2**31]), t324=(LONG, [8]), t325=(LONG, [512]), t273=None, t279=None)
    ),
    "unreadable",
)
add(
    "tiles of 0",
    "plain",
    lambda: tiff(page(t322=(LONG, [0]), t323=(LONG, [16]), t324=(LONG, [8]), t325=(LONG, [512]), t273=None, t279=None)),
    "unreadable",
)
add(
    "tiles too few",
    "plain",
    lambda: tiff(
        page(
            64,
            64,
            t322=(LONG, [16]),
            t323=(LONG, [16]),
            t324=(LONG, [8]),
            t325=(LONG, [512]),
            t273=None,
            t279=None,
            t278=None,
        )
    ),
    "unreadable",
    READS,
)
add("rows per strip 0", "plain", lambda: tiff(page(t278=(LONG, [0]))), "unreadable", READS)
add("uncompressed and too short", "plain", lambda: tiff(page(64, 64, t279=(LONG, [512]))), "unreadable", READS)


def _many_pages(count: int) -> bytes:
    """Pages of four entries each, one after another."""
    entry = [("tag", "<u2"), ("kind", "<u2"), ("count", "<u4"), ("value", "<u4")]
    rows = np.zeros(count, np.dtype([("entries", "<u2"), ("entry", entry, 4), ("next", "<u4")]))
    rows["entries"] = 4
    rows["entry"]["tag"] = 256, 257, 273, 279
    rows["entry"]["kind"] = LONG
    rows["entry"]["count"] = 1
    rows["entry"]["value"] = 1, 1, 8, 1
    rows["next"][:-1] = 16 + np.arange(1, count) * rows.dtype.itemsize
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + rows.tobytes()
