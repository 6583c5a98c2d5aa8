"""The durable write order, in one function. Touches the files it is given and the journals, nothing else."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.errors import StoreError, store_failure
from cellvigil.journal import Journal, Line, fsync_path, write_all

TEMPORARY = ".tmp."
"""How the name of every unfinished file and folder begins; what bears it after a crash is rubbish."""

_count = itertools.count()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One encoded chunk and the file that it will be."""

    path: Path
    data: bytes
    tier: str  # one of ledger.TIERS
    derived: bool = False  # a reduced level: it can be made again from a chunk of the same commit


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What a commit adds to one plate: chunks, and the journal lines that name them."""

    journal: Journal
    entries: Sequence[Mapping[str, Any]]
    chunks: Sequence[Chunk]
    take: Callable[[list[Line]], object]  # is given the lines as soon as they are durable


def commit(parts: Sequence[Part]) -> None:
    """Make the chunks of all parts and then their journal lines durable: a crash leaves all of a frame or nothing.

    1. Every chunk is written under a temporary name and fsynced. A crash here leaves temporary files: rubbish that
       opening removes; no reader looks at them.
    2. Every chunk is renamed to its key. Its bytes are on the disk already, so no reader and no crash can meet a
       torn chunk. A crash here leaves chunks without a journal line: orphans, mostly beyond the arrays' shape, that
       opening moves aside; the frame's files are still in the microscope's folder, and the frame is done again.
    3. The chunks' folders are fsynced, each once however many frames share it: now the names are durable too.
    4. The journal lines are appended and fsynced: the commit. A line that a crash tears fails its checksum and is cut
       off, which puts us back at 2. A line that is whole names chunks that are all durable, since 3 came first.
    Only then does the caller tell anybody. What a caller was told is therefore on the disk; what it was not told is
    either wholly there (the crash fell after the fsync in 4: reading the journal finds it, and nothing is doubled)
    or not at all.

    A group of frames goes through the same four steps together, the lines of one plate in one append. That changes
    nothing for any one of them: 3 ends for all chunks of the group before 4 begins for any line. A crash in the midst
    of 4 can leave some lines of the append and not others, in whatever order the system wrote its pages back. Each
    line that is whole stands alone: its checksum covers it, its chunks are durable, and nobody was told of any. Each
    that is torn or missing is a frame at step 2: the last bad line is cut off, one before a good line is skipped and
    told, and a line that is cut off takes none of the whole ones before it along. So there is all of a frame or
    nothing of it, for each frame of the group, though not for the group. Plates have journals of their own: those
    that were fsynced before the crash (or the error) stand, the later ones are at step 2.

    Derived chunks (reduced levels) are written and renamed in 1 and 2 but never fsynced, nor their folders for them.
    A crash of the process leaves them as they are; a power cut may leave such a chunk absent, empty or torn, under a
    line that stands. Nothing is lost: the full level of the same frame is durable under 1 to 3, and the derived chunk
    follows from it to the bit. Opening makes anew each one that is missing, and looks into those so young that the
    system may not have written them back; `repair` looks into all.

    A chunk whose key exists already (a channel that comes later, calls that are made again) is replaced whole by the
    rename. The new file holds all that the old one did, and no line counts on what it lacks, so an error or a crash
    after the rename leaves it in place. Whatever else an error before 4 finds is taken away again, so the same frame
    may be tried anew with fresh files; a failed fsync is never repeated on the same file. After an error in 4 the
    chunks are taken away where the journal has cut its lines off again, durably; where it cannot tell what it ends
    with (`Journal.broken`), the line may be on the disk, and since a line must never outlive its chunks, they stay.
    Raises StoreFull or StoreError, with the OSError as its cause.
    """
    made: list[list[Path]] = [[] for _ in parts]
    try:
        for part, paths in zip(parts, made, strict=True):
            _write_aside(part.chunks, paths)
        for part, paths in zip(parts, made, strict=True):
            _rename(part.chunks, paths)
        for folder in dict.fromkeys(chunk.path.parent for part in parts for chunk in part.chunks if not chunk.derived):
            fsync_path(folder)
    except OSError as error:
        _remove(itertools.chain(*made))
        raise store_failure("the store cannot be written", error, where=parts[0].journal.path.parent) from error
    for place, part in enumerate(parts):
        try:
            lines = part.journal.append(part.entries)
        except (StoreError, ValueError):  # ValueError: an entry that JSON has no words for; nothing was written
            _remove(itertools.chain(*made[place + part.journal.broken :]))
            raise
        part.take(lines)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put a whole new file in place of `path`: a reader sees the old one or the new one.

    Raises StoreFull or StoreError.
    """
    temporary = temporary_beside(path)
    try:
        write_file(temporary, data, durable=durable)
        temporary.rename(path)
    except OSError as error:
        _remove([temporary])
        raise store_failure("the store cannot be written", error, where=path) from error


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


def _write_aside(chunks: Sequence[Chunk], made: list[Path]) -> None:
    """Write every chunk under a temporary name; `made` gets each name before its file is there."""
    for chunk in chunks:
        made.append(temporary_beside(chunk.path))
        write_file(made[-1], chunk.data, durable=not chunk.derived)


def _rename(chunks: Sequence[Chunk], made: list[Path]) -> None:
    """Rename every chunk to its key; `made` keeps those that were not there before: what an error takes away."""
    temporaries = made.copy()
    for temporary, chunk in zip(temporaries, chunks, strict=True):
        replaces = chunk.path.exists()
        temporary.rename(chunk.path)
        made.remove(temporary)
        if not replaces:
            made.append(chunk.path)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
