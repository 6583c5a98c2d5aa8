"""What is measured of each cell, beyond the twin in test_segment.py: odd grids, borders, empty fields."""

import numpy as np
import pytest

from cellvigil.segment import cells_from_labels


def test_a_grid_that_does_not_divide_the_frame_mixes_no_labels():
    labels = np.zeros((28, 31), np.int32)
    labels[5:15, 4:14], labels[5:15, 14:24] = 7, 90
    cells = cells_from_labels(labels, (75, 83), (0.4, 0.4))
    assert set(np.unique(cells.labels)) == {0, 1, 2}
    scale = np.array([75 / 28, 83 / 31])
    np.testing.assert_allclose(cells.centroids_px, (np.array([(10, 9), (10, 19)]) * scale) - 0.5, atol=0.6)
    np.testing.assert_allclose(cells.areas_um2, 100 * scale.prod() * 0.16, rtol=0.06)


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (0, 0)])
def test_no_labels_no_cells(shape):
    cells = cells_from_labels(np.zeros(shape, np.int32), shape, (0.3, 0.3))
    assert len(cells) == 0
    assert cells.labels.shape == shape
    assert (cells.centroids_px.shape, cells.boxes_px.shape) == ((0, 2), (0, 4))
    assert (cells.areas_um2.shape, cells.touches_edge.shape) == ((0,), (0,))


@pytest.mark.parametrize(
    ("box", "margin_um", "touches"),
    [
        ((0, 4, 3, 7), 0.0, True),
        ((1, 4, 3, 7), 0.0, False),
        ((4, 0, 7, 3), 0.0, True),
        ((17, 4, 20, 7), 0.0, True),
        ((16, 4, 19, 7), 0.0, False),
        ((4, 27, 7, 30), 0.0, True),
        ((4, 26, 7, 29), 0.0, False),
        ((2, 6, 8, 20), 1.0, False),  # rows of 0.5 um: just 1 um away
        ((1, 6, 8, 20), 1.0, True),
        ((8, 1, 12, 20), 1.0, False),  # columns of 1 um
        ((8, 0, 12, 20), 1.0, True),
        ((8, 12, 12, 26), 5.0, True),
        ((10, 10, 11, 20), 4.0, False),
    ],
)
def test_cells_near_the_border_are_marked(box, margin_um, touches):
    y0, x0, y1, x1 = box
    labels = np.zeros((20, 30), np.int32)
    labels[y0:y1, x0:x1] = 5
    assert cells_from_labels(labels, (20, 30), (0.5, 1.0), margin_um).touches_edge.tolist() == [touches]


def test_the_same_cells_whatever_their_numbers():
    labels = np.zeros((20, 20), np.int32)
    labels[2:6, 2:6], labels[10:14, 3:9] = 1, 2
    big = np.where(labels == 1, 40, np.where(labels == 2, 100_000, 0)).astype(np.int32)
    one, other = (cells_from_labels(grid, (20, 20), (1.0, 1.0)) for grid in (labels, big))
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.centroids_px, other.centroids_px)
