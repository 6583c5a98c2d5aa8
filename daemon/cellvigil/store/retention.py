"""What is to be deleted from a store, and what must be announced first. Pure: ledger units and sizes in, a plan out.

Whole units only: one slot of a plate over all its fields (reference/store.md, rule 7). By age each tier goes on its
own. Where room is short the tiers go in the order of `ledger.TIERS`, each oldest first over the whole store; counts
never go for room. Nothing goes that is pinned, or younger than an hour, or before its cause's warning has stood.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from cellvigil.config import Retention
from cellvigil.ledger import TIERS, Series, Unit

AGE, SIZE, FLOOR = "age", "size", "floor"
CAUSES = (AGE, SIZE, FLOOR)
"""Why something is deleted: too old, the store too large, the disk too full."""

_YOUNG = timedelta(hours=1)
_RATE_WINDOW = timedelta(hours=24)
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Drop:
    """Tiers of one unit that are to be deleted."""

    series: Series
    t: int  # slot
    tiers: tuple[str, ...]  # in the order of TIERS
    why: str  # one of CAUSES
    bytes: int  # encoded bytes of chunks that this frees


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be deleted now."""

    plates: tuple[Series, ...] = ()  # whole, by age
    drops: tuple[Drop, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan is made from."""

    now: datetime  # aware
    units: Sequence[Unit]  # of every series that is not gone
    store_bytes: int  # chunks and journals
    free_bytes: float  # on the store's disk

    @property
    def growth(self) -> float:
        """Bytes a second, committed over the last 24 hours (or since the first commit in them, an hour at least)."""
        recent = [unit for unit in self.units if unit.newest > self.now - _RATE_WINDOW]
        if not recent:
            return 0.0
        span = max(self.now - min(unit.newest for unit in recent), _YOUNG)
        return sum(sum(unit.sizes.values()) for unit in recent) / span.total_seconds()

    def hours_to(self, floor_bytes: float) -> float:
        """When the free space reaches a floor at the present rate: 0 if it has, infinity where nothing grows."""
        room = self.free_bytes - floor_bytes
        if room <= 0:
            return 0.0
        return room / self.growth / 3600 if self.growth else math.inf


def pressing(now: Situation, rules: Retention, standing: Collection[str] = ()) -> dict[str, int]:
    """The causes that delete something now or within `warn_hours`, and how many bytes each would by then.

    A cause of room whose warning is `standing` presses until it is away for twice as long, so that a rate that varies
    does not begin the warning anew.
    """
    found: dict[str, int] = {}
    ahead = timedelta(hours=rules.warn_hours)
    plates, drops = _by_age(now, rules, now.now + ahead)
    if plates or drops:
        gone = [unit for unit in now.units if unit.series in plates]
        found[AGE] = sum(drop.bytes for drop in drops) + sum(sum(unit.sizes.values()) for unit in gone)
    coming = now.growth * ahead.total_seconds()
    for why, over in _over(now, rules).items():
        if over + coming * (2 if why in standing else 1) > 0:
            found[why] = max(0, math.ceil(over + coming))
    return found


def plan(now: Situation, rules: Retention, allowed: Collection[str]) -> Plan:
    """What goes now. `allowed`: the causes whose warning has stood long enough."""
    plates: tuple[Series, ...] = ()
    aged: list[Drop] = []
    if AGE in allowed:
        plates, aged = _by_age(now, rules, now.now)
    gone = {(drop.series, drop.t, tier) for drop in aged for tier in drop.tiers}
    leaving = [unit for unit in now.units if unit.series in plates]
    freed = sum(drop.bytes for drop in aged) + sum(sum(unit.sizes.values()) for unit in leaving)
    over = {why: size for why, size in _over(now, rules).items() if why in allowed}
    rest = _by_room(now, rules, {why: size - freed for why, size in over.items()}, gone, plates)
    return Plan(plates, tuple(aged) + tuple(rest))


def is_pinned(series: Series, rules: Retention) -> bool:
    """Whether a pin names this plate."""
    return any(fnmatchcase("/".join(series), pin) for pin in rules.pins)


def limits_of(rules: Retention, why: str) -> dict[str, Any]:
    """What a warning was given for, as plain values: kept with it, and asked by `covers`."""
    names = {SIZE: ("max_gb",), FLOOR: ("free_floor_gb",), AGE: (*(f"{tier}_days" for tier in TIERS), "counts_days")}
    return {name: getattr(rules, name) for name in names[why]} | {"pins": sorted(rules.pins)}


def covers(limits: Mapping[str, Any], rules: Retention, why: str) -> bool:
    """Whether a warning given for `limits` announced all that these rules delete: else it has to be given anew."""
    for name, value in limits_of(rules, why).items():
        before = limits.get(name)
        if name == "pins":
            tighter = not set(before or ()) <= set(value)
        elif name == "free_floor_gb":
            tighter = value is not None and (before is None or value > before)
        else:
            tighter = value is not None and (before is None or value < before)
        if tighter:
            return False
    return True


def _by_age(now: Situation, rules: Retention, at: datetime) -> tuple[tuple[Series, ...], list[Drop]]:
    """The plates and units whose age is over at `at` (the present, or later), oldest units first."""
    newest: dict[Series, datetime] = {}
    for unit in now.units:
        newest[unit.series] = max(unit.newest, newest.get(unit.series, unit.newest))
    free = {series for series in newest if not is_pinned(series, rules)}
    plates = tuple(sorted(series for series in free if _is_over(newest[series], rules.counts_days, at)))
    days = {tier: getattr(rules, f"{tier}_days") for tier in TIERS}
    drops = []
    for unit in sorted(now.units, key=_age) if any(value is not None for value in days.values()) else ():
        if unit.series not in free or unit.series in plates:
            continue
        due = tuple(tier for tier in TIERS if tier not in unit.dropped and _is_over(unit.newest, days[tier], at))
        if due:
            drops.append(Drop(unit.series, unit.t, due, AGE, sum(unit.sizes.get(tier, 0) for tier in due)))
    return plates, drops


def _is_over(newest: datetime, days: float | None, at: datetime) -> bool:
    return days is not None and at - newest >= max(timedelta(days=days), _YOUNG)


def _over(now: Situation, rules: Retention) -> dict[str, float]:
    """By how many bytes each limit of room is passed; negative where there is room left."""
    found: dict[str, float] = {}
    if rules.max_gb is not None:
        found[SIZE] = now.store_bytes - rules.max_gb * _GB
    if rules.free_floor_gb is not None:
        found[FLOOR] = rules.free_floor_gb * _GB - now.free_bytes
    return found


def _by_room(
    now: Situation,
    rules: Retention,
    needed: Mapping[str, float],
    gone: Collection[tuple[Series, int, str]],
    plates: Collection[Series],
) -> Iterator[Drop]:
    """Units until every need is met; each freed byte serves all of them."""
    freed = 0
    for unit, tier in _candidates(now, rules, plates) if any(size > 0 for size in needed.values()) else ():
        why = next((why for why in (SIZE, FLOOR) if needed.get(why, 0) > freed), None)
        if why is None:
            return
        if (unit.series, unit.t, tier) not in gone:
            yield Drop(unit.series, unit.t, (tier,), why, unit.sizes[tier])
            freed += unit.sizes[tier]


def _candidates(now: Situation, rules: Retention, plates: Collection[Series]) -> Iterable[tuple[Unit, str]]:
    """What may go for room, in its order: tier by tier, oldest first."""
    free = {unit.series for unit in now.units if not is_pinned(unit.series, rules)} - set(plates)
    old = sorted((unit for unit in now.units if unit.series in free and now.now - unit.newest >= _YOUNG), key=_age)
    return ((unit, tier) for tier in TIERS for unit in old if unit.sizes.get(tier, 0) > 0)


def _age(unit: Unit) -> tuple[datetime, Series, int]:
    return unit.newest, unit.series, unit.t
