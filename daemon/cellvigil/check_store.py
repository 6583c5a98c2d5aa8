"""What `cellvigil check` finds out about the store: may it be written, is there room, what would retention delete soon.

Reads the store's journals and its lock; writes nothing. DESIGN.md, "What can go wrong"; `docs/store.md` for a person.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cellvigil import config
from cellvigil.errors import StoreError
from cellvigil.ledger import TIERS
from cellvigil.store import retention
from cellvigil.store.lock import LOCK
from cellvigil.store.reader import read_ledger

_LIMITS = {
    retention.AGE: ("*_days", "raise"),
    retention.SIZE: ("max_gb", "raise"),
    retention.FLOOR: ("free_floor_gb", "lower"),
}
"""Which keys each cause comes from, and how less is deleted."""
OK, WARN, FAIL = "ok", "warn", "fail"


def store_findings(store: config.Store) -> Iterator[tuple[str, str]]:
    """Level ("ok", "warn" or "fail") and text of each finding."""
    nearest = next(folder for folder in (store.path, *store.path.absolute().parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        yield FAIL, f"{nearest} cannot be written by this user"
        return
    if holder := _holder(store.path / LOCK):
        yield FAIL, f"another process (pid {holder}) writes {store.path}: stop it, or give store.path another folder"
    free = shutil.disk_usage(nearest).free
    yield from _room(store, free)
    yield from _contradictions(store.retention)
    yield from _due(store, free)


def _holder(lock: Path) -> str:
    """Who holds the lock; "" if nobody does."""
    if not lock.exists():
        return ""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read(100).decode("ascii", "replace").strip() or "unknown"
    return ""


def _room(store: config.Store, free: float) -> Iterator[tuple[str, str]]:
    floor = store.retention.free_floor_gb
    if free < store.min_free_mb * 1e6:
        what = f"less than store.min_free_mb ({_size(store.min_free_mb * 1e6)}), so nothing would be written"
        yield FAIL, f"{store.path}, {_size(free)} free: {what}; make room on that disk"
    elif floor is not None and free < floor * 1e9:
        what = f"less than store.retention.free_floor_gb ({_size(floor * 1e9)})"
        yield WARN, f"{store.path}, {_size(free)} free: {what}; make room, or the oldest time points will be deleted"
    else:
        yield OK, f"{store.path}, {_size(free)} free"


def _contradictions(rules: config.Retention) -> Iterator[tuple[str, str]]:
    """Limits that do not do what they seem to."""
    whole = rules.counts_days
    for tier in TIERS:
        days = getattr(rules, f"{tier}_days")
        if whole is not None and days is not None and days > whole:
            yield WARN, f"retention: counts_days deletes whole plates after {whole:g} days; {tier}_days is longer"
    for pin in rules.pins:
        if pin.count("/") != 2 and not set(pin) & set("*?["):
            yield WARN, f"retention: pin {pin!r} names no source/experiment/plate and keeps nothing; end it in /*"


def _due(store: config.Store, free: float) -> Iterator[tuple[str, str]]:
    """What would be announced now: the same question that the daemon asks every minute."""
    rules = store.retention
    if not store.path.is_dir() or not _deletes(rules):
        return
    try:
        ledger = read_ledger(store.path)
    except StoreError as error:
        yield FAIL, str(error)
        return
    units = [unit for series in ledger.series() for unit in ledger.units(series)]
    weight = sum(sum(unit.sizes.values()) for unit in units)
    now = retention.Situation(datetime.now(UTC), units, weight, free)
    for why, size in retention.pressing(now, rules).items():
        limit, change = _LIMITS[why]
        stood = f"once a warning has stood {rules.warn_hours:g} hours"
        keep = f"{change} it, or pin what must stay"
        yield WARN, f"retention: {limit} will delete {_size(min(size, weight))} {stood} (docs/store.md); {keep}"


def _deletes(rules: config.Retention) -> bool:
    limits = (rules.max_gb, rules.free_floor_gb, rules.counts_days, *(getattr(rules, f"{tier}_days") for tier in TIERS))
    return any(limit is not None for limit in limits)


def _size(count: float) -> str:
    return f"{count / 1e9:.0f} GB" if count >= 10e9 else f"{count / 1e9:.1f} GB" if count >= 1e9 else _small(count)


def _small(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 10e6 else f"{count / 1e6:.2g} MB"
