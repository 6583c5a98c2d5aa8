"""What retention plans: against an obvious twin, and the rules one by one."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.config import Retention
from cellvigil.ledger import TIERS, Unit
from cellvigil.store.retention import AGE, FLOOR, SIZE, Drop, Plan, Situation, covers, limits_of, plan, pressing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLATES = [("scope", "exp", name) for name in ("Plate 1", "Plate 2", "Plate 3")]
GB = 10**9


def unit(
    plate: int = 0, t: int = 0, *, days: float = 10, dropped: tuple[str, ...] = (), size: int = GB, **sizes: int
) -> Unit:
    weights = {tier: 0 if tier in dropped else sizes.get(tier, size) for tier in TIERS}
    return Unit(PLATES[plate], t, NOW - timedelta(days=days), weights, frozenset(dropped))


def situation(*units: Unit, free_gb: float = 1000) -> Situation:
    weight = sum(sum(one.sizes.values()) for one in units)
    return Situation(NOW, units, weight, free_gb * GB)


def all_of(what: Plan) -> list[tuple[str, int, str, str]]:
    return [(one.series[2], one.t, tier, one.why) for one in what.drops for tier in one.tiers]


def test_every_tier_has_an_age_of_its_own():
    rules = Retention(pixels_days=3, embeddings_days=8)
    what = plan(situation(unit(t=0, days=9), unit(t=1, days=5), unit(t=2, days=1)), rules, {AGE})
    assert what.drops == (
        Drop(PLATES[0], 0, ("pixels", "embeddings"), AGE, 2 * GB),
        Drop(PLATES[0], 1, ("pixels",), AGE, GB),
    )


def test_what_is_gone_already_is_not_planned_again():
    rules = Retention(pixels_days=3, labels_days=3)
    what = plan(situation(unit(days=9, dropped=("pixels",)), unit(t=1, days=9, dropped=TIERS)), rules, {AGE})
    assert all_of(what) == [("Plate 1", 0, "labels", AGE)]


def test_a_plate_goes_whole_once_its_newest_frame_is_old():
    rules = Retention(counts_days=20, pixels_days=5, pins=("scope/exp/Plate 3",))
    units = [unit(0, 0, days=30), unit(0, 1, days=21), unit(1, 0, days=40), unit(1, 1, days=19), unit(2, days=99)]
    what = plan(situation(*units), rules, {AGE})
    assert what.plates == (PLATES[0],)
    assert all_of(what) == [("Plate 2", 0, "pixels", AGE), ("Plate 2", 1, "pixels", AGE)]


def test_for_room_the_tiers_go_in_order_over_the_whole_store_oldest_first():
    units = [unit(0, 0, days=2), unit(1, 0, days=3), unit(0, 1, days=1)]
    assert all_of(plan(situation(*units), Retention(max_gb=7.5), {SIZE})) == [
        ("Plate 2", 0, "pixels", SIZE),
        ("Plate 1", 0, "pixels", SIZE),
        ("Plate 1", 1, "pixels", SIZE),
        ("Plate 2", 0, "labels", SIZE),
        ("Plate 1", 0, "labels", SIZE),
    ]


def test_what_goes_by_age_makes_room_too_and_both_limits_share_what_is_freed():
    units = [unit(0, t, days=10 - t, pixels=GB, labels=0, embeddings=0, measurements=0) for t in range(6)]
    rules = Retention(pixels_days=8.5, max_gb=3, free_floor_gb=4)
    what = plan(situation(*units, free_gb=0), rules, {AGE, SIZE, FLOOR})
    assert [one.why for one in what.drops] == [AGE, AGE, SIZE, FLOOR]
    assert [one.t for one in what.drops] == [0, 1, 2, 3]


@pytest.mark.parametrize("allowed", [(), (SIZE,), (FLOOR,), (AGE,)])
def test_only_causes_whose_warning_has_stood_delete(allowed):
    rules = Retention(pixels_days=3, max_gb=0.5, free_floor_gb=10)
    what = plan(situation(unit(), unit(t=1), free_gb=1), rules, allowed)
    assert {why for *_, why in all_of(what)} == set(allowed)


def test_counts_and_the_young_and_the_pinned_never_go_for_room():
    rules = Retention(max_gb=0.001, free_floor_gb=1000, pins=("scope/*/Plate 2",))
    units = [unit(0, 0, days=0.9 / 24), unit(0, 1, days=1.1 / 24), unit(1, days=99)]
    what = plan(situation(*units, free_gb=0), rules, {SIZE, FLOOR})
    assert what.plates == ()
    assert {(one.series, one.t) for one in what.drops} == {(PLATES[0], 1)}


@pytest.mark.parametrize(
    ("pin", "holds"),
    [("scope/exp/Plate 1", True), ("*", True), ("*/exp/*", True), ("scope/exp/plate 1", False), ("scope/exp", False)],
)
def test_pins_match_the_whole_name(pin, holds):
    rules = Retention(pixels_days=1, counts_days=1, max_gb=0.001, pins=(pin,))
    assert (plan(situation(unit()), rules, {AGE, SIZE}) == Plan()) is holds


def test_age_is_announced_before_it_is_due():
    rules = Retention(pixels_days=10, warn_hours=24)
    assert pressing(situation(unit(days=8.9)), rules) == {}
    assert pressing(situation(unit(days=9.1)), rules) == {AGE: GB}
    assert plan(situation(unit(days=9.1)), rules, {AGE}) == Plan()
    assert pressing(situation(unit(days=10)), Retention(counts_days=10.5)) == {AGE: 4 * GB}
    assert pressing(situation(unit(days=10)), Retention(counts_days=10.5, pins=("*",))) == {}


def test_room_is_announced_a_day_before_it_is_used_up_and_stays_so_while_it_may_come_back():
    rules = Retention(max_gb=100, free_floor_gb=50, warn_hours=24)
    growing = [unit(t=t, days=t / 24, size=GB // 4) for t in range(24)]  # a GB an hour: 24 GB a day
    near = Situation(NOW, growing, 80 * GB, 70 * GB)
    assert set(pressing(near, rules)) == {SIZE, FLOOR}
    assert pressing(near, rules)[SIZE] == pytest.approx(5 * GB, rel=0.05)
    far = Situation(NOW, growing, 70 * GB, 110 * GB)
    assert pressing(far, rules) == {}
    assert set(pressing(far, rules, {SIZE, FLOOR})) == {SIZE}
    still = Situation(NOW, [unit(days=3)], 99 * GB, 51 * GB)
    assert pressing(still, rules, {SIZE, FLOOR}) == {}


def test_the_forecast_goes_by_the_last_day():
    day = [unit(t=t, days=t / 24, size=GB // 4) for t in range(24)]
    assert Situation(NOW, day, 0, 60 * GB).hours_to(10 * GB) == pytest.approx(48, rel=0.05)
    young = [unit(days=0.01, size=GB // 4)]  # a GB since a quarter of an hour counts as a GB an hour
    assert Situation(NOW, young, 0, 60 * GB).hours_to(10 * GB) == pytest.approx(50)
    assert Situation(NOW, [unit(days=2)], 0, 60 * GB).hours_to(10 * GB) == math.inf
    assert Situation(NOW, [], 0, 60 * GB).hours_to(70 * GB) == 0


@pytest.mark.parametrize(
    ("before", "after", "why", "still"),
    [
        ({"pixels_days": 10}, {"pixels_days": 10}, AGE, True),
        ({"pixels_days": 10}, {"pixels_days": 20}, AGE, True),
        ({"pixels_days": 10}, {"pixels_days": 9}, AGE, False),
        ({"pixels_days": 10}, {"pixels_days": 10, "labels_days": 50}, AGE, False),
        ({"counts_days": 10}, {"counts_days": 5}, AGE, False),
        ({"max_gb": 10}, {"max_gb": 9}, SIZE, False),
        ({"max_gb": 10}, {"max_gb": 11}, SIZE, True),
        ({"max_gb": 10}, {"max_gb": 10, "pixels_days": 1}, SIZE, True),
        ({"free_floor_gb": 10}, {"free_floor_gb": 9}, FLOOR, True),
        ({"free_floor_gb": 10}, {"free_floor_gb": 11}, FLOOR, False),
        ({"max_gb": 10, "pins": ("a/b/c",)}, {"max_gb": 10}, SIZE, False),
        ({"max_gb": 10}, {"max_gb": 10, "pins": ("a/b/c",)}, SIZE, True),
    ],
)
def test_a_warning_holds_for_what_it_announced_only(before, after, why, still):
    assert covers(limits_of(Retention(**before), why), Retention(**after), why) is still


days = st.one_of(st.none(), st.sampled_from([0.02, 1.0, 3.0, 7.5, 30.0]))


@st.composite
def stores(draw: st.DrawFn) -> list[Unit]:
    places = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), unique=True, max_size=12))
    return [
        unit(
            plate,
            t,
            days=draw(st.sampled_from([0.01, 0.05, 0.5, 1.0, 2.0, 4.0, 8.0, 31.0])),
            dropped=tuple(draw(st.sets(st.sampled_from(TIERS), max_size=4))),
            **{tier: draw(st.integers(0, 5)) * GB for tier in TIERS},
        )
        for plate, t in places
    ]


@st.composite
def rule_sets(draw: st.DrawFn) -> Retention:
    limits: dict[str, Any] = {f"{tier}_days": draw(days) for tier in (*TIERS, "counts")}
    limits["max_gb"] = draw(st.one_of(st.none(), st.integers(1, 60)))
    limits["free_floor_gb"] = draw(st.one_of(st.none(), st.integers(1, 60)))
    return Retention(**limits, pins=tuple(draw(st.sets(st.sampled_from(["*/Plate 1", "scope/exp/Plate 2"])))))


def twin(now: Situation, rules: Retention, allowed: set[str]) -> tuple[set[Any], set[Any]]:
    """The same by brute force: one unit and tier at a time, everything weighed anew after each."""
    pinned = {"Plate 1"} if "*/Plate 1" in rules.pins else set()
    pinned |= {"Plate 2"} if "scope/exp/Plate 2" in rules.pins else set()
    free = [one for one in now.units if one.series[2] not in pinned and NOW - one.newest >= timedelta(hours=1)]
    plates, gone = twin_by_age(now, rules, free) if AGE in allowed else (set(), set())
    for tier in TIERS:
        for one in sorted(free, key=lambda u: (u.newest, u.series, u.t)):
            if one.series in plates or one.sizes[tier] == 0 or (one.series, one.t, tier, AGE) in gone:
                continue
            freed = sum(sum(u.sizes.values()) for u in now.units if u.series in plates)
            freed += sum(u.sizes[x[2]] for x in gone for u in now.units if (u.series, u.t) == x[:2])
            if SIZE in allowed and rules.max_gb and now.store_bytes - freed > rules.max_gb * GB:
                gone.add((one.series, one.t, tier, SIZE))
            elif FLOOR in allowed and rules.free_floor_gb and now.free_bytes + freed < rules.free_floor_gb * GB:
                gone.add((one.series, one.t, tier, FLOOR))
    return plates, gone


def twin_by_age(now: Situation, rules: Retention, free: list[Unit]) -> tuple[set[Any], set[Any]]:
    def over(one: Unit, limit: float | None) -> bool:
        return one in free and limit is not None and NOW - one.newest >= timedelta(days=limit)

    there = {one.series for one in now.units}
    plates = {s for s in there if all(over(one, rules.counts_days) for one in now.units if one.series == s)}
    gone = {
        (one.series, one.t, tier, AGE)
        for one in now.units
        for tier in TIERS
        if one.series not in plates and tier not in one.dropped and over(one, getattr(rules, f"{tier}_days"))
    }
    return plates, gone


@given(stores(), rule_sets(), st.integers(0, 60), st.sets(st.sampled_from([AGE, SIZE, FLOOR])))
def test_the_plan_is_the_twins(units, rules, free_gb, allowed):
    now = situation(*units, free_gb=free_gb)
    what = plan(now, rules, allowed)
    named = [(one.series, one.t, tier, one.why) for one in what.drops for tier in one.tiers]
    assert len(named) == len(set(named))
    assert (set(what.plates), set(named)) == twin(now, rules, allowed)
    for one in what.drops:
        [of] = [u for u in units if (u.series, u.t) == (one.series, one.t)]
        assert one.bytes == sum(of.sizes[tier] for tier in one.tiers)
        assert set(one.tiers).isdisjoint(of.dropped)


@given(stores(), rule_sets(), st.integers(0, 60), st.floats(0, 48))
def test_whatever_is_deleted_was_pressing(units, rules, free_gb, hours):
    now = situation(*units, free_gb=free_gb)
    rules = rules.model_copy(update={"warn_hours": hours})
    what = plan(now, rules, {AGE, SIZE, FLOOR})
    causes = {one.why for one in what.drops} | ({AGE} if what.plates else set())
    assert causes <= set(pressing(now, rules))


def measure() -> dict[str, float]:
    """Run by hand (`python tests/test_retention.py`): seconds a pass over 55,000 units, each a slot of its own."""
    units = [unit(t % 3, t, days=t / 2000, size=10**6) for t in range(55_000)]
    rules = Retention(pixels_days=5, labels_days=20, max_gb=100, free_floor_gb=100)
    start = time.perf_counter()
    now = situation(*units, free_gb=10)
    found = {"pressing_s": 0.0, "plan_s": 0.0, "drops": 0.0}
    pressing(now, rules)
    found["pressing_s"] = time.perf_counter() - start
    found["drops"] = len(plan(now, rules, {AGE, SIZE, FLOOR}).drops)
    found["plan_s"] = time.perf_counter() - start - found["pressing_s"]
    return found


if __name__ == "__main__":
    print(measure())
