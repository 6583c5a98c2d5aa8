"""Names that are no image's, and what is no file at all, or has no end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from bad_cases import READS, UNSEEN, add
from raw_tiff import ome, whole
from source_files import texture, tiff_bytes

# 7. Names. The content is whole.
_NAMES = {
    "another format": "image 17.tif",
    "no well": "_02_1_1_Bright Field_001.tif",
    "well A0": "A0_02_1_1_Bright Field_001.tif",
    "well A999999": "A999999_02_1_1_Bright Field_001.tif",
    "well ZZZZ1": "ZZZZ1_02_1_1_Bright Field_001.tif",
    "well in Greek": "\u03911_02_1_1_Bright Field_001.tif",
    "Arabic digits": "A\u0661_02_1_1_Bright Field_001.tif",
    "right to left": "\u202eA1_02_1_1_Bright Field_001.tif",
    "a newline": "A1\n_02_1_1_Bright Field_001.tif",
    "terminal escapes": "A1_\x1b[2J_02_1_1.tif",
    "an escaped NUL": "A1%00_02_1_1_Bright Field_001.tif",
    "no text": "A1_\udce9_\udcff.tif",
    "255 bytes": "x" * 251 + ".tif",
    "only dots": "_....tif",
    "only a suffix": "_.tif",
    "two dots": "A1..%2f..%2fA1.tif",
    "like an absolute path": "C:A1_02.tif",
    "backslashes": "A\\..\\..\\A1_02_1_1_BF_001.tif",
    "a device": "CON.tif",
    "another device": "NUL.1.tif",
    "a time of 19 digits": f"A1_02_1_1_BF_{'9' * 19}.tif",
    "a container's part": "a.vol!@000000!b.tif",
}
for case, name in _NAMES.items():
    add(f"name: {case}", "gen5", whole, "bad_name", name=name)
add("name: a well of the plate's edge", "plain", whole, READS, name="AF48_t1.tif")
add("name: well A0, by a pattern", "plain", whole, "bad_name", name="A0_t1.tif")
add("name: hidden", "gen5", whole, UNSEEN, name=".A1_02_1_1_Bright Field_001.tif")
add("name: hidden dots", "gen5", whole, UNSEEN, name="..\\..\\A1.tif")


# 9. What is no file, or is one without an end.
def _no_file(case: str, write: Callable[[Path], object], *expected: str) -> None:
    add(f"special: {case}", "gen5", None, *expected, write=write)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path, size: int, head: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


_no_file("a pipe", os.mkfifo, UNSEEN, "wrong_type")
_no_file("a socket", _socket, UNSEEN, "wrong_type")
_no_file("a device", lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), UNSEEN, "wrong_type")
_no_file("a link to a file elsewhere", lambda path: path.symlink_to("/etc/passwd"), UNSEEN, "wrong_type")
_no_file("a link in a circle", lambda path: path.symlink_to(path.name), UNSEEN, "wrong_type")
_no_file("a link to nothing", lambda path: path.symlink_to("nowhere"), UNSEEN, "wrong_type")
_no_file("a folder", Path.mkdir, UNSEEN, "wrong_type")
_no_file("10 TB of nothing", lambda path: _sparse(path, 10**13), "too_large", "wrong_type", "truncated")
_no_file("10 TB behind a header", lambda path: _sparse(path, 10**13, whole()), "too_large")
add(
    "special: 10 TB behind an OME header",
    "ometiff",
    None,
    READS,
    "too_large",
    "wrong_type",
    write=lambda path: _sparse(path, 10**13, ome()),
)
add(
    "special: 10 TB named .vol",
    "nanolive",
    None,
    "truncated",
    suffix=".vol",
    write=lambda path: _sparse(path, 10**13, b"PK\x03\x04"),
)
add(
    "special: a date in the year 2400",
    "plain",
    None,
    "bad_metadata",
    write=lambda path: (path.write_bytes(tiff_bytes(texture())), os.utime(path, (1.36e10, 1.36e10))),
)
