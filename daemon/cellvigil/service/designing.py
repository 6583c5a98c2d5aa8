"""Plate maps and events taken up while the service runs: logged, shown as metrics, and written into the record.

What a person edits in a spreadsheet must never stop the service, and what a plate's arms were must never be lost with
the spreadsheet: whenever either changes, the plate's journal gets a line of kind "design".
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cellvigil import config
from cellvigil.assays.plans import EVENTS, PLATE_MAP, Plans
from cellvigil.errors import StoreError
from cellvigil.events import Event
from cellvigil.ledger import Design, Series
from cellvigil.metrics import Metrics
from cellvigil.platemap import PlatePlan
from cellvigil.service.log import LOGGER
from cellvigil.store.writer import Store

_ENDED = timedelta(days=1)  # without a frame for so long
_NAMES = {PLATE_MAP: "plate map", EVENTS: "events"}


class Designs:
    """The designs of all plates in the store. One thread calls `follow`; any may ask."""

    def __init__(self, settings: config.Config, store: Store, metrics: Metrics) -> None:
        self._plans = Plans(settings, store.ledger.design)
        self._store = store
        self._sources = {source.name for source in settings.sources}
        self._up = {PLATE_MAP: metrics.plate_map_up, EVENTS: metrics.events_up}
        self._told: dict[tuple[str, str], str] = {}
        self._put_off: dict[Series, str] = {}  # what could not be recorded, and why
        self._last: dict[Series, str] = {}  # digest of what each plate was computed with
        self._ended: set[Series] = set()

    def follow(self, now: datetime) -> set[Series]:
        """Take up what changed, and record it; returns the plates whose design is new since the last call.

        `now`: aware, UTC. Never raises for a file or a disk: what could not be recorded is by a later call.
        """
        self._plans.refresh()
        self._tell()
        new = set()
        for series in self._store.ledger.series():
            if series[0] not in self._sources:
                continue
            self._see_whether_ended(series, now)
            design = self._plans.design(series, ended=series in self._ended)
            if self._last.get(series) != design.sha256:
                self._last[series] = design.sha256
                new.add(series)
            self._record(series, design, now)
        return new

    def of(self, series: Series) -> PlatePlan:
        """The plate map of one plate."""
        return self._plans.design(series, ended=series in self._ended).plan

    def events(self, series: Series) -> tuple[Event, ...]:
        """The events of one plate, in order of time."""
        return self._plans.design(series, ended=series in self._ended).events

    def _see_whether_ended(self, series: Series, now: datetime) -> None:
        last = self._store.ledger.last_commit(series)
        if last is not None and now - last > _ENDED:
            self._ended.add(series)
        else:
            self._ended.discard(series)

    def _record(self, series: Series, design: Design, now: datetime) -> None:
        known = self._store.ledger.design(series)
        if (known or Design()).sha256 == design.sha256 or self._store.ledger.last_commit(series) is None:
            return  # without a frame there is nothing to explain yet
        told = {"series": "/".join(series), "wells": len(design.plan.wells), "events": len(design.events)}
        try:
            with self._store.alone():
                if self._store.ledger.last_commit(series) is None:
                    return  # retention has just deleted the plate
                self._store.journal_lines(series, [design.line(series, now)])
        except StoreError as error:
            if self._put_off.get(series) != error.what:
                LOGGER.error("the design is not recorded yet", extra={**told, "why": str(error)})
            self._put_off[series] = error.what
        else:
            self._put_off.pop(series, None)
            LOGGER.info("design recorded", extra=told)

    def _tell(self) -> None:
        """Log what became wrong and what is well again, once each; set the metrics."""
        troubles = self._plans.troubles()
        for key in sorted({*troubles, *self._told}):
            (source, what), trouble = key, troubles.get(key, "")
            self._up[what].labels(source).set(0 if trouble else 1)
            if trouble and trouble != self._told.get(key):
                use = "the last good one stands" if self._plans.stands_in(source, what) else "what is recorded stands"
                LOGGER.error(f"the {_NAMES[what]} cannot be used; {use}", extra={"source": source, "why": trouble})
            elif not trouble and self._told.get(key):
                LOGGER.info(f"the {_NAMES[what]} can be used again", extra={"source": source})
        self._told = troubles
