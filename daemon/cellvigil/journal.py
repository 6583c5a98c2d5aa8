"""Append-only JSON lines that prove themselves: each has its number and a checksum, and is fsynced before it counts.

The plate's journal and the quarantine list are both written with it. It touches the one file it is given, and knows
nothing of what the lines mean.

A line is one JSON object; `seq` comes first and `crc` last: the CRC-32 of every byte before `,"crc":`, in hex.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.errors import StoreError

Line = dict[str, Any]
_SEAL = len(',"crc":"00000000"}')


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
        line = json.loads(body + b"}")
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def fold(path: Path, take: Callable[[Line], object]) -> Found:
    """Give every good line of a journal to `take`, one after another; an absent file reads as an empty one.

    A bad line in the middle is skipped and told, and never ends the reading. Lines are not kept here, so a journal may
    be larger than the memory. Raises StoreError if the file cannot be read.
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

    def append(self, entries: Iterable[Mapping[str, Any]]) -> list[Line]:
        """Add lines and fsync once; returns them as a later reading will give them, `seq` included.

        All of them are durable when this returns. Where writing fails (a full disk), the file is cut back to the last
        good line and the journal goes on; after a failed fsync nobody knows what is on the disk, so the journal
        refuses every further line until it is opened again. Raises StoreError in both cases.
        """
        if self._broken:
            raise StoreError(self._broken, where=self.path, hint="start again: opening recovers the journal")
        lines = [{"seq": self._next + offset, **entry} for offset, entry in enumerate(entries)]
        data = b"".join(seal(line) for line in lines)
        descriptor = -1
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._write(descriptor, data)
        except OSError as error:
            hint = "start again: opening recovers the journal" if self._broken else "see that the disk has room"
            raise StoreError(f"the journal cannot be written: {error.strerror}", where=self.path, hint=hint) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        self._end += len(data)
        self._next += len(lines)
        return lines

    def _write(self, descriptor: int, data: bytes) -> None:
        try:
            os.lseek(descriptor, self._end, os.SEEK_SET)
            write_all(descriptor, data)
        except OSError:
            self._cut_back(descriptor)
            raise
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._broken = f"the journal's fsync failed: {error.strerror}"
            raise

    def _cut_back(self, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, self._end)
        except OSError as error:
            self._broken = f"a half-written line could not be cut off: {error.strerror}"


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
            raise StoreError(f"the journal cannot be mended: {error.strerror}", where=path) from error
    return Journal(path, end=found.good_bytes, following=found.last_seq + 1), found
