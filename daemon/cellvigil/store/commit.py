"""The durable write order, in one function. Touches the files it is given and the journal, nothing else."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.errors import StoreError
from cellvigil.journal import Journal, Line, write_all

TEMPORARY = ".tmp."
"""How the name of every unfinished file and folder begins; what bears it after a crash is rubbish."""

_count = itertools.count()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One encoded chunk and the file that it will be."""

    path: Path
    data: bytes


def commit(chunks: Sequence[Chunk], journal: Journal, entries: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Make `chunks` and then their journal lines durable, so that a crash leaves all of a frame or nothing of it.

    1. Every chunk is written under a temporary name and fsynced. A crash here leaves temporary files: rubbish that
       opening removes; no reader looks at them.
    2. Every chunk is renamed to its key. Its bytes are on the disk already, so no reader and no crash can meet a
       torn chunk. A crash here leaves chunks without a journal line: orphans, mostly beyond the arrays' shape, that
       opening moves aside; the frame's files are still in the microscope's folder, and the frame is done again.
    3. The chunks' folders are fsynced: now the names are durable too.
    4. The journal lines are appended and fsynced: the commit. A line that a crash tears fails its checksum and is cut
       off, which puts us back at 2. A line that is whole names chunks that are all durable, since 3 came first.
    Only then does the caller tell anybody. What a caller was told is therefore on the disk; what it was not told is
    either wholly there (the crash fell after the fsync in 4: reading the journal finds it, and nothing is doubled)
    or not at all.

    After an error before 4 the chunks of this frame are taken away again, so the same frame may be tried anew with
    fresh files; a failed fsync is never repeated on the same file. After an error in 4 the chunks stay: the line may
    have reached the disk, and a line must never outlive its chunks. Raises StoreError with the OSError as its cause.
    """
    made: list[Path] = []
    try:
        _write_aside(chunks, made)
        for place, chunk in enumerate(chunks):
            made[place].rename(chunk.path)
            made[place] = chunk.path
        for folder in dict.fromkeys(chunk.path.parent for chunk in chunks):
            fsync_path(folder)
    except OSError as error:
        _remove(made)
        raise _told(error, journal.path.parent) from error
    return journal.append(entries)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put a whole new file in place of `path`: a reader sees the old one or the new one. Raises StoreError."""
    temporary = temporary_beside(path)
    try:
        write_file(temporary, data, durable=durable)
        temporary.rename(path)
    except OSError as error:
        _remove([temporary])
        raise _told(error, path) from error


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Create `path` with `data`, and fsync it if `durable`. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that nothing else uses."""
    return path.parent / f"{TEMPORARY}{os.getpid()}.{next(_count)}"


def fsync_path(path: Path) -> None:
    """Make a folder's names (or a file's bytes) durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_aside(chunks: Iterable[Chunk], made: list[Path]) -> None:
    """Write and fsync every chunk under a temporary name; `made` gets each name before its file is there."""
    for chunk in chunks:
        made.append(temporary_beside(chunk.path))
        write_file(made[-1], chunk.data)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _told(error: OSError, where: Path) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space on that disk" if full else "see that the disk is there and may be written"
    return StoreError(f"the store cannot be written: {error.strerror}", where=where, hint=hint)
