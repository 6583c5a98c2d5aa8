"""Does what `retention` planned: journals it, then deletes chunks by their known keys. Touches chunks and `.orphans`.

Crash argument: the "dropped" lines are fsynced before the first chunk goes. A crash in between leaves chunks that the
journal calls dropped; opening removes them. No folder is listed: a unit's keys follow from the plate's fields. What is
deleted reads as the fill value.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path

from cellvigil.config import Retention
from cellvigil.errors import store_failure
from cellvigil.store import names
from cellvigil.store.gone import age_of
from cellvigil.store.lines import utc
from cellvigil.store.recover import ORPHANS
from cellvigil.store.retention import Drop, is_pinned
from cellvigil.store.writer import Store

_TOGETHER = 64
"""Units journaled with one fsync."""


def drop(
    store: Store, drops: Sequence[Drop], begun: list[Drop], *, now: datetime, going: Callable[[], bool]
) -> Iterator[list[Drop]]:
    """Delete units, some at a time; yields those whose chunks are away. Stops early once `going()` is false.

    `begun` holds the units that are journaled and not deleted yet: it is worked off first, and is the caller's to keep
    for another try; the next opening would delete them too. The store's lock is held for the journal lines only. Raises
    StoreError.
    """
    yield _deleted(store, begun, going)
    for series, mine in groupby(sorted(drops, key=lambda one: one.series), key=lambda one: one.series):
        waiting = list(mine)
        while waiting and going():
            some, waiting = waiting[:_TOGETHER], waiting[_TOGETHER:]
            with store.alone():
                some = [one for one in some if not _has_grown(store, one, now)]
                if some:
                    store.journal_lines(series, [_line(one, now) for one in some])
            begun.extend(some)
            yield _deleted(store, begun, going)


def _has_grown(store: Store, one: Drop, planned: datetime) -> bool:
    """Whether a frame came to a unit since its going was planned: then it is young again."""
    last = store.ledger.last_commit(one.series, one.t)
    return last is None or last > planned


def _deleted(store: Store, begun: list[Drop], going: Callable[[], bool]) -> list[Drop]:
    done = []
    while begun and going():
        one = begun[0]
        unlink_all(store.chunk_paths(one.series, one.t, one.tiers))
        done.append(begun.pop(0))
    return done


def unlink_all(paths: Iterable[Path]) -> None:
    """Delete files; one that is not there is as good. Raises StoreError."""
    for path in paths:
        try:
            os.unlink(path)  # noqa: PTH108 - half the time of Path.unlink, and there are hundreds of thousands
        except FileNotFoundError:
            continue
        except OSError as error:
            raise store_failure("a chunk cannot be deleted", error, where=path) from error


def drop_orphans(store: Path, rules: Retention, *, now: datetime) -> int:
    """Delete what was moved aside `orphans_days` ago, but for pinned plates; returns how many files.

    Raises StoreError.
    """
    if rules.orphans_days is None:
        return 0
    top, done = store / ORPHANS, 0
    for parent, _, files in os.walk(top, topdown=False):
        folder = Path(parent)
        if _pinned(folder.relative_to(top), rules):
            continue
        try:
            old = [folder / name for name in files if age_of(folder / name, now) >= rules.orphans_days]
        except FileNotFoundError:
            continue  # somebody tidied up meanwhile
        unlink_all(old)
        done += len(old)
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    return done


def _line(one: Drop, now: datetime) -> dict[str, object]:
    return {
        "kind": "dropped",
        "series": list(one.series),
        "t": one.t,
        "tiers": list(one.tiers),
        "why": one.why,
        "committed_at": utc(now),
    }


def _pinned(inside: Path, rules: Retention) -> bool:
    """Whether a folder under `.orphans` belongs to a pinned plate."""
    if len(inside.parts) < 3:
        return False
    source, experiment, plate = (_named(part.removesuffix(".zarr")) for part in inside.parts[:3])
    return is_pinned((source, experiment, plate), rules)


def _named(segment: str) -> str:
    name = names.original(segment)
    return segment if name is None else name  # too long for a file name: its head is all there is
