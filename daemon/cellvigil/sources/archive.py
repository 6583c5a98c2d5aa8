"""A zip that nobody vouches for: its directory is measured before it is believed, its members are read in bounds.

Nothing is ever extracted, so no member's name can reach a folder; members with names that would are refused all the
same, and so are links, encrypted members and two of one name (which of them a name means depends on the reader).
ZIP's structure: PKWARE APPNOTE 6.3, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

import contextlib
import io
import stat as modes
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cellvigil import config
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.load import MEGABYTE, decoding, opened_file, too_large

_END = 22  # bytes of a zip's last record without a comment
_LOCATOR, _END64 = 20, 56  # bytes of zip64's two records before it
_ENTRY = 46  # bytes of a directory entry before its name
_CHUNK = 1 << 20
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ENCRYPTED = 1  # a member's flag
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others cannot be decoded in bounds


@contextlib.contextmanager
def opened(path: Path, name: str, limits: config.Limits) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`, its directory checked. Raises NotYet (not whole yet) and BadFile, in the block too."""
    with opened_file(path, name) as (file, size), decoding(name):
        check(file, size, name, limits)
        with zipfile.ZipFile(file) as archive:
            yield archive


def check(file: IO[bytes], size: int, name: str, limits: config.Limits) -> None:
    """Return if the archive has a directory of bounded size that covers it. Raises NotYet, or BadFile("too_large")."""
    start, length = _directory(file, size, name)
    if length > limits.max_metadata_mb * MEGABYTE:
        what = f"the archive's directory has {length / MEGABYTE:.0f} MB"
        raise too_large(name, what, "limits.max_metadata_mb")
    file.seek(start)
    _count(file.read(length), name, limits)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, io.UnsupportedOperation) as error:
        raise _unfinished(name, f"the archive's directory cannot be read: {error}") from None
    # A directory that belongs to an archive stored inside this one would place its first member behind other bytes.
    if members and min(member.header_offset for member in members) != 0:
        raise _unfinished(name, "the archive's directory does not cover it")


def check_members(members: list[zipfile.ZipInfo], name: str) -> None:
    """Raise BadFile for members that cannot be trusted to be what their entry says."""
    if len({info.filename for info in members}) < len(members):
        raise BadFile("bad_metadata", "the archive holds two images of one name", where=name)
    for info in members:
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
            raise BadFile("bad_metadata", f"the archive's {info.filename!r:.99} would leave its folder", where=name)
        if modes.S_ISLNK(info.external_attr >> 16):
            raise BadFile("bad_metadata", f"the archive's {info.filename!r:.99} is a link", where=name)
        if info.flag_bits & _ENCRYPTED:
            raise BadFile("unreadable", f"the archive's {info.filename!r:.99} is encrypted", where=name)
        if info.compress_type not in _COMPRESSIONS:
            what = f"the archive's {info.filename!r:.99} is neither stored nor deflated"
            raise BadFile("unreadable", what, where=name)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, limits: config.Limits) -> bytes:
    """A TIFF member's bytes, never more than its entry says. Raises BadFile("too_large", "wrong_type")."""
    if info.file_size > limits.max_file_mb * MEGABYTE:
        raise too_large(name, f"{info.filename!r:.99} has {info.file_size / MEGABYTE:.0f} MB", "limits.max_file_mb")
    check_members([info], name)
    data = io.BytesIO()
    # Chunk by chunk: one call for all would inflate whatever stands there, before it is compared with the entry.
    with archive.open(info) as member:
        while chunk := member.read(_CHUNK):
            if not data.tell() and chunk[:4] not in _TIFF:
                raise BadFile("wrong_type", f"the archive's {info.filename!r:.99} is no TIFF", where=name)
            data.write(chunk)
    return data.getvalue()


def _directory(file: IO[bytes], size: int, name: str) -> tuple[int, int]:
    """Where the directory begins, and its bytes: as `zipfile` will find them."""
    tail_start = max(0, size - _END - 0xFFFF)
    file.seek(tail_start)
    tail = file.read(_END + 0xFFFF)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END:
        raise _unfinished(name, "the archive has no directory yet")
    length, _, comment = struct.unpack_from("<LLH", tail, at + 12)
    if len(tail) - at != _END + comment:
        raise _unfinished(name, "the archive has no directory yet")
    end = tail_start + at
    if tail[max(0, at - _LOCATOR) :].startswith(b"PK\x06\x07") and end >= _LOCATOR + _END64:
        file.seek(end - _LOCATOR - _END64)
        record = file.read(_END64)
        if record.startswith(b"PK\x06\x06"):
            (length,) = struct.unpack_from("<Q", record, 40)
            end -= _LOCATOR + _END64
    if length > end:
        raise _unfinished(name, "the archive's directory is larger than the archive")
    return end - length, length


def _count(directory: bytes, name: str, limits: config.Limits) -> None:
    """Raise for more entries than `limits.max_members`, whatever number the archive itself gives."""
    at = count = 0
    while at + _ENTRY <= len(directory):
        at += _ENTRY + sum(struct.unpack_from("<HHH", directory, at + 28))  # name, extra field, comment
        count += 1
        if count > limits.max_members:
            raise too_large(name, f"the archive holds more than {limits.max_members} members", "limits.max_members")


def _unfinished(name: str, what: str) -> NotYet:
    return NotYet(what, where=name, becomes="truncated")
