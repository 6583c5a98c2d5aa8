"""How far each field of view had moved when its plate came back, looked up in the store and written into the record.

Works in the background, from what is stored alone: after a restart as well as in time. Reads pixels of the reduced
level; appends lines of kind "shift" through the store. Each pair of frames is compared once; where the events are
edited, other pairs are, and what no event stands behind any more is withdrawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from cellvigil import config
from cellvigil.data import Array, FrameKey
from cellvigil.errors import StoreError, StoreFull
from cellvigil.events import PLATE_IN, PLATE_OUT, Event
from cellvigil.ledger import NONE_COMPARED, CommittedFrame, Series, Shift
from cellvigil.service.log import LOGGER
from cellvigil.shift import LEAST_SIDE, measure
from cellvigil.store import lines
from cellvigil.store.gone import folder_of
from cellvigil.store.planes import FULL_LEVEL, REDUCED_LEVEL, read_plane
from cellvigil.store.writer import Store

_Ends = tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The last frame that counts of a field before its plate went out, and the first after it came back."""

    key: FrameKey  # of the well's first time point after that, whether its frame counts or not
    before: CommittedFrame
    after: CommittedFrame


class Drift:
    """Measures the shifts of one store. One thread calls `look`."""

    def __init__(self, store: Store, channels: Mapping[str, str]) -> None:
        """`channels`: the channel that is segmented, by source; "" = the first."""
        self._store = store
        self._channels = channels
        self._since = 0  # of the ledger's changes
        self._ends: dict[Series, _Ends] = {}  # the goings and comings that were looked at, by plate
        self._waiting: dict[tuple[Series, str], None] = {}  # wells to look at

    def look(
        self,
        events_of: Callable[[Series], Sequence[Event]],
        now: datetime,
        going: Callable[[], bool] = lambda: True,
    ) -> int:
        """Compare what is to be compared, well by well, while `going()`; returns how many lines were journaled.

        `now`: aware, UTC. A well takes a few milliseconds a field; what is left, or what a full disk does not take, is
        done by a later call. The store's lock is held for the journal lines only. Raises StoreError.
        """
        self._gather(events_of)
        written = 0
        for series, well in list(self._waiting):
            if not going():
                break
            try:
                written += self._well(series, well, events_of(series), now)
            except StoreFull:
                break
            del self._waiting[(series, well)]
        return written

    def _gather(self, events_of: Callable[[Series], Sequence[Event]]) -> None:
        """Note the wells of plates that ever left: those with new frames, and all where the events changed."""
        ledger = self._store.ledger
        self._since, changed = ledger.changed(self._since)
        of_plates = {series for series, well, _ in changed if not well}
        for series in ledger.series():
            ends = tuple(one for one in events_of(series) if one.kind in (PLATE_OUT, PLATE_IN))
            if ends != self._ends.get(series, ()):
                self._ends[series] = ends
                of_plates.add(series)
        wells = [(series, well) for series in of_plates for well in ledger.fields(series)]
        wells += [(series, well) for series, well, _ in changed if well]
        for at in dict.fromkeys(wells):
            if self._ends.get(at[0]) or ledger.shift(*at):
                self._waiting[at] = None

    def _well(self, series: Series, well: str, events: Sequence[Event], now: datetime) -> int:
        known = self._store.ledger.shift(series, well)
        mine = [event for event in events if event.touches(well)]
        wanted = {(pair.key.timepoint, pair.key.field): pair for pair in pairs(self._frames(series, well, mine), mine)}
        found: list[dict[str, Any]] = []
        for place, pair in wanted.items():
            said = known.get(place)
            if said is None or (said.before, said.after) != (pair.before.key.timepoint, pair.after.key.timepoint):
                found.append(lines.shift_line(pair.key, self._measured(pair), now))
        for (timepoint, name), said in known.items():
            if (timepoint, name) not in wanted and said.before != NONE_COMPARED:
                withdrawn = Shift(math.nan, math.nan, NONE_COMPARED, NONE_COMPARED)
                found.append(lines.shift_line(FrameKey(*series, well, name, timepoint), withdrawn, now))
        if found:
            with self._store.alone():
                if self._store.ledger.last_commit(series) is None:  # retention has just deleted the plate
                    return 0
                self._store.journal_lines(series, found)
        return len(found)

    def _frames(self, series: Series, well: str, mine: Collection[Event]) -> list[CommittedFrame]:
        return self._store.ledger.frames(series, well) if any(event.kind == PLATE_IN for event in mine) else []

    def _measured(self, pair: Pair) -> Shift:
        share, peak = math.nan, 0.0
        before, after = (self._plane(frame) for frame in (pair.before, pair.after))
        if before is not None and after is not None:
            share, peak = measure(before, after)
        told = {"shift": round(share, 4), "peak": round(peak, 3), "before": pair.before.key.timepoint}
        LOGGER.debug("field of view compared after the plate came back", extra={"frame": str(pair.after.key), **told})
        return Shift(share, peak, pair.before.key.timepoint, pair.after.key.timepoint)

    def _plane(self, frame: CommittedFrame) -> Array | None:
        """The segmented channel of a frame; None where it is not in the store any more, or damaged."""
        series = frame.key.series
        names = self._store.channels(series) or ()
        channel = self._channels.get(series[0]) or (names[0] if names else "")
        if channel not in names or "pixels" in self._store.ledger.dropped(series, frame.t):
            return None
        field = folder_of(self._store.path, series) / frame.path
        try:
            plane = read_plane(field, frame.t, names.index(channel), REDUCED_LEVEL)
            if plane is not None and min(plane.shape) < LEAST_SIDE:
                plane = read_plane(field, frame.t, names.index(channel), FULL_LEVEL)
        except StoreError as error:
            LOGGER.warning("a frame cannot be compared", extra={"frame": str(frame.key), "why": str(error)})
            return None
        return plane


def drift_of(settings: config.Config, store: Store) -> Drift:
    """The drift of a store, with the channels that the configuration segments."""
    return Drift(store, {source.name: source.channels.segment for source in settings.sources})


def pairs(frames: Sequence[CommittedFrame], events: Sequence[Event]) -> Iterator[Pair]:
    """What is to be compared in one well: a pair a return and field that has a frame that counts before and after it.

    `frames`: every revision of the well; `events`: those that touch it, in order of time. Frames between a going and
    its coming back are compared with nothing. A well's time is the median of its fields.
    """
    newest = {(frame.key.timepoint, frame.key.field): frame for frame in sorted(frames, key=lambda one: one.revision)}
    every: dict[int, list[CommittedFrame]] = {}
    for frame in newest.values():
        every.setdefault(frame.key.timepoint, []).append(frame)
    rounds = sorted((median(one.acquired_at.timestamp() for one in of), at) for at, of in every.items())
    goings = [event.at.timestamp() for event in events if event.kind == PLATE_OUT]
    comings = [event.at.timestamp() for event in events if event.kind == PLATE_IN]
    for place, back in enumerate(comings):
        last = comings[place - 1] if place else -math.inf
        out = max((going for going in goings if last <= going <= back), default=back)
        again = min((one for one in (*goings, *comings[place + 1 :]) if one > back), default=math.inf)
        earlier = [at for time, at in rounds if time < out and not _is_away(time, goings, comings)]
        later = [at for time, at in rounds if back <= time < again]
        for name in sorted({frame.key.field for frame in newest.values()}):
            before, after = (
                next((one for at in of if (one := newest.get((at, name))) and one.outcome == "counted"), None)
                for of in (reversed(earlier), later)
            )
            if before and after:
                key = FrameKey(*after.key.series, after.key.well, name, later[0])
                yield Pair(key, before, after)


def _is_away(time: float, goings: Sequence[float], comings: Sequence[float]) -> bool:
    """Whether the plate was out at a time."""
    last = max((going for going in goings if going <= time), default=None)
    return last is not None and not any(last <= coming <= time for coming in comings)
