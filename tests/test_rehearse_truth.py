"""The truth beside a rehearsal agrees with itself and with the pictures."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.holotomography import refractive_index
from cellvigil.rehearse.run import run
from cellvigil.rehearse.scene import STATES
from cellvigil.rehearse.truth import CellRow, cell_rows, read_cells, read_wells

ASSAY = Assay(timepoints=6, dosed_at=0, cells=40, defocus_rate=0.0, bubble_rate=0.0)


def spread(image: np.ndarray) -> np.ndarray:
    """Standard deviation of the values about each pixel."""
    flat = image.astype(np.float32) - np.float32(image.mean())
    mean = cv2.blur(flat, (15, 15))
    return np.asarray(np.sqrt(np.maximum(cv2.blur(flat * flat, (15, 15)) - mean * mean, 0)))


def about(plane: np.ndarray, row: CellRow) -> np.ndarray:
    """The square of a plane that a cell covers."""
    y, x, reach = round(row.y_px), round(row.x_px), max(3, round(0.9 * row.radius_px))
    return plane[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]


@pytest.mark.parametrize("kind", ["gen5", "nanolive"])
def test_there_is_a_cell_in_the_picture_where_the_truth_says_so(kind: str) -> None:
    assay = replace(ASSAY, kind=kind, cells=None)
    paint = optics.bright_field if kind == "gen5" else refractive_index
    seen: Counter[tuple[str, bool]] = Counter()
    for scene in simulate(assay):
        plane = spread(paint(scene, assay.optics))
        rows = cell_rows(scene, assay.frame_shape, assay.micrometres_a_pixel, assay.mitosis)
        free = np.ones(assay.frame_shape, dtype=np.uint8)
        for row in rows:
            cv2.circle(free, (round(row.x_px), round(row.y_px)), round(1.5 * row.radius_px) + 12, 0, -1)
        ground = np.median(plane[free > 0])
        seen.update((row.state, bool(np.median(about(plane, row)) > 1.4 * ground)) for row in rows if row.detectable)
    for state in STATES:
        assert seen[state, True] > 0.97 * (seen[state, True] + seen[state, False]) > 0, state


def test_states_do_not_differ_by_brightness_alone() -> None:
    assay = replace(ASSAY, timepoints=8)
    means: dict[str, list[float]] = {state: [] for state in STATES}
    for scene in simulate(assay):
        image = optics.bright_field(scene, assay.optics).astype(float)
        for row in cell_rows(scene, assay.frame_shape, assay.micrometres_a_pixel, assay.mitosis):
            if row.detectable:
                means[row.state].append(about(image, row).mean())
    live, dead = np.array(means["live"]), np.array(means["apoptotic"] + means["necrotic"])
    above = (live[:, None] > dead[None, :]).mean()
    assert 0.5 < above < 0.97


def test_the_tables_agree_with_each_other_and_with_the_result(tmp_path: Path) -> None:
    done = run(replace(ASSAY, defocus_rate=0.3, fields=2, shape=(256, 256), cells=10), tmp_path)
    wells, cells = read_wells(done.truth / "wells.csv"), read_cells(done.truth / "cells.csv")
    assert tuple(wells) == done.wells
    counted = Counter((cell.well, cell.field, cell.timepoint, cell.state) for cell in cells if cell.detectable)
    for row in wells:
        for state in STATES:
            assert counted[row.well, row.field, row.timepoint, state] == getattr(row, state)
    assert sum(counted.values()) == sum(getattr(row, state) for row in wells for state in STATES)
    assert {row.defocused for row in wells} == {True, False}
    assert {(row.well, row.arm) for row in wells} == {(cell.well, cell.arm) for cell in cells}


def test_cells_at_the_border_are_marked_and_not_counted() -> None:
    rows = [row for scene in simulate(ASSAY) for row in cell_rows(scene, ASSAY.frame_shape, 0.322, ASSAY.mitosis)]
    height, width = ASSAY.frame_shape
    cut = [row for row in rows if row.in_frame_edge]
    assert cut
    assert not any(row.detectable for row in cut)
    for row in rows:
        margin = min(row.y_px, row.x_px, height - 1 - row.y_px, width - 1 - row.x_px)
        if margin < 0.7 * row.radius_px:
            assert row.in_frame_edge
        if margin > 1.5 * row.radius_px:
            assert not row.in_frame_edge


def test_cells_under_a_bubble_are_not_detectable() -> None:
    scene = next(simulate(ASSAY))
    hidden = replace(scene, bubbles=np.array([[70.0, 95.0, 30.0]]))
    before, after = (
        {row.cell_id: row for row in cell_rows(view, ASSAY.frame_shape, 0.322, ASSAY.mitosis)}
        for view in (scene, hidden)
    )
    lost = {key for key in before if before[key].detectable and not after[key].detectable}
    under = {
        key
        for key, row in before.items()
        if np.hypot(row.y_px * 0.322 - 70, row.x_px * 0.322 - 95) < 30 and row.detectable
    }
    assert lost == under != set()
