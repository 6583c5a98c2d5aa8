"""Shares of arms: the mean over wells, and an interval that respects wells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellvigil.response.arms import arm_shares
from cellvigil.response.correction import Confusion, Mixtures, corrected, take_apart
from cellvigil.response.correlation import Correlation, between_wells
from cellvigil.response.shares import plain
from cellvigil.response.values import PlateCounts
from counted_cells import CLASSES, HOME, called_cells, clustered_cells, plate_counts

SOME = Correlation(0.05, "fields", 20)
MEASURED = Confusion(CLASSES, HOME * 300)
ARMS = ["drug", "", "control", "drug", "control", "control"]


def apart(counts: PlateCounts, confusion: Confusion = MEASURED) -> Mixtures:
    found, status = take_apart(counts, confusion, SOME)
    assert status == "ok"
    assert found is not None
    return found


def some_counts(seed: int = 0, wells: int = 6, fields: int = 2) -> PlateCounts:
    mean = np.random.default_rng(seed).dirichlet((5, 1, 2, 1), size=(wells, 3))
    return plate_counts(called_cells(clustered_cells(mean, fields, 100, 0.05, seed), HOME, seed))


def test_an_arm_is_the_mean_of_its_wells_and_wells_of_no_arm_are_in_none() -> None:
    counts = some_counts()
    names, wells, plain_arms, corrected_arms = arm_shares(counts, ARMS, apart(counts))
    assert names == ("control", "drug")
    assert wells.tolist() == [3, 2]
    for found, of_wells in ((plain_arms, plain(counts, SOME)), (corrected_arms, corrected(counts, MEASURED, SOME)[0])):
        assert found.value[0] == pytest.approx(of_wells.value[[2, 4, 5]].mean(axis=0), nan_ok=True)
        assert found.value[1] == pytest.approx(of_wells.value[[0, 3]].mean(axis=0), nan_ok=True)


def test_every_well_weighs_the_same_however_many_cells_it_has() -> None:
    cells = np.zeros((2, 1, 1, 5))
    cells[0, 0, 0, :3], cells[1, 0, 0, :3] = (10, 0, 0), (0, 0, 1000)
    _, _, found, _ = arm_shares(plate_counts(cells), ["a", "a"], None)
    assert found.value[0, 0, :3] == pytest.approx([0.5, 0, 0.5])


def test_a_well_without_a_value_at_a_time_is_left_out_there_and_only_there() -> None:
    counts = some_counts()
    counted = np.ones((6, 3, 2), dtype=bool)
    counted[4, 1] = False
    fewer = plate_counts(counts.counts, counted=counted)
    shares = plain(fewer, SOME).value
    _, wells, found, _ = arm_shares(fewer, ARMS, None)
    assert wells.tolist() == [3, 2]
    assert found.value[0, 1, :3] == pytest.approx(shares[[2, 5], 1, :3].mean(axis=0))
    assert found.value[0, 0, :3] == pytest.approx(shares[[2, 4, 5], 0, :3].mean(axis=0))


def test_an_arm_without_any_value_has_no_share() -> None:
    counts = plate_counts(
        some_counts().counts,
        counted=np.array([0, 1, 1, 0, 1, 1], dtype=bool)[:, None, None] & np.ones((6, 3, 2), dtype=bool),
    )
    _, _, first, second = arm_shares(counts, ARMS, apart(counts))
    for found in (first, second):
        assert np.isnan(found.value[1]).all()
        assert np.isnan(found.low[1]).all()
        assert np.isnan(found.high[1]).all()
        assert not np.isnan(found.value[0, :, :3]).any()


def test_without_mixtures_there_is_no_corrected_share() -> None:
    _, _, first, second = arm_shares(some_counts(), ARMS, None)
    assert second.value.shape == first.value.shape == (2, 3, 5)
    assert np.isnan(second.value).all()


@pytest.mark.parametrize("wells", [0, 4])
def test_a_plate_without_arms_is_no_error(wells: int) -> None:
    names, sizes, first, second = arm_shares(plate_counts(np.ones((wells, 2, 1, 5))), [""] * wells, None)
    assert (names, sizes.tolist()) == ((), [])
    assert first.value.shape == second.value.shape == (0, 2, 5)


@settings(deadline=None, max_examples=40)
@given(arrays(np.int32, (6, 2, 2, 5), elements=st.integers(0, 60)))
def test_an_interval_holds_its_share_within_0_and_1(cells: np.ndarray) -> None:
    counts = plate_counts(cells)
    _, _, first, second = arm_shares(counts, ARMS, take_apart(counts, MEASURED, SOME)[0])
    for found in (first, second):
        there = ~np.isnan(found.value)
        assert (there == ~np.isnan(found.low)).all()
        assert (there == ~np.isnan(found.high)).all()
        assert (found.low[there] >= 0).all()
        assert (found.high[there] <= 1).all()
        assert (found.low[there] <= found.value[there] + 1e-9).all()
        assert (found.value[there] <= found.high[there] + 1e-9).all()


def test_nothing_dead_in_any_well_has_an_interval_of_one_side() -> None:
    cells = np.zeros((4, 1, 2, 5))
    cells[..., 0] = 80
    _, _, found, _ = arm_shares(plate_counts(cells), ["a"] * 4, None)
    assert found.value[0, 0, 2] == found.low[0, 0, 2] == 0
    assert 0.01 < found.high[0, 0, 2] < 0.3
    assert found.high[0, 0, 0] == 1


def test_more_wells_narrow_the_interval_and_more_cells_of_the_same_wells_hardly_do() -> None:
    between = Correlation(0.08, "wells", 20)
    mean = np.tile([0.6, 0.1, 0.3, 0, 0], (8, 1, 1))

    def width(wells: int, cells: int) -> float:
        exact = np.rint(mean[:wells, :, None] * cells)
        _, _, found, _ = arm_shares(plate_counts(exact), ["a"] * wells, None, between=between)
        return float((found.high - found.low)[0, 0, 2])

    assert width(8, 100) < 0.6 * width(2, 100)
    assert width(3, 10_000) > 0.75 * width(3, 100)


def test_one_well_has_the_interval_that_other_wells_of_other_arms_give() -> None:
    counts = some_counts(wells=13, fields=1)
    arms = ["one", *["a"] * 6, *["b"] * 6]
    names, _, found, _ = arm_shares(counts, arms, None)
    assert between_wells(counts, arms).basis == "wells"
    own = plain(counts, between_wells(counts, arms))
    place = names.index("one")
    assert found.low[place] == pytest.approx(own.low[0], abs=1e-5, nan_ok=True)
    assert found.high[place] == pytest.approx(own.high[0], abs=1e-5, nan_ok=True)


def test_wells_that_disagree_widen_their_own_arm() -> None:
    between = Correlation(0.02, "wells", 20)
    agreeing, torn = np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.1, 0.9, 0.1, 0.9])
    dead = np.concatenate([agreeing, torn])
    cells = np.stack([100 * (1 - dead), 0 * dead, 100 * dead, 0 * dead, 0 * dead], axis=-1)[:, None, None]
    _, _, found, _ = arm_shares(plate_counts(np.rint(cells)), ["a"] * 4 + ["b"] * 4, None, between=between)
    widths = (found.high - found.low)[:, 0, 2]
    assert found.value[:, 0, 2] == pytest.approx([0.5, 0.5])
    assert widths[1] > 1.5 * widths[0]


def test_doubt_in_the_confusion_does_not_shrink_with_the_number_of_wells() -> None:
    """All wells share one confusion matrix: its error is the same in all of them."""
    between = Correlation(0.001, "wells", 200)
    true = np.tile([3000, 500, 1500, 300], (40, 1, 2, 1))
    counts = plate_counts(called_cells(true, HOME, 1))
    arms = ["many"] * 38 + ["few"] * 2
    widths = {}
    for weight in (60, 1e6):
        names, _, _, found = arm_shares(counts, arms, apart(counts, Confusion(CLASSES, HOME * weight)), between=between)
        widths[weight] = dict(zip(names, (found.high - found.low)[:, 0, 2], strict=True))
    assert widths[60]["many"] > 0.85 * widths[60]["few"] - widths[1e6]["few"]
    assert widths[60]["many"] > 3 * widths[1e6]["many"]


def test_a_part_of_the_course_takes_its_correlation_from_the_whole() -> None:
    counts = some_counts()
    between = between_wells(counts, ARMS)
    whole = arm_shares(counts, ARMS, apart(counts), between=between)
    part = arm_shares(counts.at(np.full(6, 2)), ARMS, apart(counts.at(np.full(6, 2))), between=between)
    for all_times, one_time in zip(whole[2:], part[2:], strict=True):
        assert one_time.low == pytest.approx(all_times.low[:, [2]], nan_ok=True)
        assert one_time.high == pytest.approx(all_times.high[:, [2]], nan_ok=True)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_the_interval_covers_what_infinitely_many_wells_would_show(size: int) -> None:
    """1,300 intervals; the whole measurement is benchmarks/intervals.py."""
    inside = []
    for seed in range(24):
        random = np.random.default_rng(seed)
        means = random.dirichlet((4, 1, 2), size=9)
        arms = [str(place) for place in range(9) for _ in range(size)]
        wells = np.stack([random.dirichlet(means[int(arm)] * 40, size=2) for arm in arms])
        wells = np.concatenate([wells, np.zeros((*wells.shape[:2], 2))], axis=-1)
        counts = plate_counts(clustered_cells(wells, 2, 60, 0.05, seed))
        _, _, found, _ = arm_shares(counts, arms, None)
        true = means[:, None]
        inside.append(((found.low[..., :3] <= true) & (true <= found.high[..., :3])).mean())
    assert 0.92 < np.mean(inside) < 0.985
