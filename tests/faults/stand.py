"""One torture's stand: a watched folder, a store and a log; a microscope, a service and an onlooker.

The harness's own process forks them all, follows the journals, and counts in the end.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

import fast_scope
import forks
import numpy as np
from accounts import Account, account
from tail import Tail

from cellvigil import config
from cellvigil.data import Array
from lab import Lab

Int64 = Any  # a ctypes integer in memory that parent and children share
PICTURES = "pictures.npy"


@dataclass(frozen=True)
class Parts:
    """What every stand of a run shares: an encoder, an index, and rendered fields."""

    encoders: Path
    indexes: Path
    pictures: Path


def make_parts(root: Path, *, encoder: Path | None = None, pictures: int = 40, **render: Any) -> Parts:
    """Export the lookup encoder (or take another bundle), build an index with it, render fields; in a child."""
    parts = Parts(root / "encoders" if encoder is None else encoder.parent, root / "indexes", root / PICTURES)

    def make() -> None:
        from lab import build_index  # noqa: PLC0415
        from lookup_encoder import lookup_bundle  # noqa: PLC0415

        bundle = lookup_bundle(parts.encoders) if encoder is None else encoder
        if not parts.indexes.is_dir():
            build_index(parts.indexes, bundle)
        np.save(parts.pictures, fast_scope.render(pictures, **render))

    root.mkdir(parents=True, exist_ok=True)
    if parts.pictures.is_file():
        return parts
    child = forks.fork(make, root / "parts.log")
    if child.wait(600):
        raise SystemExit((root / "parts.log").read_text(encoding="utf-8"))
    return parts


@dataclass
class Stand:
    """One run's folders and processes."""

    root: Path
    parts: Parts
    wells: tuple[str, ...] = fast_scope.wells_of(12)
    ahead: int = 40  # frames that the microscope may be ahead of the commits
    changes: dict[str, Any] = field(default_factory=dict)  # of the configuration
    images: Path = Path()  # what is watched; default: below the root
    written: Path = Path()  # where the microscope writes; the same folder, unless a mount stands between
    put: Callable[[Path, bytes, int], None] | None = None  # how a file is written
    disk: Path = Path()  # where store and state are; default: the root

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.images = self.root / "images" if self.images == Path() else self.images
        self.written = self.images if self.written == Path() else self.written
        self.disk = self.root if self.disk == Path() else self.disk
        for folder in (self.images, self.written):
            folder.mkdir(parents=True, exist_ok=True)
        self.tail = Tail(self.store)
        self.children: list[forks.Child] = []
        self._committed: Int64 = RawValue(ctypes.c_int64, 0)
        self._scope_stops: Int64 = RawValue(ctypes.c_int64, 0)
        self._looking_stops: Int64 = RawValue(ctypes.c_int64, 0)
        self._next: Int64 = RawValue(ctypes.c_int64, 0)
        self._scope: forks.Child | None = None
        self._onlooker: forks.Child | None = None

    @property
    def store(self) -> Path:
        return self.disk / "store"

    @property
    def truth(self) -> Path:
        return self.root / fast_scope.TRUTH

    @property
    def log(self) -> Path:
        return self.root / "service.log"

    def config(self) -> config.Config:
        """The configuration; quick scans, and no room kept on the disk."""
        lab = Lab(self.root, self.parts.indexes, self.parts.encoders)
        store = {"min_free_mb": 0.0, "path": str(self.store)}
        changes = {"store": store, "state_dir": str(self.disk / "state"), **self.changes}
        source = {"scan_interval_s": 0.05, "path": str(self.images), **changes.pop("source", {})}
        return lab.config(source=source, **changes)

    def fork(self, work: Callable[[], object], log: Path) -> forks.Child:
        """A child that `close` would kill."""
        child = forks.fork(work, log)
        self.children.append(child)
        return child

    def serve(self, before: Callable[[], object] = lambda: None, *, once: bool = False) -> forks.Child:
        """The whole service: `serve.run`, or `serve.once`; `before` is called in its process first."""
        settings = self.config()

        def work() -> None:
            from cellvigil.service import serve  # noqa: PLC0415 - imported long since by the parent

            before()
            (serve.once if once else serve.run)(settings)

        return self.fork(work, self.log)

    def start_scope(self, frames: int | None = None) -> None:
        """The microscope writes on from where it was: `frames` more, or until `stop_scope`."""
        self._scope_stops.value = 0
        first = self._next.value
        numbers = itertools.count(first) if frames is None else iter(range(first, first + frames))

        def may_go_on(number: int) -> bool:
            while number >= self._committed.value + self.ahead and not self._scope_stops.value:
                time.sleep(0.005)
            if not self._scope_stops.value:
                self._next.value = number + 1
            return not self._scope_stops.value

        def work() -> None:
            pictures: Array = np.load(self.parts.pictures, mmap_mode="r")
            fast_scope.write_frames(self.written, self.truth, pictures, self.wells, numbers=numbers,
                                    may_go_on=may_go_on, seed=first, watched=self.put)  # fmt: skip

        self._scope = self.fork(work, self.root / "scope.log")

    def stop_scope(self) -> None:
        """Let the microscope finish its frame and end."""
        self._scope_stops.value = 1
        self.join_scope()

    def join_scope(self, seconds: float = 3600.0) -> None:
        """Wait until the microscope has written its frames; the commits are followed meanwhile."""
        if self._scope is not None:
            until = time.monotonic() + seconds
            while self._scope.running() and time.monotonic() < until:
                self.look()
                time.sleep(0.02)
            if self._scope.wait(10):
                raise SystemExit((self.root / "scope.log").read_text(encoding="utf-8"))
            self._scope = None

    def start_onlooker(self, seed: int) -> None:
        """Somebody reads the store from now on."""
        from onlooker import look_on  # noqa: PLC0415

        def work() -> None:
            look_on(self.store, self.truth, self.root / "onlooker.json", lambda: bool(self._looking_stops.value),
                    seed=seed)  # fmt: skip

        self._onlooker = self.fork(work, self.root / "onlooker.log")

    def stop_onlooker(self, seconds: float = 900.0) -> dict[str, Any]:
        """What he saw."""
        import json  # noqa: PLC0415

        self._looking_stops.value = 1
        if self._onlooker is None or self._onlooker.wait(seconds):
            return {"problems": [(self.root / "onlooker.log").read_text(encoding="utf-8")], "torn": []}
        found: dict[str, Any] = json.loads((self.root / "onlooker.json").read_text(encoding="utf-8"))
        return found

    def look(self) -> int:
        """Follow the journals; returns how many frames are committed."""
        self.tail.look()
        self._committed.value = self.tail.committed
        return self.tail.committed

    def wait_for_commits(self, more_than: int, seconds: float, child: forks.Child | None = None) -> bool:
        """Wait until more than so many frames are committed; False if the time is up or the service ended."""
        until = time.monotonic() + seconds
        while self.look() <= more_than:
            if time.monotonic() > until or (child is not None and not child.running()):
                return False
            time.sleep(0.01)
        return True

    def finish(self, seconds: float = 3600.0) -> int:
        """A last run to the end: `once`; returns its exit code."""
        child = self.serve(once=True)
        until = time.monotonic() + seconds
        while child.running() and time.monotonic() < until:
            self.look()
            time.sleep(0.02)
        code = child.wait(1.0)
        self.look()
        return code

    def account(self) -> Account:
        """The account of what stands now."""
        self.look()
        told = forks.in_child(lambda: account(self.store, self.truth, seen=self.tail.frames))
        told.doubled += [str(mark) for mark in self.tail.doubled]
        return told

    def quarantined(self) -> int:
        """Lines in the quarantine list."""
        path = self.config().state_dir / "quarantine.jsonl"
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0

    def last_log(self, lines: int = 15) -> str:
        """The end of the service's log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """End every child, and remove the folder."""
        for child in self.children:
            child.kill()
        shutil.rmtree(self.root, ignore_errors=True)


def end(child: forks.Child, seconds: float = 60.0) -> tuple[int, float]:
    """SIGTERM; (exit code, seconds it took)."""
    start = time.monotonic()
    child.signal(signal.SIGTERM)
    return child.wait(seconds), time.monotonic() - start
