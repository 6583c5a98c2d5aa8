"""The ledger's latest values as the gauges of wells: what a scrape shows, also right after a restart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cellvigil import config
from cellvigil.data import UNKNOWN
from cellvigil.ledger import CalledBy, Ledger, Series, WellTime, shares
from cellvigil.metrics import WellGauges


def wells(ledger: Ledger, settings: config.Config, now: datetime) -> list[WellGauges]:
    """Every well of every plate that had a frame within `metrics.keep_hours`, at its last published value.

    `now` is aware, UTC. Plates of sources that are no longer configured are left out.
    """
    sources = {source.name: source for source in settings.sources}
    keep = timedelta(hours=settings.metrics.keep_hours)
    return [
        gauges
        for series in ledger.series()
        if series[0] in sources
        for gauges in _of_plate(ledger, series, sources[series[0]], now, keep)
    ]


def plate_label(series: Series) -> str:
    """The `plate` label: source/experiment/plate."""
    return "/".join(series)


def _of_plate(
    ledger: Ledger, series: Series, source: config.Source, now: datetime, keep: timedelta
) -> Iterator[WellGauges]:
    timeout = timedelta(seconds=source.frame_timeout_s)
    values = ledger.latest(series, source.expect.fields, now=now, timeout=timeout)
    if not values or now - max(value.committed_at for value in values.values()) > keep:
        return
    bundles = {called.sha256: called for called in ledger.bundles(series)}
    for value in values.values():
        if value.bundle in bundles:
            yield _gauges(ledger, value, bundles[value.bundle])


def _gauges(ledger: Ledger, value: WellTime, called: CalledBy) -> WellGauges:
    states: Sequence[str] = (*called.classes, UNKNOWN)
    cells = {state: value.counts.get(state, 0) for state in states}
    every = sum(cells.values())
    baseline = ledger.baseline(value.series)
    usual = baseline.focus if baseline else 0.0
    return WellGauges(
        plate=plate_label(value.series),
        well=value.well,
        acquired_at=value.acquired_at,
        cells=cells,
        shares=shares(value.counts, called.groups),
        unknown_ratio=cells[UNKNOWN] / every if every else None,
        fields_missing=value.fields_missing,
        focus_ratio=value.focus / usual if usual > 0 and math.isfinite(value.focus) else None,
        groups=called.groups,
    )
