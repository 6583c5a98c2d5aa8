"""What is known of one plate at some time points: its counts, what response made of them, and how good they are. Pure.

Made from a sheet and the ledger; read by the metrics, the page and the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from cellvigil import config
from cellvigil.data import UNKNOWN, Array
from cellvigil.events import Event
from cellvigil.ledger import CalledBy, Design, Ledger, Series
from cellvigil.platemap import CONTROL, PlatePlan
from cellvigil.response.correction import Confusion
from cellvigil.response.fluorescence import Frames, fluorescence, imaged, standing
from cellvigil.response.plate import PlateResponse, evaluate
from cellvigil.response.values import F64, Bools, Ints, PlateCounts
from cellvigil.tally.sheet import Index, Sheet

_SECONDS = 1e-6  # two times of one frame differ by rounding only


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What of the configuration decides a plate's figures."""

    expected_fields: int = 1
    timeout_s: float = 1800.0
    response: config.Response = config.Response()  # noqa: RUF009 - a frozen value
    dead_share: float = 0.3

    @classmethod
    def of(cls, settings: config.Config, source: config.Source) -> Limits:
        """Those of one source."""
        return cls(source.expect.fields, source.frame_timeout_s, settings.response, settings.alerts.dead_share)


@dataclass(frozen=True, slots=True, eq=False)
class PlateFigures:
    """One plate; arrays over (W, T) where T are the time points of `response.places`, NaN where a well has no value."""

    series: Series
    counts: PlateCounts  # every time point
    response: PlateResponse
    plan: PlatePlan
    events: tuple[Event, ...]
    acquired_s: F64  # (W, T) seconds since 1970
    cells: F64  # (W, T, S) over the counted fields
    missing: F64  # (W, T) expected fields that never came
    excluded: F64  # (W, T) fields left out
    unknown: F64  # (W, T) share of the counted cells
    debris: F64  # (W, T) share of all cells, those in fields left out too
    focus: F64  # (W, T) against the plate's first frames
    certainty: F64  # (W, T) mean calibrated probability
    novel: F64  # (W, T) share of cells with a novelty p-value of at most 0.1
    agreement: F64  # (W, T) mean agreement of the index's voters; NaN where it has one
    fluorescence: Mapping[str, tuple[F64, F64]]  # channel -> area and intensity, each (W, T)

    @property
    def plate(self) -> str:
        """The `plate` label: source/experiment/plate."""
        return "/".join(self.series)


def index_of(ledger: Ledger, series: Series) -> Index | None:
    """What a sheet of the plate is laid out by; None before an index called there."""
    last = ledger.called_last(series)
    return None if last is None else Index.of(last, ledger.bundles(series))


def figures_of(
    ledger: Ledger, series: Series, sheet: Sheet, design: Design, limits: Limits, *, settled: Bools, every: bool = False
) -> PlateFigures:
    """The figures at each well's newest value, or (`every`) at every time point. `settled`: `Sheet.settled`."""
    counts = sheet.counts(settled)
    called = ledger.called_last(series)
    novel = sheet.over["novel"]
    response = evaluate(
        counts,
        design.plan,
        design.events,
        confusion=None if called is None else confusion_of(called),
        novel=_at_home(novel, counts, design.plan),
        typical=_at_home(sheet.over["typical"], counts, design.plan),
        shifts=ledger.shifts(series),
        settings=limits.response,
        dead_share=limits.dead_share,
        every=every,
    )
    places = response.places
    cells = picked(counts.counts.sum(axis=2), places)
    baseline = ledger.baseline(series)
    usual = baseline.focus if baseline is not None and baseline.focus > 0 else np.nan
    total = cells.sum(axis=2)
    unknown = cells[..., counts.states.index(UNKNOWN)]
    images = ledger.signals(series)
    signals = fluorescence(
        images,
        counts.wells,
        counts.timepoints,
        controls=[well for well, plan in design.plan.wells.items() if plan.role == CONTROL],
        start=start_of(counts, response.treated_s),
    )
    return PlateFigures(
        series=series,
        counts=counts,
        response=response,
        plan=design.plan,
        events=design.events,
        acquired_s=picked(counts.acquired_s, places),
        cells=cells,
        missing=picked(sheet.expected[:, None] - sheet.over["present"], places),
        excluded=picked(sheet.over["present"] - counts.counted.sum(axis=2), places),
        unknown=np.divide(unknown, total, out=np.full(total.shape, np.nan), where=total > 0),
        debris=picked(sheet.debris(), places),
        focus=picked(sheet.over["focus"], places) / usual,
        certainty=picked(sheet.over["probability"], places),
        novel=picked(novel, places),
        agreement=picked(sheet.over["agreement"], places),
        fluorescence={
            channel: (picked(area, places), picked(intensity, places))
            for channel, (area, intensity) in (
                (of, pair if every else _standing(pair, images[of], counts)) for of, pair in signals.items()
            )
        },
    )


def _standing(pair: tuple[F64, F64], images: Frames, counts: PlateCounts) -> tuple[F64, F64]:
    seen = imaged(images, counts.wells, counts.timepoints)
    return standing(pair[0], seen), standing(pair[1], seen)


def picked(values: Array, places: Ints) -> F64:
    """The values (W, T, ...) of a sheet at `places` (W, T'); NaN where that is -1."""
    rows = np.arange(len(places))[:, None]
    if not values.shape[1]:
        return np.full((*places.shape, *values.shape[2:]), np.nan)
    found = np.asarray(values[rows, np.maximum(places, 0)], dtype=np.float64)
    found[places < 0] = np.nan
    return found


def confusion_of(called: CalledBy) -> Confusion | None:
    """The confusion of an index as response takes it; None where it has none."""
    if called.overridden:  # then nobody reads the figures
        return Confusion(called.classes, np.eye(len(called.classes), len(called.classes) + 1), overridden=True)
    return None if called.confusion is None else Confusion(called.classes, np.asarray(called.confusion))


def start_of(counts: PlateCounts, treated_s: F64) -> Ints:
    """(W,) place on the T axis of each well's last frame at or before its treatment; -1 without either."""
    with np.errstate(invalid="ignore"):
        before = counts.acquired_s <= treated_s[:, None] + _SECONDS
    times = np.where(before, counts.acquired_s, -np.inf)
    if not times.shape[1]:
        return np.full(len(times), -1, dtype=np.int64)
    return np.where(before.any(axis=1), times.argmax(axis=1), -1).astype(np.int64)


def _at_home(novel: F64, counts: PlateCounts, plan: PlatePlan) -> float:
    """Mean share of novel (or typical) cells in the control wells, over all time points; of all wells without a map."""
    controls = [row for row, well in enumerate(counts.wells) if well in plan.wells and plan.wells[well].role == CONTROL]
    shares = novel[controls or slice(None)][counts.usable[controls or slice(None)]]
    shares = shares[np.isfinite(shares)]
    return float(shares.mean()) if len(shares) else float("nan")


def is_kept(last: datetime | None, now: datetime, keep_hours: float) -> bool:
    """Whether a plate whose last frame was committed at `last` still shows."""
    return last is not None and now - last <= timedelta(hours=keep_hours)
