"""The page chain of a TIFF, classic or BigTIFF, either byte order: does all that it points to lie inside the file?

Reads directories only, never pixels. Bounded in pages and in segments a page, and loops are found, so that a hostile
file costs little. TIFF 6.0 section 2 (directories), sections 3 and 15 (strips and tiles); BigTIFF by its own layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

import numpy as np

from cellvigil.data import Array
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.load import too_large

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_SUBPAGES = 330
_SEGMENTS = ((273, 279), (324, 325))  # offsets and byte counts: of strips, of tiles
_MOST_SEGMENTS = 1_000_000  # of one page
_MOST_ENTRIES = 4096  # of one directory


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


def check_chain(file: IO[bytes], size: int, name: str, pages: int) -> None:
    """Return if every page of the TIFF is whole. Raises NotYet if the file may still grow; BadFile otherwise."""
    start = file.seek(0)
    head = file.read(16)
    layout = _Layout(file, size, name, "<" if head[start : start + 1] == b"I" else ">", big=43 in head[2:4])
    first = layout.at(8, 8) if layout.big else layout.at(4, 4)
    waiting = [layout.number(first)]
    if not waiting[0]:
        raise NotYet("the file has no page yet", where=name)
    seen: set[int] = set()
    while waiting:
        offset = waiting.pop()
        if offset in seen:
            raise BadFile("unreadable", "the pages point at each other in a circle", where=name)
        seen.add(offset)
        if len(seen) > pages:
            raise too_large(name, f"the file has more than {pages} pages", "limits.max_pages")
        following, entries = _directory(layout, offset)
        _check_segments(layout, entries)
        waiting.extend(_subpages(layout, entries))
        if following:
            waiting.append(following)


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


def _check_segments(layout: _Layout, entries: dict[int, _Entry]) -> None:
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


def _whole(layout: _Layout, entries: dict[int, _Entry], strips: int) -> Array:
    """The length of the only strip where the file leaves it out: what an uncompressed page needs."""

    def first(tag: int, default: int) -> int:
        return int(_values(layout, entries[tag])[0]) if tag in entries else default

    if strips != 1 or first(259, 1) != 1:
        raise BadFile("unreadable", "a page without the lengths of its strips", where=layout.name)
    row = (first(256, 0) * first(277, 1) * first(258, 1) + 7) // 8
    return np.array([min(row * first(257, 0), layout.size + 1)], dtype=np.uint64)


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
