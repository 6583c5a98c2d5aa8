"""What alerts and page ask of a plate's figures. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from cellvigil.events import PLATE_IN, PLATE_OUT
from cellvigil.response.values import F64, Bools
from cellvigil.tally.figures import PlateFigures

_RUNNING = timedelta(hours=24)  # a plate without a frame for so long is over


def dying_or_dead(plate: PlateFigures) -> F64:
    """(W,) plain share of dying and dead cells at each well's newest value; NaN without, or without such classes."""
    columns = plate.counts.columns("dying", "dead")
    if not len(columns):
        return np.full(len(plate.counts.wells), np.nan)
    return np.asarray(plate.response.plain.value[:, 0, columns].sum(axis=1), dtype=np.float64)


def of_role(plate: PlateFigures, role: str) -> Bools:
    """(W,) whether the plate map gives the well this role."""
    plans = plate.plan.wells
    return np.asarray([well in plans and plans[well].role == role for well in plate.counts.wells], dtype=np.bool_)


def newest_s(plate: PlateFigures) -> float:
    """When the plate's newest image that has a value was taken, seconds since 1970; 0 without any."""
    known = plate.acquired_s[np.isfinite(plate.acquired_s)]
    return float(known.max()) if known.size else 0.0


def newest_at(plate: PlateFigures) -> datetime | None:
    """The same as a time (aware, UTC); None without any."""
    newest = newest_s(plate)
    return datetime.fromtimestamp(newest, UTC) if newest else None


def is_running(plate: PlateFigures, now: datetime) -> bool:
    """Whether the plate had an image within the last day."""
    return now.timestamp() - newest_s(plate) < _RUNNING.total_seconds()


def out_since(plate: PlateFigures, now: datetime) -> datetime | None:
    """Since when the plate is out of the microscope, by its events up to `now`; None = it is in."""
    moves = {kind: [each.at for each in plate.events if each.kind == kind and each.at <= now and not each.wells]
             for kind in (PLATE_OUT, PLATE_IN)}  # fmt: skip
    left = max(moves[PLATE_OUT], default=None)
    back = max(moves[PLATE_IN], default=None)
    return left if left is not None and (back is None or back < left) else None


def is_behind(plate: PlateFigures) -> Bools:
    """(W,) whether the well's newest value is more than one time point older than the plate's newest."""
    places = plate.response.places[:, 0]
    return np.asarray((places >= 0) & (places < places.max(initial=-1) - 1))


def median(figures: F64) -> float:
    """Of those that there are; NaN without any."""
    known = figures[np.isfinite(figures)]
    return float(np.median(known)) if known.size else float("nan")
