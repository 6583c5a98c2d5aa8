"""The files that could not become a frame, each with its reason: an append-only list in the state folder.

A file is held by its listing (path, size, mtime) under one configuration: once either changes it is tried again, since
a pixel size or a pattern that was mended may be all it lacked. Touches the one list it is given.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.errors import REASONS, StoreError
from cellvigil.journal import open_journal

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
    traceback: str = ""  # the end of it, where the reason is "failed"
    config: str = ""  # sha256 of the configuration under which it failed; `Quarantine.add` fills it in


class Quarantine:
    """The list in one file; entries are durable when `add` returns. Any thread may ask and add.

    Raises StoreError if the list cannot be read or written; a bad line in it is skipped (`skipped`), and its file is
    simply tried again.
    """

    def __init__(self, path: Path, *, config: str = "") -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the state folder cannot be made: {error.strerror}", where=path.parent) from error
        self._config = config
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._journal, found = open_journal(path, self._take)
        self.skipped = len(found.bad)

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

    def holds(self, source: str, path: str, size: int, mtime_ns: int) -> bool:
        """Whether this file, as it is now listed, is put aside under the present configuration."""
        entry = self._entries.get((source, path))
        return entry is not None and (entry.size, entry.mtime_ns, entry.config) == (size, mtime_ns, self._config)

    def reason(self, source: str, path: str) -> str:
        """Why a file was last put aside; "" if it never was."""
        entry = self._entries.get((source, path))
        return entry.reason if entry else ""

    def entries(self) -> list[Entry]:
        """The last entry of every file, oldest first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: (entry.at, entry.source, entry.path))

    def _take(self, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "quarantined":
            values = {name: line[name] for name in Entry.__dataclass_fields__}
            entry = Entry(**{**values, "at": datetime.fromisoformat(line["at"])})
            self._entries[(entry.source, entry.path)] = entry
