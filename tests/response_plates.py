"""Plates of counts for tests of the response: as many wells, looks and fields as a test needs, from plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from cellvigil.data import UNKNOWN
from cellvigil.events import Event
from cellvigil.platemap import CONTROL, TREATED, PlatePlan, WellPlan
from cellvigil.response.values import PlateCounts

STATES = ("live", "apoptotic", "necrotic", "debris", UNKNOWN)
GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}
HOUR = 3600.0


def plate(
    live: npt.ArrayLike,
    dead: npt.ArrayLike | None = None,
    *,
    hours: Sequence[float] | None = None,
    missing: Sequence[tuple[int, ...]] = (),
    version: npt.ArrayLike | None = None,
) -> PlateCounts:
    """Counts of live and dead cells, (W, T) or (W, T, F). Time starts at 1970; `missing`: (well, time[, field])."""
    alive = np.asarray(live)
    alive = alive if alive.ndim == 3 else alive[..., None]
    gone = np.zeros_like(alive) if dead is None else np.asarray(dead).reshape(alive.shape)
    counts = np.zeros((*alive.shape, len(STATES)), dtype=np.int32)
    counts[..., 0], counts[..., 2] = alive, gone
    counted = np.ones(alive.shape, dtype=np.bool_)
    for place in missing:
        counted[place], counts[place] = False, 0
    wells, points = alive.shape[:2]
    at = np.asarray(range(points) if hours is None else hours, dtype=np.float64) * HOUR
    framed = counted.any(axis=2)
    numbers = np.broadcast_to(np.asarray(0 if version is None else version), (wells, points))
    return PlateCounts(
        wells=names(wells),
        timepoints=tuple(range(points)),
        states=STATES,
        groups=GROUPS,
        acquired_s=np.where(framed, at[None, :], np.nan),
        counts=counts,
        counted=counted,
        settled=framed,
        version=np.where(framed, numbers, -1).astype(np.int32),
    )


def names(wells: int) -> tuple[str, ...]:
    """A1 .. A24, B1 .."""
    return tuple(f"{chr(65 + place // 24)}{place % 24 + 1}" for place in range(wells))


def plan_of(roles: str, **more: str) -> PlatePlan:
    """One letter a well: t(reated), c(ontrol), b(lank), - for one that is not in the map."""
    wells = zip(names(len(roles)), roles, strict=True)
    told = {"t": TREATED, "c": CONTROL, "b": "blank"}
    return PlatePlan({well: WellPlan(well, told[role], **more) for well, role in wells if role != "-"})  # type: ignore[arg-type]


def at(hour: float) -> datetime:
    """So many hours after time point 0."""
    return datetime.fromtimestamp(hour * HOUR, tz=UTC)


def event(hour: float, kind: str, *wells: str) -> Event:
    return Event(at(hour), kind, wells)
