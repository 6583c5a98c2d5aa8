"""A plate's figures as the metrics' series: which figure goes by which name, with which labels. Pure.

The one place for it: a scrape shows the newest value of these blocks, the history all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from cellvigil.data import Array
from cellvigil.events import KINDS, PLATE_IN, PLATE_OUT
from cellvigil.metrics import families as names
from cellvigil.metrics.families import Family
from cellvigil.metrics.rendering import Block, label_text
from cellvigil.platemap import TREATED
from cellvigil.response.values import F64, Bools, Estimate
from cellvigil.tally.figures import PlateFigures

PLAIN, CORRECTED = "plain", "corrected"


def blocks(figures: PlateFigures, most_wells: int | None = None) -> Iterator[Block]:
    """Every series of one plate; `most_wells`: of no more than its first so many wells."""
    shown = np.isfinite(figures.acquired_s)
    if most_wells is not None:
        shown[shown_wells(figures)[most_wells:]] = False
    yield from _counts(figures, shown)
    yield from _quality(figures, shown)
    yield from _plan(figures, shown)
    yield from _response(figures, shown)
    yield from _arms(figures)
    yield from _plate(figures)


def shown_wells(figures: PlateFigures) -> list[int]:
    """The wells (rows) that have a value."""
    return np.flatnonzero(np.isfinite(figures.acquired_s).any(axis=1)).tolist()


def _well_block(figures: PlateFigures, shown: Bools, family: Family, values: Array, *more: str) -> Block:
    """One series a well, of values (W, T); `more`: the labels beside plate and well."""
    labels = [label_text(family.labels, (figures.plate, well, *more)) for well in figures.counts.wells]
    return Block(family, labels, np.where(shown, values, np.nan), figures.acquired_s)


def _with_interval(make: Callable[..., Block], family: Family, estimate: Estimate, *more: str) -> Iterator[Block]:
    yield make(family, estimate.value, *more)
    yield make(family.low, estimate.low, *more)
    yield make(family.high, estimate.high, *more)


def _counts(figures: PlateFigures, shown: Bools) -> Iterator[Block]:
    make = partial(_well_block, figures, shown)
    for place, state in enumerate(figures.counts.states):
        yield make(names.CELLS, figures.cells[..., place], state)
    for estimate, shares in ((PLAIN, figures.response.plain), (CORRECTED, figures.response.corrected)):
        for place, state in enumerate(figures.counts.states):
            yield from _with_interval(make, names.STATE_SHARE, _of_state(shares, place), state, estimate)


def _quality(figures: PlateFigures, shown: Bools) -> Iterator[Block]:
    make = partial(_well_block, figures, shown)
    yield make(names.ACQUIRED, figures.acquired_s)
    yield make(names.FIELDS_MISSING, figures.missing)
    yield make(names.FIELDS_EXCLUDED, figures.excluded)
    yield make(names.UNKNOWN_RATIO, figures.unknown)
    yield make(names.FOCUS_RATIO, figures.focus)
    yield make(names.DEBRIS_RATIO, figures.debris)
    yield make(names.CERTAINTY_RATIO, figures.certainty)
    yield make(names.NOVEL_RATIO, figures.novel)
    yield make(names.AGREEMENT_RATIO, figures.agreement)
    for channel, (area, intensity) in sorted(figures.fluorescence.items()):
        yield make(names.FLUORESCENCE_AREA, area, channel)
        yield make(names.FLUORESCENCE_INTENSITY, intensity, channel)


def _plan(figures: PlateFigures, shown: Bools) -> Iterator[Block]:
    """What the plate map says; a well that is not in it has neither."""
    planned = [(row, well) for row, well in enumerate(figures.counts.wells) if well in figures.plan.wells]
    rows = [row for row, _ in planned]
    labels = []
    for _, well in planned:
        plan = figures.plan.wells[well]
        told = (figures.plan.arm(well), plan.role, plan.compound, plan.dose_text, plan.cell_line)
        labels.append(label_text(names.WELL_INFO.labels, (figures.plate, well, *told)))
    ones = np.where(shown[rows], 1.0, np.nan)
    yield Block(names.WELL_INFO, labels, ones, figures.acquired_s[rows])
    yield _well_block(figures, shown, names.TREATED, figures.response.treated_s[:, None])


def _response(figures: PlateFigures, shown: Bools) -> Iterator[Block]:
    make = partial(_well_block, figures, shown)
    response = figures.response
    yield from _with_interval(make, names.LIVE_INDEX, response.live_index)
    yield from _with_interval(make, names.RESPONSE, response.response)
    onset = response.onset_s[:, None]
    with np.errstate(invalid="ignore"):
        found = figures.acquired_s >= onset - 1e-3  # before it, nobody knew of it
    yield make(names.ONSET, np.where(found, onset, np.nan))
    yield make(names.PAUSED, _paused(figures))
    yield from _with_interval(make, names.GROWTH_RATE, response.growth_rate)
    yield make(names.DEAD_TIMEPOINTS, response.dead_timepoints.astype(np.float64))


def _paused(figures: PlateFigures) -> F64:
    """(W, T) 1 while the plate is out; at a well's newest value by what came after it, since nobody films it there."""
    values = figures.response.paused.astype(np.float64)
    goings = [event for event in figures.events if event.kind in (PLATE_OUT, PLATE_IN)]
    for row, well in enumerate(figures.counts.wells if goings else ()):
        mine = [(event.at, event.kind == PLATE_IN) for event in goings if event.touches(well)]
        there = np.flatnonzero(np.isfinite(figures.acquired_s[row]))
        if mine and there.size:
            values[row, there[-1]] = float(not max(mine)[1])
    return values


def _arms(figures: PlateFigures) -> Iterator[Block]:
    response = figures.response
    times = _arm_times(figures)

    def make(family: Family, values: F64, *more: str) -> Block:
        labels = [label_text(family.labels, (figures.plate, arm, *more)) for arm in response.arms]
        return Block(family, labels, values, times)

    for estimate, shares in ((PLAIN, response.arm_plain), (CORRECTED, response.arm_corrected)):
        for place, state in enumerate(figures.counts.states):
            yield from _with_interval(make, names.ARM_SHARE, _of_state(shares, place), state, estimate)
    wells = np.broadcast_to(response.arm_wells[:, None], times.shape)
    yield make(names.ARM_WELLS, np.where(np.isfinite(times), wells, np.nan))
    yield from _with_interval(make, names.ARM_LIVE_INDEX, response.arm_live_index)
    yield from _with_interval(make, names.ARM_RESPONSE, response.arm_response)
    yield make(names.ARM_ONSETS, _onsets(figures, times))


def _onsets(figures: PlateFigures, times: F64) -> F64:
    """(A, T) wells of each arm with an onset by then; NaN where the arm has no value, or no treated well."""
    found = np.full(times.shape, np.nan)
    for row, arm in enumerate(figures.response.arms):
        mine = [place for place, well in enumerate(figures.counts.wells) if figures.plan.arm(well) == arm]
        if all(figures.plan.wells[figures.counts.wells[place]].role != TREATED for place in mine):
            continue
        seen = np.where(np.isfinite(figures.acquired_s[mine]), figures.acquired_s[mine], times[row])
        with np.errstate(invalid="ignore"):
            by_then = (figures.response.onset_s[mine, None] <= seen + 1e-3).sum(axis=0)
        found[row] = np.where(np.isfinite(times[row]), by_then, np.nan)
    return found


def _plate(figures: PlateFigures) -> Iterator[Block]:
    """What holds for the whole plate: at every time point, or (doses) at the newest."""
    response = figures.response
    times = _plate_times(figures)
    if not times.size:
        return

    def always(family: Family, labels: Sequence[tuple[str, ...]], value: float = 1.0) -> Block:
        return make(family, [(each, np.full(times.shape, value)) for each in labels])

    def make(family: Family, found: Sequence[tuple[tuple[str, ...], F64]]) -> Block:
        unique = {label_text(family.labels, (figures.plate, *labels)): values for labels, values in found}
        values = np.asarray([*unique.values()], dtype=np.float64).reshape(len(unique), len(times))
        return Block(family, list(unique), values, np.broadcast_to(times, values.shape))

    yield always(names.STATE_INFO, sorted(figures.counts.groups.items()))
    yield always(names.CORRECTION_INFO, [(response.correction,)])
    yield always(names.CORRELATION, [(response.basis,)], response.correlation)
    for end in ("value", "low", "high"):
        doses = [
            ((f.compound, f.unit, f.measure), _last(times, getattr(f, end)))
            for f in response.fits
            if f.measure != "gr_max"
        ]
        most = [((f.compound,), _last(times, getattr(f, end))) for f in response.fits if f.measure == "gr_max"]
        for family, found in ((names.DOSE, doses), (names.GR_MAX, most)):
            yield make(family if end == "value" else getattr(family, end), found)
    yield make(names.EVENT, [((kind,), _events(figures, kind, times)) for kind in KINDS])


def _events(figures: PlateFigures, kind: str, times: F64) -> F64:
    """(T,) the newest event of a kind at each time; at the last one also what came after its images."""
    at = np.asarray([event.at.timestamp() for event in figures.events if event.kind == kind])
    until = np.append(times[:-1], np.inf)
    return np.asarray([at[at <= time].max(initial=-np.inf) if (at <= time).any() else np.nan for time in until])


def _last(times: F64, value: float) -> F64:
    """(T,) a figure that is only known for the newest time."""
    return np.append(np.full(len(times) - 1, np.nan), value)


def _plate_times(figures: PlateFigures) -> F64:
    """(T,) acquisition time of the plate's values, ascending: the median of its wells'; times without any left out."""
    there = np.isfinite(figures.acquired_s).any(axis=0)
    return np.asarray(np.sort(np.nanmedian(figures.acquired_s[:, there], axis=0)))


def _of_state(shares: Estimate, place: int) -> Estimate:
    return Estimate(shares.value[..., place], shares.low[..., place], shares.high[..., place])


def _arm_times(figures: PlateFigures) -> F64:
    """(A, T) acquisition time of an arm's value: the median of its wells'; NaN where none has one."""
    arms = figures.response.arms
    times = np.full((len(arms), figures.acquired_s.shape[1]), np.nan)
    of = [figures.plan.arm(well) for well in figures.counts.wells]
    for row, arm in enumerate(arms):
        mine = figures.acquired_s[[place for place, name in enumerate(of) if name == arm]]
        there = np.isfinite(mine).any(axis=0)
        times[row, there] = np.nanmedian(mine[:, there], axis=0)
    return times
