"""Scoring a pipeline against a rehearsal's truth."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.rehearse.score import agreement, dead_share, figures, match_cells, score_counts
from cellvigil.rehearse.truth import CellRow, WellRow


def well(name: str, time: int, arm: str, live: int, apoptotic: int, necrotic: int, field: int = 1) -> WellRow:
    return WellRow(name, field, time, arm, 2.0 * time, live, apoptotic, necrotic, 1, False)


def cell(y: float, x: float, radius: float = 10.0, state: str = "live", detectable: bool = True) -> CellRow:
    return CellRow("A1", 1, 0, 1, y, x, radius, state, "control", not detectable, detectable)


TRUTH = [
    well("A1", 0, "control", 10, 0, 0),
    well("B1", 0, "treated", 8, 0, 2),
    well("B1", 0, "treated", 10, 0, 0, field=2),
    well("B2", 0, "treated", 20, 0, 0),
    well("A1", 1, "control", 9, 1, 0),
    well("B1", 1, "treated", 5, 3, 2),
    well("B1", 1, "treated", 5, 5, 0, field=2),
]
COUNTED = {
    ("A1", 0): {"live": 10},
    ("B1", 0): {"live": 18, "apoptotic": 1, "necrotic": 1, "unknown": 3, "debris": 2},
    ("A1", 1): {"live": 10},
    ("B1", 1): {"live": 12, "apoptotic": 4, "necrotic": 4},
    ("H9", 1): {"live": 5},  # not on the plate
}


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ({"live": 3, "apoptotic": 1}, 0.25),
        ({"live": 1, "apoptotic": 1, "necrotic": 2, "debris": 50, "unknown": 9}, 0.75),
        ({"debris": 4}, math.nan),
        ({}, math.nan),
    ],
)
def test_share_leaves_debris_and_unknown_out(counts: dict[str, int], share: float) -> None:
    assert dead_share(counts) == pytest.approx(share, nan_ok=True)


def test_table_by_arm_and_time_sums_fields_and_counted_wells_only() -> None:
    rows = score_counts(COUNTED, TRUTH)
    assert [(row.arm, row.timepoint, row.wells) for row in rows] == [
        ("control", 0, 1),
        ("control", 1, 1),
        ("treated", 0, 1),  # B2 was not counted
        ("treated", 1, 1),
    ]
    last = rows[3]
    assert last.hours == 2.0
    assert last.true == {"live": 10, "apoptotic": 8, "necrotic": 2, "debris": 2}
    assert last.counted == {"live": 12, "apoptotic": 4, "necrotic": 4}
    assert (last.counted_share, last.true_share) == (pytest.approx(0.4), pytest.approx(0.5))


def test_agreement_by_hand() -> None:
    result = agreement(COUNTED, TRUTH)
    ours, true = [0, 0.1, 0, 0.4], [0, 0.1, 0.1, 0.5]
    assert result.points == 4
    assert result.share_error == pytest.approx(0.05)
    assert result.worst_error == pytest.approx(0.1)
    assert result.correlation == pytest.approx(np.corrcoef(ours, true)[0, 1])
    assert result.count_ratio == pytest.approx(60 / 60)


def test_agreement_of_nothing_is_not_a_number() -> None:
    result = agreement({}, TRUTH)
    assert result.points == 0
    assert all(math.isnan(value) for value in (result.share_error, result.correlation, result.count_ratio))


def test_each_cell_is_matched_once_the_nearest_first() -> None:
    truth = [cell(0, 0), cell(0, 12, state="necrotic"), cell(100, 100, detectable=False), cell(50, 50)]
    centroids = [(0, 5), (0, 7), (101, 100), (200, 200)]
    matching = match_cells(centroids, ["live", "necrotic", "live", "live"], truth)
    assert set(matching.pairs) == {(0, 0), (1, 1), (2, 2)}
    assert (matching.expected, matching.found, matching.spurious) == (3, 2, 1)
    assert dict(matching.confusion) == {("live", "live"): 1, ("necrotic", "necrotic"): 1}


def test_figures_pool_frames() -> None:
    one = match_cells([(0, 0), (40, 40)], ["live", "unknown"], [cell(0, 0), cell(40, 40), cell(80, 80)])
    two = match_cells([(0, 0), (500, 0)], ["live", "live"], [cell(0, 0, state="necrotic")])
    result = figures([one, two])
    assert result.expected == 4
    assert result.recall == pytest.approx(3 / 4)
    assert result.precision == pytest.approx(3 / 4)
    assert result.by_state == {"live": 0.5, "necrotic": 0.0}
    assert result.balanced_accuracy == pytest.approx(0.25)


@pytest.mark.parametrize(("centroids", "truth"), [([], []), ([], [cell(1, 1)]), ([(1, 1)], [])])
def test_empty_frames_match_nothing(centroids: list[tuple[float, float]], truth: list[CellRow]) -> None:
    matching = match_cells(centroids, ["live"] * len(centroids), truth)
    assert (matching.pairs, matching.expected, matching.spurious) == ((), len(truth), len(centroids))
    result = figures([matching])
    assert math.isnan(result.balanced_accuracy)


def slow_match(points: list[tuple[int, int]], truth: list[CellRow]) -> set[tuple[int, int]]:
    """The obvious version: take the nearest pair that is left, again and again."""
    pairs: set[tuple[int, int]] = set()
    while True:
        left = [
            (math.dist(points[i], (truth[j].y_px, truth[j].x_px)), i, j)
            for i, j in product(range(len(points)), range(len(truth)))
            if i not in {a for a, _ in pairs} and j not in {b for _, b in pairs}
        ]
        near = [entry for entry in left if entry[0] <= truth[entry[2]].radius_px]
        if not near:
            return pairs
        pairs.add(min(near)[1:])


places = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=7)


@settings(max_examples=60, deadline=None)
@given(places, places, st.integers(1, 12))
def test_matching_agrees_with_the_obvious_version(
    points: list[tuple[int, int]], centres: list[tuple[int, int]], radius: int
) -> None:
    truth = [cell(y, x, radius) for y, x in centres]
    assert set(match_cells(points, ["live"] * len(points), truth).pairs) == slow_match(points, truth)
