"""What the page at / shows just now, gathered from the service's parts.

Reads only. However many browsers look, the page is made once a second at most, and a plate's part of it when its
figures are new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cellvigil import __version__, config
from cellvigil.board.alerts import alerts_now
from cellvigil.board.page import MOST_PLATES, page
from cellvigil.board.plate import plate_body
from cellvigil.board.values import Machine, Watched
from cellvigil.markup import Html
from cellvigil.metrics import Metrics
from cellvigil.service.aligner import Aligner
from cellvigil.service.feed import Feed
from cellvigil.service.keeper import Keeper
from cellvigil.service.lastframe import LastFrames, held
from cellvigil.service.notify import Pulse
from cellvigil.service.opening import Kitchen
from cellvigil.service.pause import Pause
from cellvigil.service.tally import Tally
from cellvigil.store.writer import Store
from cellvigil.tally.figures import PlateFigures

_KEPT_S = 1.0  # the page is good for so long


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of the service that the page tells of."""

    settings: config.Config
    store: Store
    metrics: Metrics
    feeds: Sequence[Feed]
    kitchen: Kitchen
    pulse: Pulse
    pause: Pause
    tally: Tally
    keeper: Keeper
    aligner: Aligner


class Showing:
    """Makes the page and its picture. Any thread may ask."""

    def __init__(self, parts: Parts, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._lock = threading.Lock()
        self._frames = LastFrames(parts.store, parts.settings.sources)
        self._made: tuple[float, bytes] | None = None
        self._bodies: dict[int, tuple[PlateFigures, Html]] = {}  # by the figures' id; they are kept, so it stays theirs
        self._zones = {each.name: ZoneInfo(each.timezone or "UTC") for each in parts.settings.sources}

    def page(self) -> tuple[str, bytes]:
        """The page; its type and text."""
        with held(self._lock):
            if self._made is None or self._clock() - self._made[0] >= _KEPT_S:
                self._made = (self._clock(), self._text(datetime.now(UTC)).encode("utf-8", "replace"))
            return "text/html; charset=utf-8", self._made[1]

    def picture(self) -> tuple[str, bytes] | None:
        """The last frame; None where there is none, or its pixels are not there."""
        last = self._frames.last()
        return ("image/jpeg", last[1]) if last and last[1] else None

    def _text(self, now: datetime) -> str:
        snapshot, last = self._parts.tally.snapshot, self._frames.last()
        machine = self._machine(now, snapshot.left_out)
        alerts = alerts_now(snapshot.plates, machine, self._parts.settings.alerts, now)
        shown = {id(plate) for plate in snapshot.plates[:MOST_PLATES]}
        self._bodies = {number: kept for number, kept in self._bodies.items() if number in shown}
        frame, pixels = last or (None, b"")
        return page(snapshot.plates, machine, alerts, frame, now, body=self._body, has_picture=bool(pixels))

    def _body(self, plate: PlateFigures) -> Html:
        kept = self._bodies.get(id(plate))
        if kept is None:
            kept = self._bodies[id(plate)] = (plate, plate_body(plate, self._zones.get(plate.series[0], UTC)))
        return kept[1]

    def _machine(self, now: datetime, left_out: int) -> Machine:
        parts, gauges = self._parts, self._gauges()
        tallied = gauges.get(("cellvigil_tally_timestamp_seconds", ""), 0.0)
        return Machine(
            version=__version__,
            heartbeat_age_s=parts.pulse.age_s,
            device=parts.kitchen.provider,
            degraded=parts.kitchen.is_degraded,
            paused=parts.pause.reason,
            floor_h=parts.keeper.floor_h,
            sources=tuple(self._watched(feed, gauges) for feed in parts.feeds),
            tally_age_s=now.timestamp() - tallied if tallied else 0.0,
            tally_up=gauges.get(("cellvigil_tally_up", ""), 1.0) > 0,
            left_out=left_out,
            to_be_deleted=any(name == "cellvigil_retention_warned_timestamp_seconds" for name, _ in gauges),
        )

    def _gauges(self) -> dict[tuple[str, str], float]:
        """Of what the rules look at and no part tells: by name and source, frames that were refused among them."""
        names = ("tally_timestamp_seconds", "tally_up", "scan_duration_seconds", "plate_map_up", "events_up",
                 "retention_warned_timestamp_seconds", "frames_total")  # fmt: skip
        asked = self._parts.metrics.registry.restricted_registry([f"cellvigil_{name}" for name in names])
        return {
            (sample.name, sample.labels.get("source", "")): sample.value
            for family in asked.collect()
            for sample in family.samples
            if sample.labels.get("outcome", "quarantined") == "quarantined"
        }

    def _watched(self, feed: Feed, gauges: Mapping[tuple[str, str], float]) -> Watched:
        ledger, name = self._parts.store.ledger, feed.source.name
        times = [ledger.last_commit(series) for series in ledger.series() if series[0] == name]
        return Watched(
            name,
            not feed.out_of_sight,
            max((at for at in times if at is not None), default=None),
            feed.source.interval_s,
            feed.backlog,
            feed.unfinished,
            self._zones[name],
            refused=int(gauges.get(("cellvigil_frames_total", name), 0)),
            scan_s=gauges.get(("cellvigil_scan_duration_seconds", name), 0.0),
            plate_map_up=gauges.get(("cellvigil_plate_map_up", name), 1.0) > 0,
            events_up=gauges.get(("cellvigil_events_up", name), 1.0) > 0,
            alignment=self._parts.aligner.text(name),
            fit_failed=self._parts.aligner.has_failed(name),
            drifted=self._parts.aligner.has_drifted(name),
        )
