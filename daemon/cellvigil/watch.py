"""The folder that a microscope writes to: listed, and listened to. Only reads; nothing is ever written there.

The listing is the truth. Events are a hint that hastens it: queues overflow unseen, network shares send none, and
files that were there before send none either (reference/pitfalls.md), so a lost or late event only costs time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

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

_SIGN_OF_LIFE = 256  # entries of a folder between two signs

log = logging.getLogger(__name__)


def scan(
    root: Path,
    suffixes: Sequence[str],
    before: Mapping[str, FileStat] = MappingProxyType({}),
    *,
    progress: Callable[[], None] = lambda: None,
    odd: Callable[[str], None] = lambda _: None,
) -> dict[str, FileStat]:
    """Every file below `root` whose name ends in one of `suffixes` (lower case, any case matches), by its path.

    Links are not followed, neither to folders nor to files: what a link leads to is outside, or listed already.
    `before` is the last listing: its values are kept for files that did not change, and what cannot be listed just now
    (a folder below `root`, a file's size) stays as it was there; what is new and vanishes meanwhile is left out.
    `progress` is called now and then, as a sign of life; `odd` with the path of what has an image's name and is neither
    a file nor a folder (a link, a pipe). Raises UsageError if `root` itself is not a folder that can be
    listed: fatal at start; later a share may only be away for a while.
    """
    listing = _Listing(os.fspath(root), tuple(suffixes), before, progress, odd)
    while listing.waiting:
        prefix = listing.waiting.pop()
        try:
            listing.take(prefix)
        except OSError as error:
            if not prefix:
                what = f"the source's folder cannot be listed: {error.strerror}"
                raise UsageError(what, where=root, hint="mount the share, or mend sources[].path") from None
            listing.unlisted.add(prefix)
    listing.keep_unlisted()
    return listing.found


@dataclass(slots=True, eq=False)
class _Listing:
    """One scan under way."""

    root: str
    endings: tuple[str, ...]
    before: Mapping[str, FileStat]
    progress: Callable[[], None]
    odd: Callable[[str], None]
    found: dict[str, FileStat] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=lambda: [""])  # folders to list, as prefixes of paths: "a/b/"
    unlisted: set[str] = field(default_factory=set)  # folders that could not be listed

    def take(self, prefix: str) -> None:
        """List one folder. Raises OSError; what was found in it until then stands."""
        self.progress()
        with os.scandir(f"{self.root}/{prefix}") as entries:
            for count, entry in enumerate(entries, 1):
                if not count % _SIGN_OF_LIFE:
                    self.progress()
                name = entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        self.waiting.append(f"{prefix}{name}/")
                    elif not name.lower().endswith(self.endings):
                        continue
                    elif entry.is_file(follow_symlinks=False):
                        self._file(prefix + name, entry.stat(follow_symlinks=False))
                    else:
                        self.odd(prefix + name)
                except OSError:  # gone since, or out of reach: the next scan will tell
                    self.unlisted.add(f"{prefix}{name}/")
                    if (known := self.before.get(prefix + name)) is not None:
                        self.found[known.path] = known

    def _file(self, path: str, stat: os.stat_result) -> None:
        known = self.before.get(path)
        if known is None or known.mtime_ns != stat.st_mtime_ns or known.size != stat.st_size:
            known = FileStat(path, stat.st_size, stat.st_mtime_ns)
        self.found[known.path] = known

    def keep_unlisted(self) -> None:
        """Files below a folder that could not be listed stay as they were."""
        if not self.unlisted:
            return
        for path, stat in self.before.items():
            if path not in self.found and any(prefix in self.unlisted for prefix in _folders(path)):
                self.found[path] = stat


def _folders(path: str) -> Iterator[str]:
    """The folders that a file lies in, as prefixes, the innermost first."""
    while (end := path.rfind("/", 0, len(path) - 1)) >= 0:
        path = path[: end + 1]
        yield path


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
