"""Journal lines of a plate for tests of what is computed from counts: small, in plain words, without a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cellvigil.data import UNKNOWN
from cellvigil.ledger import Design, Ledger, Series
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.tally.figures import Limits, PlateFigures, figures_of, index_of
from cellvigil.tally.sheet import Sheet
from store_records import SERIES, START

STATES = ("live", "apoptotic", "necrotic", "debris")
GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}
INDEX = "ab" * 32
LATER = START + timedelta(days=30)  # every frame timeout has passed


def bundle_line(sha256: str = INDEX, groups: Mapping[str, str] = GROUPS, series: Series = SERIES) -> dict[str, Any]:
    return {
        "kind": "bundle",
        "series": list(series),
        "sha256": sha256,
        "classes": list(groups),
        "groups": dict(groups),
        "table": f"cells/calls-{sha256[:12]}",
    }


def baseline_line(focus: float = 2.0, series: Series = SERIES) -> dict[str, Any]:
    return {"kind": "baseline", "series": list(series), "intensity": [0, 1], "focus": focus}


def frame_line(
    well: str,
    timepoint: int,
    field: str = "1",
    *,
    counts: Mapping[str, int],
    series: Series = SERIES,
    bundle: str = INDEX,
    acquired: datetime | None = None,
    committed: datetime | None = None,
    excluded: bool = False,
    **other: Any,
) -> dict[str, Any]:
    """A frame every half hour, committed a minute later, with a fair certainty."""
    states = {**dict.fromkeys((*STATES, UNKNOWN), 0), **counts}
    cells = sum(states.values())
    acquired = acquired or START + timedelta(minutes=30 * timepoint)
    sure = {"rated": cells, "probability": 0.75 * cells, "tested": cells, "novel": cells // 10, "typical": cells // 2}
    return {
        "kind": "frame",
        "key": [*series, well, field, timepoint],
        "t": timepoint,
        "revision": 0,
        "path": f"{well[0]}/{well[1:]}/{field}",
        "acquired_at": acquired.isoformat(),
        "committed_at": (committed or acquired + timedelta(minutes=1)).isoformat(),
        "files": [[f"{well}_{field}_{timepoint}.tif", 10, 99, "d"]],
        "n_cells": cells,
        "edge": 0,
        "counts": states,
        "certainty": sure,
        "outcome": "excluded" if excluded else "counted",
        "quality": {"focus": 1.5},
        "bundle": bundle,
        "tables": [],
        **other,
    }


def plan_of(*wells: WellPlan) -> PlatePlan:
    return PlatePlan({plan.well: plan for plan in wells})


def ledger_of(lines: Iterable[Mapping[str, Any]], ledger: Ledger | None = None, *, first: int = 1) -> Ledger:
    """The ledger of lines in the order of their journal."""
    ledger = ledger or Ledger()
    for seq, line in enumerate(lines, start=first):
        ledger.add({"seq": seq, **line})
    return ledger


def sheet_of(ledger: Ledger, series: Series = SERIES, expected_fields: int = 1) -> Sheet:
    """The sheet of a whole plate, at once."""
    sheet = Sheet(index_of(ledger, series), expected_fields)
    sheet.take(ledger.well_times(series, expected_fields))
    return sheet


def figures(
    ledger: Ledger,
    design: Design = Design(),  # noqa: B008 - a frozen value
    *,
    series: Series = SERIES,
    now: datetime = LATER,
    limits: Limits | None = None,
    every: bool = False,
) -> PlateFigures:
    """The figures of one plate at `now`."""
    limits = limits or Limits()
    sheet = sheet_of(ledger, series, limits.expected_fields)
    settled = sheet.settled(now.timestamp(), limits.timeout_s)
    return figures_of(ledger, series, sheet, design, limits, settled=settled, every=every)
