"""How much cells of one field, or well, resemble each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellvigil.response.correlation import (
    DEFAULT,
    MOST,
    NOTHING_KNOWN,
    PRIOR,
    USUAL,
    Correlation,
    between_wells,
    intraclass,
)
from counted_cells import clustered_cells, plate_counts


def controls(counts: int, wells: int) -> np.ndarray:
    return np.arange(wells) < counts


@pytest.mark.parametrize("correlation", [0.02, 0.1, 0.3])
def test_the_correlation_of_many_fields_is_found(correlation: float) -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (60, 4, 1))
    found = intraclass(plate_counts(clustered_cells(mean, 4, 80, correlation, 1)), controls(60, 60))
    assert found.basis == "fields"
    assert found.clusters == 180
    assert found.value == pytest.approx(correlation, rel=0.15)


def test_cells_that_do_not_resemble_each_other_have_none() -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (60, 4, 1))
    found = intraclass(plate_counts(clustered_cells(mean, 4, 80, 1e-5, 1)), controls(60, 60))
    assert found.value == pytest.approx(PRIOR * USUAL / (180 + PRIOR), abs=0.003)


def slow_estimate(groups: list[np.ndarray]) -> float:
    """Analysis of variance of every single cell's indicators: groups of (clusters, states) cells."""
    between = within = 0.0
    for cells in groups:
        clusters = [np.repeat(np.eye(len(row)), row.astype(int), axis=0) for row in cells if row.sum()]
        if len(clusters) < 2:
            continue
        everyone = np.concatenate(clusters)
        total, number = len(everyone), len(clusters)
        if total == number:
            continue
        inside = sum(((cluster - cluster.mean(axis=0)) ** 2).sum() for cluster in clusters) / (total - number)
        outside = sum(len(c) * ((c.mean(axis=0) - everyone.mean(axis=0)) ** 2).sum() for c in clusters)
        extent = total - sum(len(cluster) ** 2 for cluster in clusters) / total
        between += outside - (number - 1) * inside
        within += inside * extent
    return between / (between + within)


@given(arrays(np.int32, (3, 2, 3, 5), elements=st.integers(0, 12)))
def test_it_is_the_analysis_of_variance_of_single_cells(cells: np.ndarray) -> None:
    found = intraclass(plate_counts(cells), controls(3, 3))
    seen = (cells[..., :3].sum(axis=3) > 0).sum(axis=2).max(axis=1)
    clusters = int(np.maximum(seen - 1, 0).sum())
    if found.basis == "fields":
        assert found.clusters == clusters
        slow = slow_estimate([cells[w, t, :, :3] for w in range(3) for t in range(2)])
        assert found.value == pytest.approx((clusters * min(max(slow, 0), MOST) + PRIOR * USUAL) / (clusters + PRIOR))


def test_fields_of_treated_wells_do_not_count_where_controls_have_some() -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (6, 3, 1))
    cells = clustered_cells(mean, 3, 80, 0.1, 2)
    changed = cells.copy()
    changed[4:] = clustered_cells(mean[4:], 3, 80, 0.4, 3)
    assert intraclass(plate_counts(cells), controls(4, 6)) == intraclass(plate_counts(changed), controls(4, 6))


def test_without_control_wells_fields_of_any_well_tell_it() -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (6, 3, 1))
    counts = plate_counts(clustered_cells(mean, 3, 80, 0.1, 2))
    assert intraclass(counts, controls(0, 6)) == intraclass(counts, controls(6, 6))


def test_one_field_a_well_falls_back_to_control_wells() -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (8, 3, 1))
    found = intraclass(plate_counts(clustered_cells(mean, 1, 80, 0.1, 2)), controls(5, 8))
    assert found.basis == "wells"
    assert found.clusters == 4


def test_wells_are_compared_at_one_time_so_that_a_course_is_no_correlation() -> None:
    course = np.stack(
        [np.linspace(0.95, 0.1, 12), np.zeros(12), np.linspace(0.05, 0.9, 12), np.zeros(12), np.zeros(12)]
    )
    mean = np.tile(course.T, (20, 1, 1))
    found = intraclass(plate_counts(clustered_cells(mean, 1, 100, 1e-5, 2)), controls(20, 20))
    assert found.basis == "wells"
    assert found.value < 0.02


@pytest.mark.parametrize("number", [0, 1])
def test_with_neither_fields_nor_control_wells_the_default_stands(number: int) -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (8, 3, 1))
    found = intraclass(plate_counts(clustered_cells(mean, 1, 80, 0.1, 2)), controls(number, 8))
    assert found == Correlation(DEFAULT, "default", 0) == NOTHING_KNOWN


@pytest.mark.parametrize(
    "cells",
    [np.zeros((4, 2, 3, 5)), np.tile([50, 0, 0, 0, 0], (4, 2, 3, 1)), np.ones((4, 2, 3, 5)) * [1, 0, 0, 0, 0]],
    ids=["no cells", "one state", "one cell a field"],
)
def test_counts_that_tell_nothing_give_the_default(cells: np.ndarray) -> None:
    assert intraclass(plate_counts(cells), controls(4, 4)).value == DEFAULT


def test_excluded_fields_are_no_clusters() -> None:
    mean = np.tile([0.7, 0.1, 0.2, 0, 0], (6, 3, 1))
    counted = np.ones((6, 3, 3), dtype=bool)
    counted[:, :, 2] = False
    found = intraclass(plate_counts(clustered_cells(mean, 3, 80, 0.1, 2), counted=counted), controls(6, 6))
    assert found.clusters == 6


def test_between_wells_pools_the_arms_and_leaves_out_wells_of_none() -> None:
    treated, control = [0.2, 0.1, 0.7, 0, 0], [0.9, 0.05, 0.05, 0, 0]
    mean = np.stack([np.tile(each, (3, 1)) for each in [control] * 10 + [treated] * 10 + [[0, 1, 0, 0, 0]] * 2])
    counts = plate_counts(clustered_cells(mean, 1, 200, 0.05, 4))
    found = between_wells(counts, ["control"] * 10 + ["drug"] * 10 + ["", ""])
    assert found.basis == "wells"
    assert found.clusters == 18
    assert found.value < 0.12
    assert between_wells(counts, [f"arm {place}" for place in range(22)]) == NOTHING_KNOWN
