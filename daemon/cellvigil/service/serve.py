"""Starts the service, keeps it going, and ends it: `run` until a signal, `once` until the folders are quiet.

The only place that opens everything, and that closes everything in the right order: watching stops, the frames inside
are committed, the store shows them and is given up, the door closes.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from cellvigil import config
from cellvigil.errors import StoreFull
from cellvigil.metrics import Metrics
from cellvigil.quarantine import Quarantine
from cellvigil.service import aligner, crashes, keeper, recalling
from cellvigil.service.aligner import Aligner, aligning
from cellvigil.service.designing import Designs
from cellvigil.service.desk import Desk
from cellvigil.service.door import open_door
from cellvigil.service.drift import drift_of
from cellvigil.service.feed import Feed
from cellvigil.service.flow import Flow
from cellvigil.service.folders import check_folders
from cellvigil.service.keeper import Keeper, kept
from cellvigil.service.log import LOGGER, set_up
from cellvigil.service.notify import Pulse, Supervisor
from cellvigil.service.opening import Kitchen, open_bundles, open_told_kitchen, warnings_of
from cellvigil.service.pause import Pause, Stopped
from cellvigil.service.rounds import go_round
from cellvigil.service.showing import Parts
from cellvigil.service.stopping import Stopping, signals
from cellvigil.service.tally import Tally, tallied
from cellvigil.service.work import Work
from cellvigil.sources.registry import format_of
from cellvigil.store.fit import SourcePlan
from cellvigil.store.writer import Store, open_store

_DRAIN_S = 7.0  # from the signal until what is not committed is let go of: it is in the folder at the next start
_QUEUE = "quarantine.jsonl"
_OUTCOMES = ("counted", "excluded", "revised", "attached", "quarantined", "stalled")


@dataclass(frozen=True, slots=True, eq=False)
class _House:
    """Everything that is open while the service runs."""

    settings: config.Config
    kitchen: Kitchen
    store: Store
    quarantine: Quarantine
    metrics: Metrics
    feeds: tuple[Feed, ...]
    keeper: Keeper
    aligner: Aligner
    pause: Pause
    pulse: Pulse
    working: crashes.Working
    stopping: Stopping
    left: list[str]  # names of the threads that did not end in time


def run(settings: config.Config) -> list[str]:
    """Serve until SIGTERM or SIGINT; then commit what is past the encoder and return, within ten seconds.

    Returns the names of threads that hang and were left behind. Raises UsageError (a folder, a port), BundleError,
    DeviceError and StoreError at the start, and StoreError or DeviceError if the service cannot go on.
    """
    supervisor = Supervisor()
    with signals() as stopping, contextlib.suppress(Stopped):
        with (
            _house(settings, stopping, supervisor, patient=True) as house,
            _tally(house) as tally,
            _aligning(house),
            _door(house, tally),
        ):
            stopping.starts = False
            supervisor.tell(READY="1")
            _work(house, until_quiet=False)
            supervisor.tell(STOPPING="1")
        return house.left
    return []


def once(settings: config.Config, *, recall: bool = False) -> dict[str, int]:
    """Process what is in the folders, until nothing more is to be done; returns how many frames came to which end.

    `recall`: then call every stored frame again by the index that is in force for its source, the aligned one where
    there is one, unless that has called it already; the old calls stay. Raises as `run` does, but opens no port.
    """
    with (
        signals() as stopping,
        contextlib.suppress(Stopped),
        _house(settings, stopping, Supervisor({}), patient=False) as house,
    ):
        stopping.starts = False
        _work(house, until_quiet=True)
        house.keeper.look(datetime.now(UTC))
        designs = Designs(settings, house.store, house.metrics)
        designs.follow(datetime.now(UTC))
        drift_of(settings, house.store).look(designs.events, datetime.now(UTC))
        with contextlib.closing(house.aligner):
            house.aligner.settle(lambda: not stopping.stop.is_set())
        recalled = _recall_all(house) if recall else {}
        return {**_summary(house), **recalled}
    return dict.fromkeys(_OUTCOMES, 0)


def _recall_all(house: _House) -> dict[str, int]:
    """Call what is stored again; returns how many frames came to which end. Raises StoreError (StoreFull)."""
    recipes, stop = house.kitchen.recipes, house.stopping.stop
    return recalling.recall_all(house.store, recipes, lambda: not stop.is_set())


def _summary(house: _House) -> dict[str, int]:
    outcomes = dict.fromkeys(_OUTCOMES, 0)
    for family in house.metrics.frames.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                outcomes[sample.labels["outcome"]] += int(sample.value)
    return {**outcomes, "files_waiting": sum(feed.unfinished for feed in house.feeds)}


@contextlib.contextmanager
def _house(settings: config.Config, stopping: Stopping, supervisor: Supervisor, *, patient: bool) -> Iterator[_House]:
    """Open everything; close it again whatever happens. A signal meanwhile raises Stopped.

    `patient`: a folder that frames came from before may be away.
    """
    set_up(settings.log)
    stopping.starts = True
    bundles = open_bundles(settings)
    for text in warnings_of(settings, bundles):
        LOGGER.warning(text)
    metrics = Metrics(CollectorRegistry())
    kitchen = open_told_kitchen(settings, bundles, metrics, wait=stopping.wait)
    LOGGER.info("encoders loaded", extra={"device": kitchen.provider, "note": kitchen.device_note or "-"})
    left: list[str] = []
    store = _open_store(settings)
    try:
        check_folders(settings.sources, store.ledger, patient=patient)
        quarantine = _open_quarantine(settings)
        metrics.store_free.set_function(lambda: _free_bytes(settings))
        aligned_by = Aligner(settings, store, kitchen, metrics)
        needed = {name: recipe.index.image_rule.channels for name, recipe in kitchen.recipes.items()}
        feeds = tuple(_feed(s, settings, store, quarantine, metrics, needed=needed[s.name]) for s in settings.sources)
        pause = Pause(metrics.paused)

        def status() -> str:
            return f"paused: {pause.reason}" if pause.reason else f"working on {kitchen.provider}"

        pulse = Pulse(metrics.heartbeat, supervisor, status=status)
        pulse.beat()
        with (
            crashes.reported(settings.state_dir),
            contextlib.closing(crashes.Working(settings.state_dir)) as working,
            kept(store, settings.store, metrics, stopping=stopping.stop, left=left) as kept_by,
        ):
            yield _House(
                settings,
                kitchen,
                store,
                quarantine,
                metrics,
                feeds,
                kept_by,
                aligned_by,
                pause,
                pulse,
                working,
                stopping,
                left,
            )
    finally:
        for model in kitchen.models:
            model.close()
        _close(store, left)


def _open_store(settings: config.Config) -> Store:
    store = open_store(
        settings.store.path,
        embeddings=settings.store.embeddings,
        plans=_plans(settings),
        min_free_mb=settings.store.min_free_mb,
    )
    for recovery in store.recovered:
        done = "a copied or renamed plate is passed over" if recovery.strange else "a plate was mended"
        LOGGER.warning(done, extra={"what": recovery})
    return store


def _open_quarantine(settings: config.Config) -> Quarantine:
    quarantine = Quarantine(settings.state_dir / _QUEUE, config=settings.sha256)
    if quarantine.skipped:
        LOGGER.warning("quarantine list: bad lines skipped", extra={"lines": quarantine.skipped})
    with contextlib.suppress(StoreFull):  # it is judged again when there is room
        crashes.judge(settings.state_dir, quarantine, datetime.now(UTC))
    return quarantine


def _feed(
    source: config.Source,
    settings: config.Config,
    store: Store,
    quarantine: Quarantine,
    metrics: Metrics,
    *,
    needed: tuple[str, ...],
) -> Feed:
    """A source's feed, and its metrics as they stand before anything comes; `needed` as `Feed` has it."""
    for outcome in _OUTCOMES:
        metrics.frames.labels(source.name, outcome)  # from 0 on: else the first one is no increase
    if (last := _last_commit(store, source.name)) is not None:
        metrics.last_frame.labels(source.name).set(last.timestamp())
    if source.interval_s is not None:
        metrics.interval.labels(source.name).set(source.interval_s)
    return Feed(source, format_of(source, settings.limits), store.ledger, quarantine, needed=needed)


def _close(store: Store, left: list[str]) -> None:
    """Show what is committed, and give the store up, unless a thread that hangs may still hold it."""
    if {"finish", keeper.NAME, aligner.NAME} & set(left):
        LOGGER.error("the store is left as it is: its thread hangs", extra={"what": "the next start shows the rest"})
        return
    try:
        store.close()
    except StoreFull as error:
        LOGGER.warning("what is committed is shown at the next start", extra={"why": str(error)})
    LOGGER.info("store closed")


def _plans(settings: config.Config) -> dict[str, SourcePlan]:
    """What the store should lay its arrays out for, by source."""
    return {
        source.name: SourcePlan(
            tuple(dict.fromkeys((*source.channels.awaited, *source.channels.optional))), source.interval_s
        )
        for source in settings.sources
    }


def _last_commit(store: Store, source: str) -> datetime | None:
    """When a frame of a source was last committed, in this run or an earlier one."""
    times = (store.ledger.last_commit(series) for series in store.ledger.series() if series[0] == source)
    return max((at for at in times if at is not None), default=None)


def _free_bytes(settings: config.Config) -> float:
    try:
        figures = os.statvfs(settings.store.path)
    except OSError:
        return math.nan  # a disk that fails must not cost a scrape the other figures
    return float(figures.f_bavail * figures.f_frsize)


def _tally(house: _House) -> contextlib.AbstractContextManager[Tally]:
    return tallied(house.store, house.settings, house.metrics, stopping=house.stopping.stop, left=house.left)


def _aligning(house: _House) -> contextlib.AbstractContextManager[Aligner]:
    return aligning(house.aligner, stopping=house.stopping.stop, left=house.left)


def _door(house: _House, tally: Tally) -> contextlib.AbstractContextManager[None]:
    parts = Parts(
        settings=house.settings,
        store=house.store,
        metrics=house.metrics,
        feeds=house.feeds,
        kitchen=house.kitchen,
        pulse=house.pulse,
        pause=house.pause,
        tally=tally,
        keeper=house.keeper,
        aligner=house.aligner,
    )
    return open_door(parts)


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
        pause=house.pause,
        working=house.working,
        wake=house.stopping.wake.set,
    )
    work = Work(settings.limits, house.store, house.metrics, desk.ended, house.pause, house.pulse, house.working)
    wake = house.stopping.wake
    workers = max(1, min(4, (os.cpu_count() or 2) // 2))
    flow = Flow(work.stages(), workers=workers, depth=workers + 4, batch=settings.encoder.batch, on_room=wake.set)
    try:
        stop = house.stopping.stop
        go_round(house.feeds, desk, flow, house.metrics, stop=stop, wake=wake, until_quiet=until_quiet)
    finally:
        house.left.extend(flow.leave((house.stopping.at or time.monotonic()) + _DRAIN_S))
        house.left.extend(desk.close())
    if flow.failure is not None:
        raise flow.failure
    LOGGER.info("drained", extra={"frames_left_in_folders": sum(feed.backlog for feed in house.feeds)})
