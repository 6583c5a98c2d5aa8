"""Append-only JSON lines that prove themselves: each has its number and a checksum, and is fsynced before it counts.

The plate's journal and the quarantine list are both written with it. It touches the one file it is given, and knows
nothing of what the lines mean.

A line is one JSON object; `seq` comes first and `crc` last: the CRC-32 of every byte before `,"crc":`, in hex.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.errors import StoreError, is_full, store_failure

Line = dict[str, Any]
_SEAL = len(',"crc":"00000000"}')
_decode = json.JSONDecoder().raw_decode  # `json.loads` looks for an encoding and blanks first: a quarter of its time
_AGAIN = "start again: opening recovers the journal"


@dataclass(frozen=True, slots=True)
class Found:
    """What a journal's file holds beside its good lines."""

    good_bytes: int  # the file up to here ends with a whole line; what is beyond is a bad last line
    torn: bytes  # the bad last line, as it stands; b"" if there is none
    bad: tuple[int, ...]  # numbers (from 1) of bad lines that are not the last
    last_seq: int  # the highest `seq`; 0 if there is no good line


def seal(line: Mapping[str, Any]) -> bytes:
    """One journal line as bytes, newline included. Raises ValueError for what JSON has no word for (NaN, infinity)."""
    body = json.dumps(line, separators=(",", ":"), allow_nan=False)[:-1].encode()
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def parse(raw: bytes) -> Line | None:
    """The object of one line (without its newline), its checksum taken off; None if it is not what was written."""
    body = raw[:-_SEAL]
    if raw[-_SEAL:] != b',"crc":"%08x"}' % zlib.crc32(body):
        return None
    try:
        text = str(body, "utf-8") + "}"
        line, end = _decode(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and end == len(text) else None


def fold(path: Path, take: Callable[[Line], object]) -> Found:
    """Give every good line of a journal to `take`, one after another; an absent file reads as an empty one.

    A bad line in the middle is skipped and told, and never ends the reading; what is not ended by a newline does, since
    another process may be writing it just now. Lines are not kept here, so a journal may be larger than the memory.
    Raises StoreError if the file cannot be read.
    """
    good_bytes = last_seq = number = 0
    torn, bad = b"", []
    try:
        with path.open("rb") as file:
            for number, row in enumerate(file, start=1):
                if torn:  # it was bad, and it was not the last
                    bad.append(number - 1)
                    good_bytes += len(torn)
                line = parse(row[:-1]) if row.endswith(b"\n") else None
                torn = row if line is None else b""
                if line is not None:
                    good_bytes += len(row)
                    last_seq = max(last_seq, int(line.get("seq", 0)))
                    take(line)
                elif not row.endswith(b"\n"):
                    break
    except FileNotFoundError:
        return Found(0, b"", (), 0)
    except OSError as error:
        raise StoreError(f"the journal cannot be read: {error.strerror}", where=path) from error
    return Found(good_bytes, torn, tuple(bad), last_seq)


def read(path: Path) -> list[Line]:
    """Every good line of a journal, as `fold` gives them. Raises StoreError."""
    lines: list[Line] = []
    fold(path, lines.append)
    return lines


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte: `os.write` may write fewer on a full disk without an exception. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Journal:
    """One journal, ready for the next line. One writer; the caller holds the lock. Made by `open_journal`.

    The file is open only while a line is written, so a store of a thousand plates holds no descriptors.
    """

    def __init__(self, path: Path, *, end: int, following: int) -> None:
        self.path = path
        self._end = end
        self._next = following
        self._broken = ""

    @property
    def broken(self) -> bool:
        """Whether nobody knows what the file ends with: it takes no line until it is opened again."""
        return bool(self._broken)

    def append(self, entries: Iterable[Mapping[str, Any]]) -> list[Line]:
        """Add lines and fsync once; returns them as a later reading will give them, `seq` included.

        All of them are durable when this returns. Where writing fails, the file is cut back to the last good line and
        the journal goes on: StoreFull for want of room (a network file system may say so only at the fsync), else
        StoreError. After any other failed fsync nobody knows what is on the disk, and a file that is not as this
        journal left it has another writer: it then refuses every further line with StoreError until it is opened again.
        """
        self._check()
        lines = [{"seq": self._next + offset, **entry} for offset, entry in enumerate(entries)]
        data = b"".join(seal(line) for line in lines)
        descriptor = -1
        try:
            # One that is gone is not made anew: its lines would be missing before ours.
            flags = os.O_RDWR | os.O_CLOEXEC | (0 if self._end else os.O_CREAT)
            descriptor = os.open(self.path, flags, 0o644)
            self._write(descriptor, data)
        except OSError as error:
            what = "the journal cannot be written"
            if self._broken:
                raise StoreError(f"{what}: {error.strerror}", where=self.path, hint=_AGAIN) from error
            raise store_failure(what, error, where=self.path) from error
        finally:
            if descriptor >= 0:
                with contextlib.suppress(OSError):  # what closing could tell, the fsync has told
                    os.close(descriptor)
        self._end += len(data)
        self._next += len(lines)
        return lines

    def _check(self) -> None:
        if self._broken:
            raise StoreError(self._broken, where=self.path, hint=_AGAIN)

    def _write(self, descriptor: int, data: bytes) -> None:
        if (size := os.fstat(descriptor).st_size) != self._end:
            self._broken = f"the journal has {size} bytes where this process left {self._end}"
            self._check()
        try:
            os.lseek(descriptor, self._end, os.SEEK_SET)
            write_all(descriptor, data)
        except OSError:
            self._cut_back(descriptor)
            raise
        try:
            os.fsync(descriptor)
            if not self._end:
                fsync_path(self.path.parent)  # the file's name must last as its first line does
        except OSError as error:
            if is_full(error):  # as network disks tell it, late: these lines have no room, so they are cut off as above
                self._cut_back(descriptor)
            else:
                self._broken = f"the journal's fsync failed: {error.strerror}"
            raise

    def _cut_back(self, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, self._end)
            os.fsync(descriptor)  # whole lines of the group may be on the disk already: gone means gone after a crash
        except OSError as error:
            self._broken = f"a half-written line could not be cut off: {error.strerror}"


def fsync_path(path: Path) -> None:
    """Make a folder's names (or a file's bytes) durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_journal(path: Path, take: Callable[[Line], object]) -> tuple[Journal, Found]:
    """A journal ready for the next line; `take` is given every good line that it holds.

    A bad last line is cut off (nobody was ever told that it stands). Raises StoreError if the file cannot be opened.
    """
    found = fold(path, take)
    if found.torn:
        try:
            with path.open("r+b") as file:
                file.truncate(found.good_bytes)
                os.fsync(file.fileno())
        except OSError as error:
            raise store_failure("the journal cannot be mended", error, where=path) from error
    return Journal(path, end=found.good_bytes, following=found.last_seq + 1), found
