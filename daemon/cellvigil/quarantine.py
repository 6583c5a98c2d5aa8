"""The files that could not become a frame, each with its reason: an append-only list in the state folder.

A file is held by its listing (path, size, mtime) under one configuration: once either changes it is tried again, since
a pixel size or a pattern that was mended may be all it lacked.

Two files, each with one writer at a time, so that a command never writes into what a running service has open: the
list itself is the service's; what a person takes off it (`release`) is appended to `<name>.released.jsonl` beside it,
under a lock, and the service reads what was added there (`Quarantine.refresh`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.data import FileStat
from cellvigil.errors import REASONS, StoreError, store_failure
from cellvigil.journal import fold, open_journal, parse

FILE = "quarantine.jsonl"
"""The list's name in the state folder."""

_TRACEBACK_CHARS = 4000
_MESSAGE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that was put aside."""

    source: str  # the configured source's name
    path: str  # relative to the source's folder, with forward slashes
    size: int  # bytes, as listed when it failed
    mtime_ns: int  # as listed when it failed
    reason: str  # one of errors.REASONS
    message: str  # for a person
    stage: str  # the stage that failed: "name", "read", "segment", ...
    at: datetime  # aware, UTC
    traceback: str = ""  # the end of it, where one error led to another
    config: str = ""  # sha256 of the configuration under which it failed; `Quarantine.add` fills it in

    @property
    def file(self) -> tuple[str, str]:
        """Source and path: what an entry is about."""
        return (self.source, self.path)


class Quarantine:
    """The list as the service keeps it; entries are durable when `add` returns. Any thread may ask and add.

    Raises StoreError if the list cannot be read or written; a bad line in it is skipped (`skipped`), and its file is
    simply tried again.
    """

    def __init__(self, path: Path, *, config: str = "") -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_failure("the state folder cannot be made", error, where=path.parent) from error
        self._config = config
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._releases = released_beside(path)
        self._read = 0  # bytes of it that were read
        self._seen = 0  # its size when it was last looked at
        self._journal, found = open_journal(path, self._take)
        self.skipped = len(found.bad)
        self.refresh()

    def add(self, entry: Entry) -> None:
        """Put a file aside. Raises ValueError for a reason that errors.REASONS does not know."""
        if entry.reason not in REASONS:
            raise ValueError(f"unknown quarantine reason {entry.reason!r}")
        line = {
            "kind": "quarantined",
            **asdict(entry),
            "config": self._config,
            "message": entry.message[:_MESSAGE_CHARS],
            "traceback": entry.traceback[-_TRACEBACK_CHARS:],
            "at": entry.at.astimezone(UTC).isoformat(),
        }
        with self._lock:
            for written in self._journal.append([line]):
                self._take(written)

    def taken(self, source: str, files: Iterable[FileStat]) -> None:
        """Take files off the list that have become (part of) a frame after all: mended since, or no longer alone.

        A version that is newer than the one in the frame stays on it.
        """
        with self._lock:
            known = ((one, self._entries.get((source, one.path))) for one in files)
            held = [one.path for one, entry in known if entry is not None and entry.mtime_ns <= one.mtime_ns]
            at = datetime.now(UTC).isoformat()
            lines = [{"kind": "taken", "source": source, "path": path, "at": at} for path in held]
            for written in self._journal.append(lines) if lines else ():
                self._take(written)

    def refresh(self) -> tuple[tuple[str, str], ...]:
        """Take off the list what a person released since; returns the source and path of each. One `stat` if nothing.

        Raises StoreError if the releases are there and cannot be read.
        """
        try:
            size = self._releases.stat().st_size
            if size == self._seen:
                return ()
            self._seen = size  # also if it cannot be read: it is tried again, from where it was, once it has grown
            before = self._read if self._read <= size else 0  # smaller: somebody made it anew
            with self._releases.open("rb") as file:
                file.seek(before)
                data = file.read()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise store_failure("the quarantine's releases cannot be read", error, where=self._releases) from error
        whole = data[: data.rfind(b"\n") + 1]  # a line that is just being written is for the next time
        self._read = before + len(whole)
        lines = (line for raw in whole.splitlines() if (line := parse(raw)) is not None)
        with self._lock:
            return tuple(entry.file for line in lines if (entry := _release_from(self._entries, line)) is not None)

    def holds(self, source: str, path: str, size: int, mtime_ns: int) -> bool:
        """Whether this file, as it is now listed, is put aside under the present configuration."""
        entry = self._entries.get((source, path))
        return entry is not None and (entry.size, entry.mtime_ns, entry.config) == (size, mtime_ns, self._config)

    def reason(self, source: str, path: str) -> str:
        """Why a file was last put aside; "" if it never was, or was released since."""
        entry = self._entries.get((source, path))
        return entry.reason if entry else ""

    def entries(self) -> list[Entry]:
        """The last entry of every file, oldest first."""
        with self._lock:
            return _in_order(self._entries.values())

    def _take(self, line: Mapping[str, Any]) -> None:
        _put(self._entries, line)


def read_entries(path: Path) -> list[Entry]:
    """The list at `path` as it stands, oldest first, while a service may be writing it. Raises StoreError."""
    entries: dict[tuple[str, str], Entry] = {}
    fold(path, lambda line: _put(entries, line))
    fold(released_beside(path), lambda line: _release_from(entries, line))
    return _in_order(entries.values())


def release(path: Path, entries: Iterable[Entry], now: datetime) -> None:
    """Take `entries` off the list at `path`, so that their files are tried again; durable when it returns.

    A service that runs takes it up at its next look. Raises StoreError.
    """
    lines = [
        {"kind": "released", "source": entry.source, "path": entry.path, "quarantined_at": entry.at.isoformat(),
         "at": now.astimezone(UTC).isoformat()}
        for entry in entries
    ]  # fmt: skip
    target = released_beside(path)
    with _locked(target):
        journal, _ = open_journal(target, lambda _: None)
        if lines:
            journal.append(lines)


def released_beside(path: Path) -> Path:
    """Where the releases from the list at `path` stand."""
    return path.with_name(f"{path.stem}.released{path.suffix}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One command at a time."""
    try:
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise store_failure("the quarantine list cannot be locked", error, where=path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise StoreError(f"the quarantine list cannot be locked: {error.strerror}", where=path) from error
    finally:
        os.close(descriptor)


def _put(entries: dict[tuple[str, str], Entry], line: Mapping[str, Any]) -> None:
    if line.get("kind") == "quarantined":
        values = {name: line[name] for name in Entry.__dataclass_fields__}
        entry = Entry(**{**values, "at": datetime.fromisoformat(line["at"])})
        entries[entry.file] = entry
    elif line.get("kind") == "taken":
        entries.pop((line["source"], line["path"]), None)


def _release_from(entries: dict[tuple[str, str], Entry], line: Mapping[str, Any]) -> Entry | None:
    """Take off what the line releases, unless it was put aside again since; returns what was taken off."""
    if line.get("kind") != "released":
        return None
    entry = entries.get((line["source"], line["path"]))
    if entry is None or entry.at.isoformat() != line["quarantined_at"]:
        return None
    return entries.pop(entry.file)


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.at, entry.source, entry.path))
