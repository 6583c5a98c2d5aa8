"""Keeps the store within its limits: once a minute it weighs the store, announces, and deletes what has been announced.

Runs in a thread of its own, so that slow disk work holds up no commit. Touches the store through `store.dropping` and
`store.gone`, and the announcements in the store's `.retention.jsonl`, which a restart reads back. An error of the disk
is told and tried again at the next look; it never ends the service.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cellvigil import config
from cellvigil.errors import StoreError, StoreFull
from cellvigil.journal import Journal, Line, open_journal
from cellvigil.ledger import TIERS, Unit
from cellvigil.metrics import Metrics, StoreMetrics
from cellvigil.service.beside import beside
from cellvigil.service.log import LOGGER
from cellvigil.store import retention
from cellvigil.store.dropping import drop, drop_orphans
from cellvigil.store.gone import folder_of, remove_hidden
from cellvigil.store.lines import utc
from cellvigil.store.recover import JOURNAL
from cellvigil.store.reserve import give_up_reserve, keep_reserve
from cellvigil.store.retention import Drop, Plan, Situation
from cellvigil.store.writer import Store

ANNOUNCED = ".retention.jsonl"
NAME = "keeper"
"""Of its thread."""

_PACE_S = 60.0
_NAMED = 3  # plates in one line of the log
_PATIENCE_S = 1.5  # at the end, for the unit that is being deleted
_ORPHANS_EVERY = timedelta(hours=1)
_HINT = "to keep it: pin the plate or raise the limit in store.retention, and restart"
_UNSEEN = timedelta(hours=12)
"""Without a look for so long (the service was off, the clock jumped) warnings begin anew: nobody can have seen them."""


@dataclass(frozen=True, slots=True)
class Warned:
    """A deletion that is announced."""

    since: datetime
    limits: Mapping[str, Any]  # `retention.limits_of` when it was


class Keeper:
    """Looks after one store. `look` may be called from any thread, one works at a time."""

    def __init__(self, store: Store, settings: config.Store, metrics: StoreMetrics) -> None:
        self._store = store
        self._settings = settings
        self._rules = settings.retention
        self._metrics = metrics
        self._journal: Journal | None = None
        self._warned: dict[str, Warned] = {}
        self._looked: datetime | None = None  # the last look, also that of an earlier run
        self._begun: list[Drop] = []  # journaled, and not deleted yet
        self._orphans_at: datetime | None = None
        self._failure = ""  # why the last look failed
        for labels in (("plate", retention.AGE), *((tier, why) for tier in TIERS for why in retention.CAUSES)):
            metrics.dropped.labels(*labels)  # from 0 on: an alert on an increase misses a series that begins at 1
        self.failures = metrics.failures
        self.floor_h = math.nan  # hours until the disk's floor, at the last look
        self._one_at_a_time = threading.Lock()

    def look(self, now: datetime, going: Callable[[], bool] = lambda: True) -> None:
        """Weigh, announce, delete; `now` is aware. Stops between units once `going()` is false. Never raises for a disk
        that fails: that is logged, counted and tried again at the next look.
        """
        with self._one_at_a_time:
            try:
                self._look_somehow(now, going)
            except (StoreError, OSError) as error:
                self._journal = None  # opened anew next time: nobody knows what of it is on the disk
                self._metrics.failures.inc()
                level = logging.DEBUG if str(error) == self._failure else logging.WARNING  # told once, tried every time
                LOGGER.log(level, "retention is put off", extra={"why": str(error)})
                self._failure = str(error)
            else:
                self._failure = ""

    def _look_somehow(self, now: datetime, going: Callable[[], bool]) -> None:
        try:
            self._look(now, going)
        except StoreFull:
            if not give_up_reserve(self._store.path):
                raise
            self._look(now, going)
        if self._rules != config.Retention():  # something may have to be deleted
            keep_reserve(self._store.path)

    def _look(self, now: datetime, going: Callable[[], bool]) -> None:
        situation = self._situation(now)
        try:
            pressing = retention.pressing(situation, self._rules, self._warned)
            self._announce(pressing, now)
            plan = retention.plan(situation, self._rules, self._allowed(now))
            self._do(plan, now, going)
        finally:
            self._show(self._situation(now))
        remove_hidden(self._store.path, going)
        if self._orphans_at is None or now - self._orphans_at >= _ORPHANS_EVERY:
            self._orphans_at = now
            if files := drop_orphans(self._store.path, self._rules, now=now):
                LOGGER.info("orphans deleted", extra={"files": files, "days": self._rules.orphans_days})

    def _situation(self, now: datetime) -> Situation:
        ledger = self._store.ledger
        units = [unit for series in ledger.series() for unit in ledger.units(series)]
        figures = os.statvfs(self._store.path)
        weight = sum(sum(unit.sizes.values()) for unit in units) + self._journal_bytes()
        return Situation(now, units, weight, float(figures.f_bavail * figures.f_frsize))

    def _journal_bytes(self) -> int:
        ledger, path = self._store.ledger, self._store.path
        total = 0
        for series in ledger.series():
            with contextlib.suppress(FileNotFoundError):
                total += (folder_of(path, series) / JOURNAL).stat().st_size
        return total

    def _announce(self, pressing: Mapping[str, int], now: datetime) -> None:
        """Begin the warnings that lack, end those whose cause is away; durable before anything relies on it."""
        path = self._store.path / ANNOUNCED
        if self._journal is None:
            self._warned.clear()
            self._looked = self._looked or _date_of(path)
            self._journal, _ = open_journal(path, self._take)
        unseen = self._looked is not None and now - self._looked > _UNSEEN
        fresh = [why for why in pressing if unseen or not self._covered(why, now)]
        over = [why for why in self._warned if why not in pressing]
        lines = [{"kind": "warned", "why": why, "limits": retention.limits_of(self._rules, why)} for why in fresh]
        lines += [{"kind": "cleared", "why": why} for why in over]
        for line in self._journal.append([{**line, "at": utc(now)} for line in lines]) if lines else ():
            self._take(line)
        self._looked = now
        if path.exists():
            os.utime(path, (now.timestamp(), now.timestamp()))
        for why in fresh:
            until = utc((now + timedelta(hours=self._rules.warn_hours)).replace(microsecond=0))
            told = {"why": why, "gb": round(pressing[why] / 1e9, 3), "not_before": until, "hint": _HINT}
            LOGGER.warning("retention will delete", extra=told)
        for why in over:
            LOGGER.info("retention needs to delete no more", extra={"why": why})
        for why in retention.CAUSES:
            self._metrics.due.labels(why).set(pressing.get(why, 0))
            with contextlib.suppress(KeyError):
                self._metrics.warned.remove(why)
            if why in self._warned:
                self._metrics.warned.labels(why).set(self._warned[why].since.timestamp())

    def _take(self, line: Line) -> None:
        if line.get("kind") == "warned":
            self._warned[line["why"]] = Warned(datetime.fromisoformat(line["at"]), line["limits"])
        elif line.get("kind") == "cleared":
            self._warned.pop(line["why"], None)

    def _covered(self, why: str, now: datetime) -> bool:
        warned = self._warned.get(why)  # one of a later date was given by a clock that was wrong
        return warned is not None and warned.since <= now and retention.covers(warned.limits, self._rules, why)

    def _allowed(self, now: datetime) -> set[str]:
        stood = timedelta(hours=self._rules.warn_hours)
        return {why for why, warned in self._warned.items() if now - warned.since >= stood and self._covered(why, now)}

    def _do(self, plan: Plan, now: datetime, going: Callable[[], bool]) -> None:
        for series in plan.plates:
            if not going():
                return
            if not self._store.leave(series, planned=now):
                continue
            self._metrics.dropped.labels("plate", retention.AGE).inc()
            LOGGER.warning("plate deleted", extra={"plate": "/".join(series), "days": self._rules.counts_days})
        done: Counter[str] = Counter()
        plates: set[str] = set()
        freed = 0
        for some in drop(self._store, plan.drops, self._begun, now=now, going=going):
            for one in some:
                done[one.why] += 1
                plates.add("/".join(one.series))
                freed += one.bytes
                for tier in one.tiers:
                    self._metrics.dropped.labels(tier, one.why).inc()
        if done:
            units = ", ".join(f"{count} by {why}" for why, count in done.items())
            LOGGER.info("retention deleted", extra={"units": units, "gb": round(freed / 1e9, 3), "of": _named(plates)})

    def _show(self, situation: Situation) -> None:
        for tier in TIERS:
            self._metrics.bytes.labels(tier).set(_weight(situation.units, tier))
        self._metrics.bytes.labels("journal").set(self._journal_bytes())
        floor = self._rules.free_floor_gb
        floor_bytes = self._settings.min_free_mb * 1e6 if floor is None else floor * 1e9
        self.floor_h = situation.hours_to(floor_bytes)
        self._metrics.floor.set(self.floor_h * 3600)


@contextlib.contextmanager
def kept(
    store: Store, settings: config.Store, metrics: Metrics, *, stopping: threading.Event, left: list[str]
) -> Iterator[Keeper]:
    """Look after the store while the block runs: at once, and every minute. Ends between two units.

    Deletes nothing more once `stopping` is set. Where the disk hangs, the thread is left behind, its name in `left`.
    """
    keeper = Keeper(store, settings, StoreMetrics(metrics.registry))
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                keeper.look(datetime.now(UTC), lambda: not (stop.is_set() or stopping.is_set()))
            except Exception:  # noqa: BLE001 - nobody waits for this thread: it is told, and retention goes on
                keeper.failures.inc()
                LOGGER.error("retention failed", exc_info=True)
            stop.wait(_PACE_S)

    with beside(run, NAME, stop=stop, patience_s=_PATIENCE_S, left=left):
        yield keeper


def _date_of(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _named(plates: set[str]) -> str:
    first = ", ".join(sorted(plates)[:_NAMED])
    return first if len(plates) <= _NAMED else f"{first} and {len(plates) - _NAMED} more"


def _weight(units: Sequence[Unit], tier: str) -> int:
    return sum(unit.sizes.get(tier, 0) for unit in units)
