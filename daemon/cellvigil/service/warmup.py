"""Which stored frames a source's alignment is fitted on: the newest of wells that no drug has touched. Pure but for the
ledger, which is asked.

methods.md, "Transport": on a stream the device's shift is fitted on control or t0 wells, never on treated cells, whose
change is what the assay is about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cellvigil import config
from cellvigil.events import DOSED
from cellvigil.ledger import CommittedFrame, Design, Ledger, Series
from cellvigil.platemap import BLANK, CONTROL
from cellvigil.store.vectors import has_vectors

_EVER = datetime.max.replace(tzinfo=UTC)
_SPAN = 0.01  # share of the cells that a group must have to be there
_LEAST = 10  # cells that it must have at least
_MOST = 5  # times the cells that were asked for, where groups are still missing


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What there is to fit on."""

    frames: tuple[CommittedFrame, ...]  # newest first
    cells: int  # that count, in these frames
    lacking: tuple[str, ...] = ()  # groups of the index that (hardly) no cell was called; mode types only


def warm_up(
    ledger: Ledger,
    source: str,
    align: config.Align,
    wanted: int,
    groups: Collection[str],
    *,
    holds: Callable[[CommittedFrame], bool] = lambda _frame: True,
) -> WarmUp:
    """The newest frames of `source` that may be fitted on, with `wanted` counted cells if there are so many.

    `holds` says whether a frame has the vectors that a fit needs: those from before an encoder came to the index, or
    was replaced by another version, have none. With mode types, frames are added until each of `groups` is spanned, up
    to five times the cells.
    """
    frames: list[CommittedFrame] = []
    cells, called = 0, Counter[str]()
    spanning = groups if align.mode == "types" else ()
    for series in _newest_first(ledger, source):
        for frame in sorted(_usable(ledger, series, align), key=_age):
            if not holds(frame):
                continue
            frames.append(frame)
            cells += frame.n_cells - frame.edge
            if spanning:
                called += _groups_of(ledger, frame)
            lacking = tuple(group for group in spanning if called[group] < max(_LEAST, _SPAN * cells))
            if cells >= wanted and (not lacking or cells >= _MOST * wanted):
                return WarmUp(tuple(frames), cells, lacking)
    return WarmUp(tuple(frames), cells, tuple(g for g in spanning if called[g] < max(_LEAST, _SPAN * cells)))


def control_frames(ledger: Ledger, source: str, most: int) -> list[CommittedFrame]:
    """The newest `most` frames of control wells of the source's newest plate that has any, newest first."""
    align = config.Align(mode="states", wells="controls")
    for series in _newest_first(ledger, source):
        if frames := sorted(_usable(ledger, series, align), key=_age):
            return frames[:most]
    return []


def untouched_until(design: Design, well: str, align: config.Align) -> datetime | None:
    """Frames of a well from before then may be fitted on; None = none of them may.

    Control wells: all. Other wells with wells t0: until the plate map's time of treatment, else the first event "dosed"
    that touches them; one of which neither tells may have been treated at any time. Mode types: every well but blanks.
    """
    plan = design.plan.wells.get(well)
    role = "" if plan is None else plan.role
    if role == BLANK:
        return None
    if role == CONTROL or align.mode == "types":
        return _EVER
    if align.wells == "controls":
        return None
    told = None if plan is None else plan.treated_at
    return told or next((event.at for event in design.events if event.kind == DOSED and event.touches(well)), None)


def _newest_first(ledger: Ledger, source: str) -> list[Series]:
    dated = [(ledger.last_commit(series), series) for series in ledger.series() if series[0] == source]
    return [series for at, series in sorted(((a, s) for a, s in dated if a is not None), reverse=True)]


def _usable(ledger: Ledger, series: Series, align: config.Align) -> Iterator[CommittedFrame]:
    """Frames of untouched wells that count, hold cells, and whose embeddings are there; the last revision of each."""
    design = ledger.design(series) or Design()
    for well in ledger.fields(series):
        until = untouched_until(design, well, align)
        if until is None:
            continue
        newest = {frame.key: frame for frame in ledger.frames(series, well) if frame.acquired_at < until}
        for frame in newest.values():
            dropped = ledger.dropped(series, frame.t)
            there = has_vectors(frame, dropped) and "measurements" not in dropped  # these say which cells count
            if there and ledger.is_lost(frame.key, frame.revision):
                continue
            if there and frame.outcome == "counted" and frame.n_cells > frame.edge:
                yield frame


def _groups_of(ledger: Ledger, frame: CommittedFrame) -> Counter[str]:
    """Cells of a frame a group, by its current calls."""
    found: Counter[str] = Counter()
    called = ledger.calls(frame.key, frame.revision)
    by = None if called is None else ledger.bundle(frame.key.series, called[0])
    if called is not None and by is not None:
        for state, cells in called[1].items():
            found[by.groups.get(state, "")] += cells
    return found


def _age(frame: CommittedFrame) -> tuple[float, object]:
    return (-frame.acquired_at.timestamp(), frame.key)
