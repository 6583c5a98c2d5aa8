"""From a segmenter's label image to the cells of a frame, on the raw frame's grid. Pure."""

from __future__ import annotations

import cv2
import numpy as np

from cellvigil.data import F32, I32, Cells


def cells_from_labels(
    labels: I32, frame_shape: tuple[int, ...], pixel_size_um: tuple[float, float], edge_margin_um: float = 0.0
) -> Cells:
    """Bring `labels` (Y, X) i32 (0 = background, any grid over the same field) to the raw grid and measure each cell.

    `frame_shape` is (Y, X) of the raw frame, `pixel_size_um` its (y, x) micrometres a pixel. The grid is changed by
    nearest neighbour, so no label is mixed; the labels are renumbered 1..n in their order, without gaps (one that
    leaves no raw pixel is dropped). `touches_edge` is set for a mask that reaches the image's border or comes nearer
    to it than `edge_margin_um`. n may be 0. Raises ValueError for a negative label.
    """
    raw = _on_grid(np.asarray(labels), (frame_shape[0], frame_shape[1]))
    if raw.size and raw.min() < 0:
        raise ValueError("labels must be 0 (background) or positive")
    numbered, areas_px = _renumbered(raw)
    centroids, boxes = _places(numbered, areas_px)
    y_margin, x_margin = (max(1.0, edge_margin_um / size) for size in pixel_size_um)
    height, width = numbered.shape
    y0, x0, y1, x1 = boxes.T
    near = (y0 < y_margin) | (x0 < x_margin) | (y1 > height - y_margin) | (x1 > width - x_margin)
    return Cells(
        labels=numbered,
        centroids_px=centroids,
        boxes_px=boxes,
        areas_um2=(areas_px * (pixel_size_um[0] * pixel_size_um[1])).astype(np.float32),
        touches_edge=np.asarray(near),
    )


def _on_grid(labels: I32, shape: tuple[int, int]) -> I32:
    if labels.shape == shape:
        return labels
    source = np.ascontiguousarray(labels, dtype=np.int32)
    return np.asarray(cv2.resize(source, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.int32)


def _renumbered(labels: I32) -> tuple[I32, np.ndarray]:
    """The labels as 1..n without gaps, and the area in pixels of each."""
    counts = np.bincount(labels.ravel())
    there = counts > 0
    there[:1] = False
    table = (np.cumsum(there) * there).astype(np.int32)
    return table[labels], counts[there]


def _places(labels: I32, areas_px: np.ndarray) -> tuple[F32, I32]:
    """Centroids (n, 2) y, x and half-open boxes (n, 4) y0, x0, y1, x1 of labels 1..n, in pixels."""
    n, columns = len(areas_px), labels.shape[1]
    flat = labels.ravel()
    at = np.flatnonzero(flat)
    owner = flat[at] - 1
    y = at // columns
    x = at - y * columns
    middles = [np.bincount(owner, weights=line, minlength=n) / np.maximum(areas_px, 1) for line in (y, x)]
    top, bottom, right = (np.zeros(n, dtype=np.int64) for _ in range(3))
    left = np.full(n, columns, dtype=np.int64)
    # Row by row, so a label's first and last pixel bound its box above and below; columns have to be compared.
    top[owner[::-1]] = y[::-1]
    bottom[owner] = y
    np.minimum.at(left, owner, x)
    np.maximum.at(right, owner, x)
    boxes = np.stack([top, left, bottom + 1, right + 1], axis=1)
    return np.stack(middles, axis=1).astype(np.float32), boxes.astype(np.int32)
