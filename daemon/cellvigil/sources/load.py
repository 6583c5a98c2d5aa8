"""Bytes of one file, read once, with what can go wrong on a share classed as "again later" or "never"."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import stat as modes
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import cv2

from cellvigil import config
from cellvigil.data import FileStat
from cellvigil.errors import BadFile, NotYet

MEGABYTE = 1_000_000

_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError, MemoryError)
_CODECS = (struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, cv2.error)


def load(root: Path, path: str, limits: config.Limits) -> bytes:
    """All bytes of `root / path`. Raises NotYet if it does not open or is empty; BadFile("too_large", "wrong_type")."""
    with opened_file(root / path, path) as (file, size):
        if size > limits.max_file_mb * MEGABYTE:
            raise too_large(path, f"the file has {size / MEGABYTE:.0f} MB", "limits.max_file_mb")
        data = file.read(size)  # not what it grew by since: `check_listed` will tell of that
    if not data:
        raise NotYet("the file has no bytes", where=path, becomes="empty")
    return data


@contextlib.contextmanager
def opened_file(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file open for reading at its start, and its bytes now.

    Never waits (a FIFO would, until somebody writes), and follows no link: it may lead out of the folder.
    Raises NotYet if it does not open just now, BadFile("wrong_type") for what is no regular file.
    """
    with sharing(name):
        _check_regular(os.lstat(path), name)  # before it is opened: opening alone makes some devices act
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            told = os.fstat(descriptor)
            _check_regular(told, name)  # it may have been replaced in between
        except BaseException:
            os.close(descriptor)
            raise
        with open(path, "rb", opener=lambda *_: descriptor) as file:
            yield file, told.st_size


def _check_regular(told: os.stat_result, name: str) -> None:
    kinds = {modes.S_IFDIR: "a folder", modes.S_IFLNK: "a link", modes.S_IFIFO: "a pipe", modes.S_IFSOCK: "a socket"}
    if not modes.S_ISREG(told.st_mode):
        kind = kinds.get(modes.S_IFMT(told.st_mode), "a device")
        raise BadFile("wrong_type", f"it is {kind}, where a file should be", where=name)


def check_listed(root: Path, stat: FileStat) -> None:
    """Raise NotYet if the file is no longer of the size and date that it was listed with, or is gone."""
    with sharing(stat.path):
        now = (root / stat.path).stat()
    if (now.st_size, now.st_mtime_ns) != (stat.size, stat.mtime_ns):
        raise NotYet("the file changed since it was listed", where=stat.path, becomes="unreadable")


def sha256(data: bytes) -> str:
    """Hex digest of `data`."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def sharing(path: str) -> Iterator[None]:
    """Turns an OSError into NotYet: names listed on a share may not open for a while, or be gone."""
    try:
        yield
    except OSError as error:
        raise NotYet(f"it does not open: {error.strerror or error}", where=path, becomes="unreadable") from None


@contextlib.contextmanager
def decoding(path: str) -> Iterator[None]:
    """Turns whatever a decoder throws at broken content into BadFile("unreadable")."""
    try:
        yield
    except (*_BROKEN, *_CODECS) as error:
        raise BadFile("unreadable", f"it does not decode: {type(error).__name__}: {error}", where=path) from error


def too_large(path: str, what: str, key: str) -> BadFile:
    """The error for content beyond the limit that `key` sets."""
    return BadFile("too_large", what, where=path, hint=f"raise {key} if this is meant to be")
