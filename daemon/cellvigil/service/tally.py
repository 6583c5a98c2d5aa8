"""Keeps the figures of all plates up to date while the service runs: what a scrape and the page show.

A thread of its own folds what changed in the ledger into sheets, has `response` make of them what it can, and leaves
one frozen snapshot; a scrape computes nothing. It takes a twentieth of one core at most while a look takes up to 1.5 s,
as with 384 wells; of larger plates a look each half minute is worth more.
An error of one plate costs only that plate's news: the last good figures stand, and it is tried again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cellvigil import config
from cellvigil.errors import CellvigilError
from cellvigil.ledger import Design, Ledger, Series
from cellvigil.metrics import Metrics, TallyMetrics
from cellvigil.metrics.exposition import NOTHING, Part, part
from cellvigil.metrics.rendering import scrape_lines, scrape_text
from cellvigil.response.values import Bools
from cellvigil.service.beside import beside
from cellvigil.service.designing import Designs
from cellvigil.service.drift import drift_of
from cellvigil.service.log import LOGGER
from cellvigil.store.writer import Store
from cellvigil.tally.blocks import blocks, shown_wells
from cellvigil.tally.figures import Limits, PlateFigures, figures_of, index_of, is_kept
from cellvigil.tally.sheet import Index, Sheet

NAME = "tally"
"""Of its thread."""

_PIECE = 256  # values folded at once
_POLL_S = 0.2  # how soon a commit is seen
_PACE_S = 1.0  # between two looks, at least
_LONGEST_S = 5.0  # and at most: time points time out, plate maps are edited
_LEISURE = 20.0  # a look that took a second is followed by twenty without one ...
_MOST_LEISURE_S = 30.0  # ... but no more than this
_SHIFTS_S = 0.5  # of a look are for fields of plates that came back; the rest of them is done by the next ones
_PATIENCE_S = 1.5  # at the end, for the look that is going on
_RUNNING = timedelta(days=1)  # a plate whose last frame is older stands behind
_FIRST_S = 60.0  # the door waits so long for the first look, then opens without it


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All figures, as of one moment."""

    at: datetime  # aware, UTC: what was committed before then is in it
    plates: tuple[PlateFigures, ...] = ()  # of `_shown_series`; those left out for want of room are not here
    scrape: Part = NOTHING  # the same as text
    left_out: int = 0  # wells beyond metrics.max_wells


@dataclass(slots=True, eq=False)
class _Plate:
    """What is kept of one plate between two looks."""

    sheet: Sheet | None = None  # None = to be laid out anew; the last figures stand meanwhile
    changed: list[tuple[str, int]] = field(default_factory=list)  # places to be folded into the sheet
    settled: Bools | None = None  # at the last figures; None = they are to be made anew
    figures: PlateFigures | None = None
    wells: int = 0  # that have a value
    lines: dict[int, dict[str, str]] = field(default_factory=dict)  # by the most wells that show

    def text(self, most: int) -> dict[str, str]:
        """Its lines of a scrape, with no more than `most` wells."""
        if self.figures is None:
            return {}
        most = min(most, self.wells)
        if most not in self.lines:
            self.lines = {most: scrape_lines(blocks(self.figures, most))}
        return self.lines[most]


class Tally:
    """The figures of one store. `look` is for one thread; `snapshot` may be read by any."""

    def __init__(self, store: Store, settings: config.Config, metrics: Metrics) -> None:
        self._ledger: Ledger = store.ledger
        self._settings = settings
        self._sources = {source.name: Limits.of(settings, source) for source in settings.sources}
        self._designs = Designs(settings, store, metrics)
        self._drift = drift_of(settings, store)
        self._metrics = TallyMetrics(metrics.registry)
        self._metrics.thresholds(settings.alerts.model_dump())
        self._seen = 0
        self._plates: dict[Series, _Plate] = {}
        self._troubles: dict[str, str] = {}  # what failed at the last look, and why
        self._shown: list[tuple[int, int]] = []  # figures (by id) and wells of each plate in the snapshot's text
        self.snapshot = Snapshot(datetime.fromtimestamp(0, UTC))

    @property
    def is_behind(self) -> bool:
        """Whether something was committed since the last look. Cheap."""
        return self._ledger.changed(self._seen)[0] != self._seen

    def rest(self, now: datetime) -> None:
        """Nothing is to be done: the snapshot stands, and is up to date unless something fails."""
        if not self._troubles:
            self._metrics.timestamp.set(now.timestamp())

    def look(self, now: datetime) -> None:
        """Bring the snapshot up to date; `now` is aware, UTC. Never raises: what fails is told, and tried again."""
        began = time.perf_counter()
        troubles: dict[str, str] = {}
        with self._guarded("designs", troubles):
            for series in self._designs.follow(now):
                if series in self._plates:
                    self._plates[series].settled = None
        with self._guarded("shifts", troubles):
            until = time.perf_counter() + _SHIFTS_S
            self._drift.look(self._designs.events, now, lambda: time.perf_counter() < until)
        with self._guarded("the ledger", troubles):
            self._note_changes()
            shown = self._shown_series(now)
            self._plates = {series: self._plates.get(series) or _Plate() for series in shown}
            for series in shown:
                with self._guarded("/".join(series), troubles):
                    self._renew(series, self._plates[series], now)
            self.snapshot = self._snapshot(now)
        self._troubles = troubles
        self._metrics.up.set(0 if troubles else 1)
        self._metrics.duration.set(time.perf_counter() - began)
        self._metrics.left_out.set(self.snapshot.left_out)
        self.rest(now)

    @contextlib.contextmanager
    def _guarded(self, what: str, troubles: dict[str, str]) -> Iterator[None]:
        """One thing that fails costs no other; told once, tried at every look."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread, and recording goes on without it
            troubles[what] = f"{type(error).__name__}: {error}"
            if self._troubles.get(what) != troubles[what]:
                known = isinstance(error, CellvigilError)
                extra = {"what": what, "why": troubles[what]}
                LOGGER.error("figures cannot be made; the last good ones stand", extra=extra, exc_info=not known)

    def _note_changes(self) -> None:
        """Note which places of which sheet the ledger has changed, and which sheets must be laid out anew."""
        self._seen, places = self._ledger.changed(self._seen)
        for series, well, timepoint in places:
            plate = self._plates.get(series)
            if plate is not None and well:
                plate.changed.append((well, timepoint))
            elif plate is not None:
                plate.sheet = plate.settled = None

    def _take(self, series: Series, sheet: Sheet, places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        values = (self._ledger.well_time(series, *place, sheet.expected_fields) for place in places)
        return sheet.take([value for value in values if value is not None])

    def _sheet(self, series: Series, index: Index, expected_fields: int) -> Sheet:
        """All of a plate, a piece at a time: collecting the garbage of 25,000 values at once took half of the time."""
        sheet, places = Sheet(index, expected_fields), self._ledger.places(series)
        sheet.widen(places, self._ledger.fields(series))
        for start in range(0, len(places), _PIECE):
            self._take(series, sheet, places[start : start + _PIECE])
        return sheet

    def _shown_series(self, now: datetime) -> list[Series]:
        """Plates of configured sources that had a frame within `metrics.keep_hours`, in the order in which they show.

        Those with frames within the last day stand first, the one that began last at the top: an order by the newest
        frame would turn with every round of a microscope with many plates, and hide another one each time.
        """
        last = {
            series: self._ledger.last_commit(series) for series in self._ledger.series() if series[0] in self._sources
        }
        keep = self._settings.metrics.keep_hours
        dated = {series: at for series, at in last.items() if at is not None and is_kept(at, now, keep)}
        running = max(dated.values(), default=now) - _RUNNING
        rank = {series: (at >= running, self._ledger.last_commit(series, 0) or at) for series, at in dated.items()}
        return sorted(dated, key=lambda series: (rank[series], series), reverse=True)

    def _renew(self, series: Series, plate: _Plate, now: datetime) -> None:
        """Make a plate's figures anew if anything that they follow from has changed."""
        limits, index = self._sources[series[0]], index_of(self._ledger, series)
        changed, plate.changed = plate.changed, []
        if index is None:
            return
        # An error in between leaves no sheet behind that lacks what was just changed.
        sheet, plate.sheet = plate.sheet, None
        if sheet is None or sheet.index != index:
            sheet, plate.settled = self._sheet(series, index, limits.expected_fields), None
        elif changed:
            plate.settled = None
            self._take(series, sheet, self._take(series, sheet, changed))
        plate.sheet = sheet
        settled = sheet.settled(now.timestamp(), limits.timeout_s)
        if plate.settled is not None and (plate.settled == settled).all():
            return
        design = Design(self._designs.of(series), self._designs.events(series))
        figures = figures_of(self._ledger, series, sheet, design, limits, settled=settled)
        wells = len(shown_wells(figures))
        lines = {wells: scrape_lines(blocks(figures, wells))}  # here, where an error costs this plate alone
        plate.figures, plate.lines, plate.wells, plate.settled = figures, lines, wells, settled

    def _snapshot(self, now: datetime) -> Snapshot:
        room, left_out = self._settings.metrics.max_wells, 0
        shown: list[tuple[_Plate, int]] = []
        for plate in self._plates.values():
            wells = min(room, plate.wells)
            room, left_out = room - wells, left_out + plate.wells - wells
            if wells:
                shown.append((plate, wells))
        figures = tuple(plate.figures for plate, _ in shown if plate.figures is not None)
        now_shown = [(id(plate.figures), wells) for plate, wells in shown]
        if now_shown == self._shown:
            return Snapshot(now, figures, self.snapshot.scrape, left_out)
        text = part(scrape_text(plate.text(wells) for plate, wells in shown))
        self._shown = now_shown
        return Snapshot(now, figures, text, left_out)


@contextlib.contextmanager
def tallied(
    store: Store, settings: config.Config, metrics: Metrics, *, stopping: threading.Event, left: list[str]
) -> Iterator[Tally]:
    """Keep the figures while the block runs, which begins when all that the ledger holds is in the snapshot.

    Where that takes a minute (a plate map on a share that hangs) it begins without. A thread that hangs at the end is
    left behind, its name in `left`.
    """
    tally = Tally(store, settings, metrics)
    ready, stop = threading.Event(), threading.Event()

    def run() -> None:
        least = 0.0
        while _waited(tally, stop, least):
            began = time.thread_time()
            tally.look(datetime.now(UTC))
            ready.set()
            least = min(_MOST_LEISURE_S, max(_PACE_S, _LEISURE * (time.thread_time() - began)))

    with beside(run, NAME, stop=stop, patience_s=_PATIENCE_S, left=left) as thread:
        until = time.monotonic() + _FIRST_S
        while not ready.wait(_POLL_S) and thread.is_alive() and not stopping.is_set():
            if time.monotonic() > until:
                LOGGER.warning("the figures are not there yet: the door opens without them")
                break
        yield tally


def _waited(tally: Tally, stop: threading.Event, least: float) -> bool:
    """Wait until there is something to look at, `least` seconds at least; False once `stop` is set."""
    since = time.monotonic()
    while not stop.wait(_POLL_S if least else 0):
        waited, now = time.monotonic() - since, datetime.now(UTC)
        behind = tally.is_behind
        if waited >= max(least, _LONGEST_S if least else 0) or (behind and waited >= least):
            return True
        if not behind:
            tally.rest(now)
    return False
