"""Starts the service, keeps it going, and ends it: `run` until a signal, `once` until the folders are quiet.

The only place that opens everything, and that closes everything in the right order: watching stops, the frames inside
are committed, the store shows them and is given up, the door closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from prometheus_client import CollectorRegistry

from cellvigil import config, page, watch
from cellvigil.data import Embeddings
from cellvigil.errors import UsageError
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared
from cellvigil.quarantine import Quarantine
from cellvigil.service import gauges
from cellvigil.service.desk import Desk
from cellvigil.service.feed import Feed
from cellvigil.service.flow import Flow
from cellvigil.service.log import LOGGER, set_up
from cellvigil.service.opening import Kitchen, open_bundles, open_kitchen, warnings_of
from cellvigil.service.work import Job, Work
from cellvigil.sources.registry import format_of
from cellvigil.store.fit import SourcePlan
from cellvigil.store.writer import Store, open_store

_BEAT_S = 15.0
_STALE_S = 600.0  # a heartbeat older than this is no health: a large frame on a CPU takes minutes
_HASTE = 0.25  # an event may bring the next scan forward to this share of the interval
_QUEUE = "quarantine.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class _House:
    """Everything that is open while the service runs."""

    settings: config.Config
    kitchen: Kitchen
    store: Store
    quarantine: Quarantine
    metrics: Metrics
    feeds: tuple[Feed, ...]
    stop: threading.Event
    wake: threading.Event


def run(settings: config.Config) -> None:
    """Serve until SIGTERM or SIGINT; then commit what is inside and return.

    Raises UsageError (a folder, a port), BundleError, DeviceError and StoreError at the start, and StoreError or
    DeviceError if the service cannot go on.
    """
    with _house(settings) as house, _door(house):
        _work(house, until_quiet=False)


def once(settings: config.Config) -> dict[str, int]:
    """Process what is in the folders, until nothing more is to be done; returns how many frames came to which end.

    Raises as `run` does, but opens no port.
    """
    with _house(settings) as house:
        _work(house, until_quiet=True)
        return _summary(house)


def _summary(house: _House) -> dict[str, int]:
    outcomes = dict.fromkeys(("counted", "excluded", "revised", "quarantined", "stalled"), 0)
    for family in house.metrics.frames.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                outcomes[sample.labels["outcome"]] += int(sample.value)
    return {**outcomes, "files_waiting": sum(feed.unfinished for feed in house.feeds)}


@contextlib.contextmanager
def _house(settings: config.Config) -> Iterator[_House]:
    """Open everything; close it again whatever happens."""
    set_up(settings.log)
    for source in settings.sources:
        _check_folder(source)
    bundles = open_bundles(settings)
    for text in warnings_of(settings, bundles):
        LOGGER.warning(text)
    kitchen = open_kitchen(settings, bundles)
    LOGGER.info("encoders loaded", extra={"device": kitchen.provider, "note": kitchen.device_note or "-"})
    store = open_store(settings.store.path, embeddings=settings.store.embeddings, plans=_plans(settings))
    try:
        for recovery in store.recovered:
            LOGGER.warning("a plate was mended", extra={"what": recovery})
        quarantine = Quarantine(settings.state_dir / _QUEUE, config=settings.sha256)
        if quarantine.skipped:
            LOGGER.warning("quarantine list: bad lines skipped", extra={"lines": quarantine.skipped})
        metrics = Metrics(CollectorRegistry())
        metrics.device.labels(kitchen.provider).set(1)
        metrics.heartbeat.set_to_current_time()
        metrics.store_free.set_function(lambda: _free_bytes(settings))
        metrics.watch_wells(lambda: gauges.wells(store.ledger, settings, datetime.now(UTC)))
        feeds = []
        for source in settings.sources:
            feeds.append(Feed(source, format_of(source, settings.limits), store.ledger, quarantine))
            if (last := _last_commit(store, source.name)) is not None:
                metrics.last_frame.labels(source.name).set(last.timestamp())
            if source.interval_s is not None:
                metrics.interval.labels(source.name).set(source.interval_s)
        with _signals() as (stop, wake):
            yield _House(settings, kitchen, store, quarantine, metrics, tuple(feeds), stop, wake)
    finally:
        store.close()
        LOGGER.info("store closed")


def _plans(settings: config.Config) -> dict[str, SourcePlan]:
    """What the store should lay its arrays out for, by source."""
    return {
        source.name: SourcePlan(
            tuple(dict.fromkeys((*source.channels.awaited, *source.channels.optional))), source.interval_s
        )
        for source in settings.sources
    }


def _check_folder(source: config.Source) -> None:
    if not source.path.is_dir():
        raise UsageError(
            f"the folder of source {source.name} is not there",
            where=source.path,
            hint="mount the share, or mend sources[].path",
        )


def _last_commit(store: Store, source: str) -> datetime | None:
    """When a frame of a source was last committed, in this run or an earlier one."""
    mine = (series for series in store.ledger.series() if series[0] == source)
    return max((frame.committed_at for series in mine for frame in store.ledger.frames(series)), default=None)


def _free_bytes(settings: config.Config) -> float:
    figures = os.statvfs(settings.store.path)
    return float(figures.f_bavail * figures.f_frsize)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[threading.Event, threading.Event]]:
    """(stop, wake): SIGTERM and SIGINT set both; the earlier handlers come back afterwards."""
    stop, wake = threading.Event(), threading.Event()

    def told(number: int, _: FrameType | None) -> None:
        stop.set()  # first of all: writing the log may fail inside a handler
        wake.set()
        LOGGER.info("stopping", extra={"signal": signal.Signals(number).name})

    if threading.current_thread() is not threading.main_thread():
        yield stop, wake  # only the main thread may set handlers; whoever runs us in another one stops us himself
        return
    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop, wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _door(house: _House) -> Iterator[None]:
    """/metrics and /healthz, open while the block runs."""
    listen = house.settings.metrics.listen

    def health() -> tuple[bool, Mapping[str, Any]]:
        beat = house.metrics.registry.get_sample_value("cellvigil_heartbeat_timestamp_seconds") or 0.0
        age = time.time() - beat
        backlog = sum(feed.backlog for feed in house.feeds)
        figures = {"heartbeat_age_s": round(age, 1), "backlog_frames": backlog, "device": house.kitchen.provider}
        return age < _STALE_S, figures

    app = page.application(house.metrics.registry, health)
    with page.served(app, listen=listen, port=house.settings.metrics.port) as port:
        LOGGER.info(f"serving http://{listen}:{port}/metrics")
        yield


def _work(house: _House, *, until_quiet: bool) -> None:
    """The main loop, and the drain behind it."""
    settings = house.settings
    desk = Desk(
        house.feeds,
        recipes=house.kitchen.recipes,
        limits=settings.limits,
        store=house.store,
        quarantine=house.quarantine,
        metrics=house.metrics,
        wake=house.wake.set,
    )
    work = Work(settings.limits, house.store, house.metrics, desk.ended)
    workers = max(1, min(4, (os.cpu_count() or 2) // 2))
    flow = Flow(work.stages(), workers=workers, depth=workers + 4, batch=settings.encoder.batch, on_room=house.wake.set)
    drain = False
    try:
        with contextlib.ExitStack() as listening:
            hinted = {feed: threading.Event() for feed in house.feeds}
            for feed, hint in hinted.items():
                listening.enter_context(watch.hints(feed.source.path, _waker(hint, house.wake)))
            _loop(house, desk, flow, hinted, until_quiet=until_quiet)
        drain = flow.failure is None
    finally:
        flow.close(drain=drain)
        desk.take_back()
    if flow.failure is not None:
        raise flow.failure
    LOGGER.info("drained", extra={"frames_left_in_folders": sum(feed.backlog for feed in house.feeds)})


def _loop(
    house: _House,
    desk: Desk,
    flow: Flow[Job, Prepared, Embeddings],
    hinted: Mapping[Feed, threading.Event],
    *,
    until_quiet: bool,
) -> None:
    due = dict.fromkeys(house.feeds, 0.0)
    last = dict.fromkeys(house.feeds, -1e9)
    beat_at = time.monotonic() + _BEAT_S
    while not house.stop.is_set() and flow.failure is None:
        house.wake.clear()
        for feed in house.feeds:
            if hinted[feed].is_set():
                due[feed] = min(due[feed], last[feed] + _HASTE * feed.source.scan_interval_s)
            if (now := time.monotonic()) >= due[feed]:
                hinted[feed].clear()
                desk.look(feed, now)
                last[feed] = now
                due[feed] = time.monotonic() + feed.source.scan_interval_s
        desk.take_back()
        desk.hand_out(flow, time.monotonic())
        if time.monotonic() >= beat_at:
            flow.beat()
            beat_at = time.monotonic() + _BEAT_S
        if until_quiet and not flow.inside and all(feed.quiet for feed in house.feeds):
            changes = [feed.last_call() for feed in house.feeds]
            if not any(changes):
                return
        house.wake.wait(max(0.0, min(*due.values(), beat_at) - time.monotonic()))


def _waker(hint: threading.Event, wake: threading.Event) -> Any:
    def told() -> None:
        hint.set()
        wake.set()

    return told
