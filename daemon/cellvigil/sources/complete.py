"""Is a file whole? By its format's own structure, without decoding a pixel, and safe on hostile content.

TIFF: every page's directory, values, strips and tiles lie inside the file (`tiffchain`). PNG: chunks up to IEND.
JPEG: segments up to EOI. BMP: as long as its header says. ZIP: the directory of members, and all of them before it.
A file that could still become whole raises NotYet; one that time cannot mend raises BadFile.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO

from cellvigil import config
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources import archive
from cellvigil.sources.load import MEGABYTE, opened_file, too_large
from cellvigil.sources.tiffchain import check_chain

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MAGIC = {
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "png": (PNG_MAGIC,),
    "jpeg": (b"\xff\xd8\xff",),
    "bmp": (b"BM",),
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
}
_MOST_CHUNKS = 1 << 18
_LONE = 0x01  # the JPEG marker TEM, which carries no length
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)


def finished(path: Path, name: str, kind: str, limits: config.Limits, *, pages: int | None = None) -> None:
    """Return if the file at `path` is a whole "tiff", "png", "jpeg", "bmp" or "zip"; `name` is for the errors.

    `pages` bounds the pages of a TIFF (`limits.max_pages` unless given). A zip may be larger than
    `limits.max_file_mb`: its members are read one at a time, each within that limit.
    Raises NotYet (empty, truncated, does not open) or BadFile ("wrong_type", "too_large", "unreadable").
    """
    with opened_file(path, name) as (file, size):
        _check_head(file, size, name, kind)
        if size > limits.max_file_mb * MEGABYTE and kind != "zip" and pages is None:
            raise too_large(name, f"the file has {size / MEGABYTE:.0f} MB", "limits.max_file_mb")
        if kind == "tiff":
            check_chain(file, size, name, limits, pages=pages)
        elif kind == "zip":
            archive.check(file, size, name, limits)
        else:
            _CHECKS[kind](file, size, name)


def _check_head(file: IO[bytes], size: int, name: str, kind: str) -> None:
    if size == 0:
        raise NotYet("the file has no bytes", where=name, becomes="empty")
    longest = max(len(magic) for magic in _MAGIC[kind])
    file.seek(0)
    head = file.read(longest)
    if any(head.startswith(magic) for magic in _MAGIC[kind]):
        return
    if any(magic.startswith(head) for magic in _MAGIC[kind]):
        raise truncated(name)
    if not any(head):  # a writer on a share may reserve the room first and fill it later
        raise NotYet("the file begins with zeros", where=name, becomes="wrong_type")
    raise BadFile("wrong_type", f"the content is no {kind.upper()}", where=name)


def truncated(name: str, what: str = "the file ends too early") -> NotYet:
    """The error for a file that may still grow."""
    return NotYet(what, where=name, becomes="truncated")


def _check_png(file: IO[bytes], size: int, name: str) -> None:
    at = len(PNG_MAGIC)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise truncated(name)
        length, kind = struct.unpack(">I4s", head)
        at += 12 + length  # length, type, data, checksum
        if at > size:
            raise truncated(name)
        if kind == b"IEND":
            return
    raise BadFile("unreadable", f"a PNG of more than {_MOST_CHUNKS} chunks", where=name)


def _check_jpeg(file: IO[bytes], size: int, name: str) -> None:
    file.seek(0)
    data = file.read(size)
    at = 2
    while True:
        # In entropy-coded data 0xFF is followed by 0 or a restart; anything else is the next segment.
        found = _MARKER.search(data, at)
        if found is None:
            raise truncated(name)
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            return
        if marker == _LONE:
            continue
        if at + 2 > size:
            raise truncated(name)
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2:
            raise BadFile("unreadable", "a JPEG segment of no length", where=name)
        at += length


def _check_bmp(file: IO[bytes], size: int, name: str) -> None:
    file.seek(2)
    head = file.read(12)
    if len(head) < 12:
        raise truncated(name)
    told, _, start = struct.unpack("<III", head)
    if size < max(told, start):
        raise truncated(name)


_CHECKS: dict[str, Callable[[IO[bytes], int, str], None]] = {
    "png": _check_png,
    "jpeg": _check_jpeg,
    "bmp": _check_bmp,
}
