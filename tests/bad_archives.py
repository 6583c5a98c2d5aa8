"""`.vol` archives that are bombs, that lie, or that would write elsewhere."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bad_cases import READS, add
from source_files import ri_tag, texture, tiff_bytes


# 8. Archives.
def _archive(path: Path, members: Sequence[tuple[str, bytes]], **info: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            member = zipfile.ZipInfo(name, date_time=(2025, 2, 1, 20, 0, 10))
            member.compress_type = zipfile.ZIP_DEFLATED
            for key, value in info.items():
                setattr(member, key, value)
            with warnings.catch_warnings():  # of two members of one name
                warnings.simplefilter("ignore")
                archive.writestr(member, data)


def _vol(
    case: str,
    members: Callable[[], Sequence[tuple[str, bytes]]],
    *expected: str,
    patch: Callable[[bytearray], object] | None = None,
    **info: int,
) -> None:
    def write(path: Path) -> None:
        _archive(path, members(), **info)
        if patch is not None:
            data = bytearray(path.read_bytes())
            patch(data)
            path.write_bytes(data)

    add(case, "nanolive", None, *expected, suffix=".vol", write=write)


def _slice() -> bytes:
    return tiff_bytes(texture(), extratags=ri_tag(1.33, 1.4))


def _in_directory(offset: int, form: str, value: int) -> Callable[[bytearray], object]:
    """Changes a field of the directory's first entry."""
    return lambda data: struct.pack_into(form, data, data.index(b"PK\x01\x02") + offset, value)


add("vol: no zip", "nanolive", b"not a zip at all, but long enough" * 20, "wrong_type", suffix=".vol")
add("vol: cut", "nanolive", lambda: b"PK\x03\x04" + bytes(500), "truncated", suffix=".vol")
_vol("vol: empty", list, "wrong_type")
_vol("vol: no TIFF", lambda: [("readme.txt", b"x")], "wrong_type")
_vol("vol: nested", lambda: [("inner.zip", b"PK\x03\x04" + bytes(99))], "wrong_type")
_vol("vol: a zip named TIFF", lambda: [("a_1.tif", b"PK\x03\x04" + bytes(99))], "unreadable", "wrong_type")
_vol("vol: bomb of 1:1000", lambda: [("a_1.tif", bytes(100_000_000))], "wrong_type")
_vol("vol: bomb behind a header", lambda: [("a_1.tif", _slice() + bytes(100_000_000))], "no_pixel_size", READS)
_vol(
    "vol: bomb beyond the limit",
    lambda: [("a_1.tif", bytes(10_000_000))],
    "too_large",
    patch=_in_directory(24, "<I", 600_000_000),
)
_vol(
    "vol: bomb that lies",
    lambda: [("a_1.tif", _slice() + bytes(100_000_000))],
    "unreadable",
    patch=_in_directory(24, "<I", 1000),
)
_vol(
    "vol: a member longer than it says",
    lambda: [("a_1.tif", _slice())],
    "unreadable",
    "truncated",
    patch=_in_directory(24, "<I", 500),
)
_vol(
    "vol: a member shorter than it says",
    lambda: [("a_1.tif", _slice())],
    "no_pixel_size",
    READS,
    patch=_in_directory(24, "<I", 10**8),
)
_vol("vol: a member that is cut", lambda: [("a_1.tif", _slice()[:900])], "truncated")
_vol("vol: wrong checksum", lambda: [("a_1.tif", _slice())], "unreadable", patch=_in_directory(16, "<I", 7))
_vol("vol: encrypted", lambda: [("a_1.tif", _slice())], "unreadable", patch=_in_directory(8, "<H", 1))
_vol("vol: unknown compression", lambda: [("a_1.tif", _slice())], "unreadable", patch=_in_directory(10, "<H", 98))
_vol("vol: bzip2", lambda: [("a_1.tif", _slice())], "unreadable", compress_type=zipfile.ZIP_BZIP2)
for case, name in {
    "upwards": "../../x_1.tif",
    "absolute": "/etc/x_1.tif",
    "backslashes": "..\\..\\x_1.tif",
    "a drive": "C:/x_1.tif",
}.items():
    _vol(f"vol: slip, {case}", lambda name=name: [(name, _slice())], "bad_metadata")
_vol("vol: a link", lambda: [("a_1.tif", b"/etc/passwd")], "bad_metadata", external_attr=0o120777 << 16)
_vol("vol: one name twice", lambda: [("a_1.tif", _slice()), ("a_1.tif", _slice())], "bad_metadata")
_vol("vol: a name of 5,000 characters", lambda: [("a" * 5000 + "_1.tif", _slice())], "no_pixel_size", READS)
_vol(
    "vol: digits without end",
    lambda: [("1" * 5000 + ".tif", _slice()), ("2" * 5000 + ".tif", _slice())],
    "no_pixel_size",
    READS,
)
_vol("vol: more channels than limits allow", lambda: [("ab" * n + ".tif", b"x") for n in range(1, 600)], "too_large")
add("vol: 100,001 members", "nanolive", lambda: _wide_directory(100_001), "too_large", suffix=".vol")
add("vol: a directory of 20 MB", "nanolive", lambda: _wide_directory(400, 50_000), "too_large", suffix=".vol")
add("vol: a directory larger than the file", "nanolive", lambda: _end(1, 2**31), "truncated", suffix=".vol")
add(
    "vol: two archives in a row",
    "nanolive",
    lambda: b"PK\x03\x04" + bytes(50) + _wide_directory(2),
    "truncated",
    "wrong_type",
    "unreadable",
    suffix=".vol",
)


def _wide_directory(count: int, name_bytes: int = 9) -> bytes:
    """An archive that is a directory only; every entry points at its start."""
    rows = []
    for number in range(count):
        name = f"{number:0{name_bytes - 4}d}.tif".encode()
        fields = (20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
        rows.append(b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", *fields) + name)
    start = b"PK\x03\x04" + bytes(26)
    directory = b"".join(rows)
    return start + directory + _end(count, len(directory), len(start))


def _end(count: int, length: int, start: int = 0) -> bytes:
    head = b"" if start else b"PK\x03\x04"
    return head + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, length, start, 0)
