"""The folder that a microscope writes to: listed, and listened to. Only reads; nothing is ever written there.

The listing is the truth. Events are a hint that hastens it: queues overflow unseen, network shares send none, and
files that were there before send none either (reference/pitfalls.md), so a lost or late event only costs time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from cellvigil.data import FileStat
from cellvigil.errors import UsageError

# Not those of opening and reading: our own reading would wake us for ever.
_TELLING: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]

log = logging.getLogger(__name__)


def scan(root: Path, suffixes: Sequence[str]) -> list[FileStat]:
    """Every file below `root` whose name ends in one of `suffixes` (lower case, any case matches), in path order.

    Links are not followed, neither to folders nor to files: what a link leads to is outside, or listed already.
    Files and folders that vanish or do not open during the scan are left out. Raises UsageError if `root` itself
    is not a folder that can be listed: fatal at start; later a share may only be away for a while.
    """
    endings = tuple(suffixes)
    found: list[FileStat] = []
    try:
        entries = _listed(root)
    except OSError as error:
        what = f"the source's folder cannot be listed: {error.strerror}"
        raise UsageError(what, where=root, hint="mount the share, or mend sources[].path") from None
    waiting = [("", entries)]
    while waiting:
        prefix, entries = waiting.pop()
        for entry in entries:
            path = prefix + entry.name
            with contextlib.suppress(OSError):  # gone since, or out of reach: the next scan will tell
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{path}/", _listed(entry.path)))
                elif entry.is_file(follow_symlinks=False) and path.lower().endswith(endings):
                    stat = entry.stat(follow_symlinks=False)
                    found.append(FileStat(path, stat.st_size, stat.st_mtime_ns))
    return sorted(found)


@contextlib.contextmanager
def hints(root: Path, wake: Callable[[], None]) -> Iterator[None]:
    """Call `wake`, from a thread of its own, when something below `root` was written, moved or removed.

    A folder that cannot be listened to (no more inotify watches, a share without events) is told in the log once;
    the block then runs without hints.
    """
    observer = Observer()
    listening = False
    try:
        observer.schedule(_Waker(wake), str(root), recursive=True, event_filter=_TELLING)
        observer.start()
        listening = True
    except (OSError, RuntimeError) as error:
        log.warning("%s: no file events (%s); the folder is scanned at its interval only", root, error)
    try:
        yield
    finally:
        if listening:
            observer.stop()
            observer.join()


class _Waker(FileSystemEventHandler):
    """Hands any event on as a bare wake-up."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - which one does not matter
        self._wake()


def _listed(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)
