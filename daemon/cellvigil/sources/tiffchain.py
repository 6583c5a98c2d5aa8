"""The page chain of a TIFF, classic or BigTIFF, either byte order: does all that it points to lie inside the file?

Reads directories only, never pixels. Bounded in pages, in pieces and in metadata, and loops are found, so that a
hostile file costs little: here, and in the library that reads it afterwards. TIFF 6.0 section 2 (directories),
sections 3 and 15 (strips and tiles); BigTIFF by its own layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

import numpy as np

from cellvigil import config
from cellvigil.data import Array
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.load import MEGABYTE, too_large

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_SUBPAGES = 330
_SEGMENTS = ((273, 279), (324, 325))  # offsets and byte counts: of strips, of tiles
_MOST_SEGMENTS = 1_000_000  # of one page; of all pages of a file that is no container
_MOST_ENTRIES = 4096  # of one directory
_MOST_SAMPLES = 64  # of one pixel
_SHARED = 4  # how often all of a file's bytes may be pointed at: some writers store equal pieces once
_SHORT = 1 << 16  # bytes of a tag's value that are not worth counting
_WHERE = frozenset((273, 279, 324, 325, _SUBPAGES))  # tags that say where things are


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things stand in a TIFF's structures."""

    file: IO[bytes]
    size: int
    name: str
    order: str  # "<" or ">"
    big: bool

    @property
    def word(self) -> int:
        """Bytes of an offset."""
        return 8 if self.big else 4

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.order == "<" else "big")

    def at(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise NotYet("the file ends before its format says", where=self.name)
        self.file.seek(offset)
        data = self.file.read(length)
        if len(data) < length:
            raise NotYet("the file ends before its format says", where=self.name)
        return data


@dataclass(frozen=True, slots=True)
class _Entry:
    """One directory entry: a tag's values."""

    kind: int
    count: int
    offset: int  # of the values in the file


@dataclass(frozen=True, slots=True)
class Chain:
    """What a whole chain holds."""

    pages: int  # that follow each other, sub-pages not counted
    smallest: int  # pixels of the smallest of them


@dataclass(slots=True)
class _Spent:
    """What the pages so far would cost a reader."""

    pieces: int = 0
    pixel_bytes: int = 0  # as stored
    metadata_bytes: int = 0  # of long values


def check_chain(file: IO[bytes], size: int, name: str, limits: config.Limits, *, pages: int | None = None) -> Chain:
    """Return if every page of the TIFF is whole. Raises NotYet if the file may still grow; BadFile otherwise.

    `pages` is the most that a container may have; without it `limits.max_pages` holds.
    """
    file.seek(0)
    head = file.read(16)
    layout = _Layout(file, size, name, "<" if head[:1] == b"I" else ">", big=43 in head[2:4])
    first = layout.number(layout.at(8, 8) if layout.big else layout.at(4, 4))
    if not first:
        raise NotYet("the file has no page yet", where=name)
    waiting = [(first, True)]
    most = limits.max_pages if pages is None else pages
    seen: set[int] = set()
    spent, chained, smallest = _Spent(), 0, 0
    while waiting:
        offset, main = waiting.pop()
        if offset in seen:
            raise BadFile("unreadable", "the pages point at each other in a circle", where=name)
        seen.add(offset)
        if len(seen) > most:
            raise too_large(
                name, f"the file has more than {most} pages", "limits.max_members" if pages else "limits.max_pages"
            )
        following, entries = _directory(layout, offset)
        _check_segments(layout, entries, spent)
        pixels = _check_plane(layout, entries, limits)
        _check_cost(layout, entries, spent, limits, container=pages is not None)
        waiting.extend((sub, False) for sub in _subpages(layout, entries))
        if following:
            waiting.append((following, main))
        if main:
            chained += 1
            smallest = min(smallest or pixels, pixels)
    return Chain(chained, smallest)


def _check_plane(layout: _Layout, entries: dict[int, _Entry], limits: config.Limits) -> int:
    """The pixels of one page, which must be some and within the limit."""
    width, height = (_first(layout, entries, tag, 0) for tag in (256, 257))
    if width * height == 0:
        raise BadFile("unreadable", "a page without pixels", where=layout.name)
    if width * height > limits.max_pixels:
        raise too_large(layout.name, f"the image has {width} x {height} pixels", "limits.max_pixels")
    samples = _first(layout, entries, 277, 1)
    if not 1 <= samples <= _MOST_SAMPLES:
        raise BadFile("unreadable", f"a pixel of {samples} samples", where=layout.name)
    if _first(layout, entries, 32997, 1) != 1:
        raise BadFile("wrong_type", "a page that is a volume", where=layout.name, hint="write one page a slice")
    sides = [_first(layout, entries, tag, 16) for tag in (322, 323)]
    if not all(0 < side <= limits.max_pixels for side in sides) or sides[0] * sides[1] > limits.max_pixels:
        raise BadFile("unreadable", f"tiles of {sides[0]} x {sides[1]} pixels", where=layout.name)
    return width * height


def _check_cost(
    layout: _Layout, entries: dict[int, _Entry], spent: _Spent, limits: config.Limits, *, container: bool
) -> None:
    """Pages may point at the same bytes; a reader would take them once a page."""
    for tag, entry in entries.items():
        length = entry.count * _SIZES.get(entry.kind, 1)
        spent.metadata_bytes += length if length > _SHORT and tag not in _WHERE else 0
    if spent.metadata_bytes > limits.max_metadata_mb * MEGABYTE:
        what = f"the pages hold more than {limits.max_metadata_mb:g} MB of metadata"
        raise too_large(layout.name, what, "limits.max_metadata_mb")
    if spent.pixel_bytes > _SHARED * layout.size:
        raise BadFile("unreadable", "the pages point at the same bytes again and again", where=layout.name)
    if spent.pieces > _MOST_SEGMENTS and not container:
        raise too_large(layout.name, f"pages in {spent.pieces} pieces", "the tiles' size in the writer")


def _directory(layout: _Layout, offset: int) -> tuple[int, dict[int, _Entry]]:
    """The offset of the next page (0 = none), and the entries by tag."""
    width, counted = (20, 8) if layout.big else (12, 2)
    count = layout.number(layout.at(offset, counted))
    if count == 0:
        raise NotYet("a page has no entry yet", where=layout.name)
    if count > _MOST_ENTRIES:
        raise BadFile("unreadable", f"a page with {count} entries", where=layout.name)
    table = layout.at(offset + counted, count * width + layout.word)
    entries = {}
    for i in range(count):
        row = table[i * width : (i + 1) * width]
        tag, kind = layout.number(row[:2]), layout.number(row[2:4])
        number = layout.number(row[4 : 4 + layout.word])
        length = number * _SIZES.get(kind, 1)
        here = offset + counted + i * width + 4 + layout.word
        value = here if length <= layout.word else layout.number(row[4 + layout.word :])
        if value + length > layout.size:
            raise NotYet("the file ends before a page's values", where=layout.name)
        entries[tag] = _Entry(kind, number, value)
    return layout.number(table[count * width :]), entries


def _check_segments(layout: _Layout, entries: dict[int, _Entry], spent: _Spent) -> None:
    """All strips or tiles of one page lie inside the file."""
    offsets_tag, counts_tag = next((tags for tags in _SEGMENTS if tags[0] in entries), (0, 0))
    if not offsets_tag:
        raise BadFile("unreadable", "a page without strips or tiles", where=layout.name)
    offsets = _values(layout, entries[offsets_tag])
    counts = _values(layout, entries[counts_tag]) if counts_tag in entries else _whole(layout, entries, len(offsets))
    if len(offsets) != len(counts):
        raise BadFile("unreadable", "a page with more strip offsets than lengths, or fewer", where=layout.name)
    used = counts > 0  # a segment of no bytes is legal: it stands for an empty one
    if bool((offsets[used] == 0).any()):
        raise NotYet("a page's pixels are not written yet", where=layout.name)
    # Not by their sum: it could wrap around.
    if bool((offsets[used] > layout.size).any()) or bool((counts[used] > layout.size - offsets[used]).any()):
        raise NotYet("the file ends before its last pixels", where=layout.name)
    spent.pieces += len(offsets)
    spent.pixel_bytes += int(counts.sum(dtype=np.float64))


def _first(layout: _Layout, entries: dict[int, _Entry], tag: int, default: int) -> int:
    """A tag's first value."""
    return int(_values(layout, entries[tag])[0]) if tag in entries else default


def _whole(layout: _Layout, entries: dict[int, _Entry], strips: int) -> Array:
    """The length of the only strip where the file leaves it out: what an uncompressed page needs."""
    if strips != 1 or _first(layout, entries, 259, 1) != 1:
        raise BadFile("unreadable", "a page without the lengths of its strips", where=layout.name)
    width, samples, bits = (_first(layout, entries, tag, usual) for tag, usual in ((256, 0), (277, 1), (258, 1)))
    row = (width * samples * bits + 7) // 8
    return np.array([min(row * _first(layout, entries, 257, 0), layout.size + 1)], dtype=np.uint64)


def _subpages(layout: _Layout, entries: dict[int, _Entry]) -> list[int]:
    return [int(offset) for offset in _values(layout, entries[_SUBPAGES]) if offset] if _SUBPAGES in entries else []


def _values(layout: _Layout, entry: _Entry) -> Array:
    """An entry's unsigned values, (count,) u64."""
    if entry.kind not in _UNSIGNED or entry.count == 0:
        raise BadFile("unreadable", "a page whose offsets or lengths are no numbers", where=layout.name)
    if entry.count > _MOST_SEGMENTS:
        raise too_large(layout.name, f"a page in {entry.count} pieces", "the tiles' size in the writer")
    raw = layout.at(entry.offset, entry.count * _SIZES[entry.kind])
    return np.frombuffer(raw, dtype=layout.order + _UNSIGNED[entry.kind]).astype(np.uint64)
