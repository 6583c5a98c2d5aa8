"""A TIFF by hand: its header, its pixels, then each page's values and directory. For files that no library writes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from source_files import bti_xml, texture, tiff_bytes

Values = tuple[int, Sequence[int] | bytes]  # the TIFF type, and its values
SHORT, LONG, DOUBLE = 3, 4, 12


def page(
    width: int = 16, height: int = 16, bits: int = 16, *, at: int = 8, **changes: Values | None
) -> dict[int, Values]:
    """The tags of a whole grey page, by number; `t259=(3, [5])` changes one, None leaves one out."""
    size = (width * height * bits + 7) // 8
    tags: dict[int, Values] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits]),
        259: (SHORT, [1]),
        262: (SHORT, [1]),
        273: (LONG, [at]),
        277: (SHORT, [1]),
        278: (LONG, [height]),
        279: (LONG, [min(size, 2**32 - 1)]),
    }
    for name, values in changes.items():
        if values is None:
            del tags[int(name[1:])]
        else:
            tags[int(name[1:])] = values
    return tags


def tiff(*pages: Mapping[int, Values], data: bytes = bytes(512), big: bool = False, last: int = 0) -> bytes:
    """A little-endian TIFF of these pages, all sharing `data` (at offset 8, or 16); `last` follows the last page."""
    word = 8 if big else 4
    out = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0))
    out += data
    link = word if not big else 8
    for tags in pages:
        rows = b""
        for tag, (kind, values) in sorted(tags.items()):
            form = {1: "B", 2: "B", 3: "H", 4: "I", 12: "d", 16: "Q"}[kind]
            raw = bytes(values) if isinstance(values, bytes) else struct.pack(f"<{len(values)}{form}", *values)
            if len(raw) > word:
                held, out = struct.pack("<Q" if big else "<I", len(out)), out + raw
            else:
                held = raw.ljust(word, b"\0")
            rows += struct.pack("<HHQ" if big else "<HHI", tag, kind, len(values)) + held
        out[link : link + word] = struct.pack("<Q" if big else "<I", len(out))
        out += struct.pack("<Q" if big else "<H", len(tags)) + rows
        link = len(out)
        out += struct.pack("<Q" if big else "<I", last)
    return bytes(out)


def text(value: str | bytes) -> Values:
    return 2, (value.encode() if isinstance(value, str) else value) + b"\0"


def whole() -> bytes:
    return tiff_bytes(texture(), description=bti_xml(), metadata=None)


def ome(
    *,
    sizes: str = 'SizeX="16" SizeY="16" SizeZ="1" SizeC="1" SizeT="1"',
    order: str = "XYZCT",
    data: str = "<TiffData/>",
    date: str = "2025-02-01T20:00:10",
    unit: str = 'PhysicalSizeX="0.3" PhysicalSizeY="0.3"',
    more: str = "",
    pages: int = 1,
) -> bytes:
    xml = (
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f"<AcquisitionDate>{date}</AcquisitionDate>"
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" {unit} {sizes}>'
        f'<Channel ID="Channel:0" Name="BF" SamplesPerPixel="1"/>{data}</Pixels></Image>{more}</OME>'
    )
    return tiff(page(t270=text(xml)), *[page()] * (pages - 1))


def sizes(**changes: int) -> str:
    return " ".join(f'Size{axis}="{changes.get(axis, 16 if axis in "XY" else 1)}"' for axis in "XYZCT")
