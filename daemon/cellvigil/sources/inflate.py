"""Compressed pieces of a TIFF page, measured before they are decoded: a few kB must not become gigabytes.

`tifffile` inflates a piece whole before it looks at its size; here the decoder is stopped at what the page can hold.
TIFF 6.0 (Adobe's technical notes 2 and 3: Deflate); LZMA as libtiff writes it.
"""

from __future__ import annotations

import lzma
import math
import zlib
from typing import Protocol

import tifffile

from cellvigil.errors import BadFile

NONE = 1
_LZMA = 34925
MEASURED = (8, 32946, _LZMA)
"""Compressions (tag 259) that can be measured here; others but NONE are decoded by a library that bounds itself."""

_SLACK = 1 << 16  # bytes: some writers pad the last strip
_MOST_MEMORY = 1 << 27  # bytes that an LZMA stream may ask for its dictionary


class _Decoder(Protocol):
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def check_inflation(page: tifffile.TiffPage | tifffile.TiffFrame, tags: tifffile.TiffPage, name: str) -> None:
    """Return if no piece of `page` becomes more than twice what it has room for. Raises BadFile("too_large").

    `tags` are those of the page that stands for its series. Costs the time of decoding once, the memory of one piece.
    """
    if isinstance(page, tifffile.TiffPage):  # a page of its own may be compressed otherwise than the first
        tags = page
    if tags.compression not in MEASURED:
        return
    file = page.parent.filehandle
    room = 2 * math.ceil(math.prod(tags.chunks) * tags.bitspersample / 8) + _SLACK
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count == 0:
            continue
        file.seek(offset)
        data = file.read(count)
        if len(_decoder(tags.compression).decompress(data, room + 1)) > room:
            raise BadFile("too_large", f"{count} compressed bytes become more than {room}", where=name)


def _decoder(compression: int) -> _Decoder:
    return lzma.LZMADecompressor(memlimit=_MOST_MEMORY) if compression == _LZMA else zlib.decompressobj()
