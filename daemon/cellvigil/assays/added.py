"""The events that people add by command: `.events.jsonl` in the store's folder, sealed lines, nothing is ever erased.

Only commands write it, one at a time under a lock of their own; a running service reads it and never writes, so that
a command neither waits for the service nor writes into what it has open. An event that is taken back is a line, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.assays.wells import wells_of
from cellvigil.errors import StoreError, store_failure
from cellvigil.events import Event, EventRow
from cellvigil.journal import Line, fold, open_journal

FILE = ".events.jsonl"
"""The journal's name in the store's folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it was added."""

    source: str  # the configured source's name
    at: datetime  # aware, UTC
    kind: str  # one of events.KINDS
    wells: str = ""  # as written, "B1-B6"; "" = the whole plate
    experiment: str = ""  # * and ? match; "" = every one of the source
    plate: str = ""  # the same
    note: str = ""
    added_at: datetime | None = None  # aware, UTC; `add_event` fills it in
    id: int = 0  # what `remove_event` knows it by; `add_event` fills it in
    removed_at: datetime | None = None  # when it was taken back; None = it stands

    @property
    def row(self) -> EventRow:
        """The event, its wells named one by one, and the plates that it is of."""
        return EventRow(Event(self.at, self.kind, wells_of(self.wells), self.note), self.experiment, self.plate)


def read_added(store: Path) -> list[Entry]:
    """Every event that was ever added, in that order, those taken back too; a bad line is passed over.

    Raises StoreError if the journal is there and cannot be read.
    """
    entries: dict[int, Entry] = {}
    fold(store / FILE, lambda line: _take(entries, line))
    return list(entries.values())


def add_event(store: Path, entry: Entry, now: datetime) -> Entry:
    """Add an event; it is durable when this returns. Raises StoreError (StoreFull)."""
    line = {
        "kind": "event",
        "source": entry.source,
        "experiment": entry.experiment,
        "plate": entry.plate,
        "event": entry.kind,
        "at": _utc(entry.at),
        "wells": entry.wells,
        "note": entry.note,
        "added_at": _utc(now),
    }
    with _alone(store):
        journal, _ = open_journal(store / FILE, lambda _: None)
        [written] = journal.append([line])
    return _entry(written)


def remove_event(store: Path, number: int, now: datetime) -> Entry | None:
    """Take an event back; returns it, None if there is none of that number. One taken back before stays as it was.

    Raises StoreError (StoreFull).
    """
    entries: dict[int, Entry] = {}
    with _alone(store):
        journal, _ = open_journal(store / FILE, lambda line: _take(entries, line))
        if number in entries and entries[number].removed_at is None:
            for line in journal.append([{"kind": "removed", "id": number, "at": _utc(now)}]):
                _take(entries, line)
    return entries.get(number)


def _take(entries: dict[int, Entry], line: Line) -> None:
    if line.get("kind") == "event":
        entries[line["seq"]] = _entry(line)
    elif line.get("kind") == "removed" and line["id"] in entries:
        entries[line["id"]] = replace(entries[line["id"]], removed_at=datetime.fromisoformat(line["at"]))


def _entry(line: Mapping[str, Any]) -> Entry:
    return Entry(
        source=line["source"],
        at=datetime.fromisoformat(line["at"]),
        kind=line["event"],
        wells=line["wells"],
        experiment=line["experiment"],
        plate=line["plate"],
        note=line["note"],
        added_at=datetime.fromisoformat(line["added_at"]),
        id=line["seq"],
    )


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


@contextlib.contextmanager
def _alone(store: Path) -> Iterator[None]:
    """One command at a time. Raises StoreError."""
    path = store / f"{FILE}.lock"
    try:
        store.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise store_failure("the events cannot be written", error, where=store) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        os.close(descriptor)
        hint = "keep the store on a local disk"
        raise StoreError(f"the events cannot be locked: {error.strerror}", where=path, hint=hint) from error
    try:
        yield
    finally:
        os.close(descriptor)
