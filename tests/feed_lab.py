"""A feed over a real folder, with a real ledger and quarantine list, and no encoder: what is read is committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cellvigil import config
from cellvigil.data import FileRef, FrameFiles, FrameKey
from cellvigil.errors import BadFile, NotYet
from cellvigil.ledger import Ledger
from cellvigil.quarantine import Entry, Quarantine
from cellvigil.service.feed import Feed
from cellvigil.service.turns import Ticket
from cellvigil.sources.load import sha256
from cellvigil.sources.read import read_frame
from cellvigil.sources.registry import format_of

START = datetime(2024, 3, 1, tzinfo=UTC)
LIMITS = config.Limits()


def frame_line(files: FrameFiles, revision: int, seq: int, digests: dict[str, str]) -> dict[str, Any]:
    """The journal line that commits a frame."""
    key = files.key
    stats = [item.stat for item in files.slices]
    return {
        "kind": "frame", "seq": seq, "key": [*key.series, key.well, key.field, key.timepoint], "revision": revision,
        "t": key.timepoint, "path": f"{key.well[0]}/{key.well[1:]}/{key.field}", "folder": files.folder,
        "number": files.number, "acquired_at": START.isoformat(), "n_cells": 1, "edge": 0, "outcome": "counted",
        "committed_at": (START + timedelta(seconds=seq)).isoformat(), "quality": {"focus": 1.0}, "tables": [],
        "files": [[s.path, s.size, s.mtime_ns, digests.get(s.path, "0" * 64)] for s in stats],
        "channels": list(files.channels), "counts": {"live": 1}, "bundle": "0" * 64,
    }  # fmt: skip


class FeedLab:
    """One source at work: `look` as often as its lookout would, then `work` on what is complete."""

    def __init__(self, root: Path, kind: str = "gen5", *, ledger: Ledger | None = None, **rules: Any) -> None:
        if kind == "gen5":
            rules = {"timezone": "Europe/Berlin", "channels": {"segment": "Bright Field", "optional": ["GFP"]}, **rules}
        folder = root / "images"
        folder.mkdir(exist_ok=True)
        rules = {"scan_interval_s": 1.0, **rules}
        self.source = config.Source(name="scope", kind=kind, path=folder, index="i", **rules)  # type: ignore[arg-type]
        self.fmt = format_of(self.source, LIMITS)
        self.folder = folder
        self.ledger = ledger or Ledger()
        self.quarantine = Quarantine(root / "quarantine.jsonl")
        self.feed = Feed(self.source, self.fmt, self.ledger, self.quarantine)
        self.now = time.monotonic()
        self.seq = 1_000_000 * len(self.ledger.series())
        self.committed: list[tuple[FrameKey, int, str]] = []  # in order: key, revision, change
        self.fresh: list[tuple[str, ...]] = []  # channels that were new, of each
        self.acquired: dict[FrameKey, datetime] = {}
        self.stalled: list[FrameFiles] = []
        self.refused: dict[str, str] = {}

    def look(self, times: int = 1) -> None:
        """Look at the folder, a scan's interval apart."""
        for _ in range(times):
            self.now += self.source.scan_interval_s
            seen = self.feed.look(self.now)
            self.stalled += seen.stalled
            for refusal in seen.refusals:
                self._refuse(refusal.stat.path, refusal.stat.size, refusal.stat.mtime_ns, refusal.error)

    def settle(self) -> None:
        """Look until what is there has settled, and work on it."""
        self.look(self.source.settle_scans)
        self.work()

    def work(self) -> int:
        """Read and commit all that waits; returns how many frames."""
        done = 0
        while (ticket := self.feed.peek()) is not None:
            self.feed.claim(ticket.files.key)
            done += self.finish(ticket)
        return done

    def finish(self, ticket: Ticket, read: Callable[..., Any] = read_frame) -> int:
        """Read a claimed frame and commit it, or let it go back as the desk would."""
        files = ticket.files
        try:
            frame = read(files, self.fmt, self.source, LIMITS)
        except NotYet:
            self.feed.again(ticket)
            return 0
        except BadFile as error:
            for item in files.slices:
                self._refuse(item.stat.path, item.stat.size, item.stat.mtime_ns, error)
            self.feed.done(files.key)
            return 0
        self.acquired[files.key] = frame.acquired_at
        self.commit(files, frame.files)
        return 1

    def commit(self, files: FrameFiles, refs: tuple[FileRef, ...] = ()) -> None:
        """Put a claimed frame's line into the ledger, and end its way."""
        self.seq += 1
        revision = self.ledger.revision(files.key) + 1
        digests = {ref.path: ref.digest or sha256(b"") for ref in refs}
        self.ledger.add(frame_line(files, revision, self.seq, digests))
        self.committed.append((files.key, revision, files.change))
        self.fresh.append(tuple(dict.fromkeys(item.channel for item in files.fresh)))
        self.feed.done(files.key)

    def times(self) -> list[tuple[str, int, int]]:
        """Well, time point and revision of what was committed, in order."""
        return [(key.well, key.timepoint, revision) for key, revision, _ in self.committed]

    def _refuse(self, path: str, size: int, mtime_ns: int, error: BadFile) -> None:
        self.refused[path] = error.reason
        self.quarantine.add(
            Entry("scope", path, size, mtime_ns, error.reason, str(error), "read", START),
        )
