"""Files that kill the process: a fault in an image library ends it, and would again after every restart.

While a thread works on a frame's files their names stand in a small file. When the system kills the process for a
fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT), `faulthandler` writes which thread it was; the next start puts the two
together, and a file that did it twice goes into quarantine. A `kill -9` or a power cut leaves no such report, and
suspects nobody. Touches three files in the state folder.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cellvigil.data import FileStat
from cellvigil.errors import REASONS
from cellvigil.quarantine import Entry, Quarantine
from cellvigil.service.log import LOGGER

REPORT, WORKING, COUNTS = "crash.log", "working.json", "crashes.json"
_ENOUGH = 2  # once may be the memory's fault
_KEPT = 4000  # characters of a report, in the quarantine entry

Guilty = tuple[str, FileStat]
"""A source's name, and a file as it was listed."""


class Working:
    """Which files each thread works on, in a file that outlives the process. Any thread may use it."""

    def __init__(self, state: Path) -> None:
        self._path = state / WORKING
        self._lock = threading.Lock()
        self._now: dict[str, tuple[str, list[tuple[str, int, int]]]] = {}  # thread -> source, path, size, date
        self._descriptor = -1
        with contextlib.suppress(OSError):  # a full disk: then a crash names no file
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    @contextlib.contextmanager
    def on(self, source: str, files: Sequence[FileStat]) -> Iterator[None]:
        """Note that the calling thread works on these files while the block runs."""
        thread = f"{threading.get_ident():x}"
        with self._lock:
            self._now[thread] = source, [(one.path, one.size, one.mtime_ns) for one in files]
            self._write()
        try:
            yield
        finally:
            with self._lock:
                del self._now[thread]
                self._write()

    def close(self) -> None:
        """Note no more."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        """The first line is what holds; not fsynced, since the process may die and the system not."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, json.dumps(self._now).encode() + b"\n", 0)


@contextlib.contextmanager
def reported(state: Path) -> Iterator[None]:
    """Have a fatal fault's stacks written to the state folder while the block runs.

    Where somebody else asked for them already (a debugger, a test), they keep them.
    """
    if faulthandler.is_enabled():
        yield
        return
    try:
        report = (state / REPORT).open("w", encoding="utf-8")
    except OSError:
        yield
        return
    with report:
        faulthandler.enable(report)
        try:
            yield
        finally:
            faulthandler.disable()


def judge(state: Path, quarantine: Quarantine, now: datetime) -> None:
    """See whether the last session died of a fault, and on which files; put aside those that did it before.

    To be called before `reported` and `Working`. Raises StoreError if the quarantine list cannot be written.
    """
    report = _read(state / REPORT)
    if not report.startswith("Fatal Python error"):
        return
    fault = report.splitlines()[0]
    guilty = _working_then(_read(state / WORKING), report)
    LOGGER.error("the last session died of a fault", extra={"what": fault, "on": [stat.path for _, stat in guilty]})
    counts = _counts(state / COUNTS)
    for source, stat in guilty:
        name = json.dumps([source, stat.path, stat.size, stat.mtime_ns])
        counts[name] = counts.get(name, 0) + 1
        if counts[name] >= _ENOUGH:
            del counts[name]
            quarantine.add(_entry(source, stat, fault, report, now))
            LOGGER.warning("quarantined", extra={"source": source, "path": stat.path, "reason": "crashed"})
    with contextlib.suppress(OSError):  # on a full disk it takes one crash more
        (state / COUNTS).write_text(json.dumps(counts), encoding="utf-8")
        (state / REPORT).rename(state / f"{REPORT}.previous")


def _entry(source: str, stat: FileStat, fault: str, report: str, now: datetime) -> Entry:
    return Entry(
        source=source,
        path=stat.path,
        size=stat.size,
        mtime_ns=stat.mtime_ns,
        reason="crashed",
        message=f"{REASONS['crashed']} ({fault})",
        stage="prepare",
        at=now.astimezone(UTC),
        traceback=report[:_KEPT],
    )


def _working_then(text: str, report: str) -> list[Guilty]:
    """What the thread that faulted worked on; nothing if it is not known."""
    faulted = re.search(r"^(?:Current thread|Thread) 0x0*([0-9a-f]+)", report, re.MULTILINE)
    try:
        working = json.loads(text.split("\n", 1)[0])
        source, files = working[faulted[1] if faulted else ""]
        return [(str(source), FileStat(str(path), int(size), int(date))) for path, size, date in files]
    except (ValueError, KeyError, TypeError):
        return []


def _counts(path: Path) -> dict[str, int]:
    try:
        return {str(name): int(count) for name, count in json.loads(_read(path) or "{}").items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
