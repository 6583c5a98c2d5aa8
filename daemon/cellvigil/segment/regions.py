"""From the cells' common mask to single cells: small basins, joined wherever no bright line runs between them. Pure.

Touching cells are told apart by the bright line where their halos meet. Its height is the relief's curvature across it.
The mask is first cut into basins (each pixel climbs away from the lines), too many; then the pair of neighbours that is
parted least is joined, again and again, each only with its own best partner, until what parts the rest is a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I32, I64, Bools
from cellvigil.segment.texture import blurred

F64 = npt.NDArray[np.float64]

_LINE_WIDTH = 24  # a bright line is about the diameter divided by this wide
_SPOT = 1.5  # how much a bright spot (curved in both directions) counts against a line
_BASIN = 40  # basins no finer than the diameter divided by this
_STOP = 0.6  # lines higher than this part cells
_FULL_SIZE = 0.75  # of a typical cell's area: smaller regions join more easily ...
_SIZE_POWER = 0.8
_UNION_SIZE = 0.8  # ... and so do two that are together smaller than this
_CONTACT = (0.0, 0.25, 0.4, 1.0)  # share of its outline that a region has in common with the other ...
_CONTACT_FACTOR = (1.5, 1.2, 1.0, 0.3)  # ... and what that does to the line's height
_NECK = 0.8  # a waist narrower than this share of the thinner part is cut
_THIN = 0.08  # parts thinner than this share of the diameter are no cells of their own


@dataclass(slots=True, eq=False)
class _Borders:
    """Between which regions borders run, how long they are, and what they add up to."""

    one: I64  # (m,)
    other: I64  # (m,)
    length: F64  # (m,) pixels
    height: F64  # (m,) sum of the line heights


def lines(image: F32, contrast: F32, bright: Bools, diameter_px: float) -> F32:
    """Height of the bright lines, (Y, X) >= 0; none inside bodies that are bright as a whole."""
    sigma = diameter_px / _LINE_WIDTH
    scaled = blurred(image / contrast, sigma)
    xx, yy, xy = (
        cv2.Sobel(scaled, cv2.CV_32F, *order, ksize=3) * (sigma * sigma / 4) for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, radius = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    across, along = np.maximum(radius - middle, 0), np.maximum(-radius - middle, 0)
    height = np.maximum(across - _SPOT * along, 0)
    height[bright] = 0
    return np.asarray(height, dtype=np.float32)


def joined(mask: Bools, height: F32, diameter_px: float) -> I32:
    """Regions of the mask, numbered from 1 with gaps; 0 = outside."""
    labels, count = basins(-blurred(height, diameter_px / _BASIN), mask)
    area = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    roots = _join(_borders(labels, count, height), area, np.pi / 4 * diameter_px**2)
    return np.asarray(roots[labels], dtype=np.int32)


def basins(height: F32, mask: Bools) -> tuple[I32, int]:
    """Which summit each pixel reaches by steepest ascent: labels (0 outside the mask) and their number, 0 included."""
    rows, columns = height.shape
    best = height.copy()
    upward: npt.NDArray[np.int32] = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    around = cv2.copyMakeBorder(height, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=-1e9)
    places = cv2.copyMakeBorder(upward, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        there = around[dy : dy + rows, dx : dx + columns]
        higher = there > best
        np.copyto(best, there, where=higher)
        np.copyto(upward, places[dy : dy + rows, dx : dx + columns], where=higher)
    path = upward.ravel()
    while not np.array_equal(further := path[path], path):
        path = further
    summits = (path == np.arange(rows * columns)) & mask.ravel()
    count, plateaus = cv2.connectedComponents(summits.reshape(rows, columns).astype(np.uint8), connectivity=8)
    labels = np.where(mask, plateaus.ravel()[path].reshape(rows, columns), 0)
    return labels.astype(np.int32), int(count)


def cut_at_necks(labels: I32, diameter_px: float) -> I32:
    """Cut regions at waists: parts whose widths are both well above that of the passage between them."""
    inner = (cv2.erode(labels.astype(np.float32), np.ones((3, 3), np.uint8)) == labels) & (labels > 0)
    depth = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5) / np.float32(diameter_px)
    depth = blurred(depth, 1.0)
    depth[~inner] = 0
    parts = _waists(depth, inner)
    grown = cv2.dilate(parts.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    return np.where((parts == 0) & (labels > 0), grown, parts).astype(np.int32)


def _borders(labels: I32, count: int, height: F32) -> _Borders:
    keys, values = [], []
    for near, far, low, high in _neighbours(labels, height):
        apart = near != far
        pair = np.minimum(near[apart], far[apart]).astype(np.int64) * count + np.maximum(near[apart], far[apart])
        keys.append(pair)
        values.append(np.maximum(low[apart], high[apart]))
    return _merged(np.concatenate(keys), np.ones(sum(map(len, keys))), np.concatenate(values), count)


def _neighbours(labels: I32, values: F32) -> tuple[tuple[I32, I32, F32, F32], ...]:
    """Every pixel and the one right of it, then the one below: labels and values."""
    return (
        (labels[:, :-1], labels[:, 1:], values[:, :-1], values[:, 1:]),
        (labels[:-1], labels[1:], values[:-1], values[1:]),
    )


def _merged(keys: I64, lengths: F64, heights: npt.NDArray[np.floating], count: int) -> _Borders:
    pairs, where = np.unique(keys, return_inverse=True)
    length: F64 = np.bincount(where, lengths).astype(np.float64)
    height: F64 = np.bincount(where, heights.astype(np.float64)).astype(np.float64)
    return _Borders(pairs // count, pairs % count, length, height)


def _join(borders: _Borders, area: F64, cell: float) -> I64:
    """Join mutual best partners until none is parted by less than a line; returns each region's root."""
    count = len(area)
    roots: I64 = np.arange(count)
    while len(borders.one):
        cost = _cost(borders, area, cell)
        best = np.full(count, np.inf)
        np.minimum.at(best, borders.one, cost)
        np.minimum.at(best, borders.other, cost)
        mutual = np.flatnonzero((cost <= _STOP) & (cost == best[borders.one]) & (cost == best[borders.other]))
        chosen = _disjoint(mutual, borders)
        if not chosen:
            break
        kept, gone = borders.one[chosen], borders.other[chosen]
        into: I64 = np.arange(count)
        into[gone] = kept
        area[kept] += area[gone]
        roots = into[roots]
        one, other = into[borders.one], into[borders.other]
        apart = one != other
        keys = np.minimum(one[apart], other[apart]) * count + np.maximum(one[apart], other[apart])
        borders = _merged(keys, borders.length[apart], borders.height[apart], count)
    return roots


def _cost(borders: _Borders, area: F64, cell: float) -> F64:
    """What parts two regions: the mean height of the line, less for small ones and for long common borders."""
    one, other = borders.one, borders.other
    outline = np.bincount(one, borders.length, len(area)) + np.bincount(other, borders.length, len(area))
    smaller = np.where(area[one] < area[other], one, other)
    contact = np.interp(borders.length / outline[smaller], _CONTACT, _CONTACT_FACTOR)
    size = np.minimum(1, area[smaller] / (_FULL_SIZE * cell)) ** _SIZE_POWER
    union = np.minimum(1, (area[one] + area[other]) / (_UNION_SIZE * cell))
    cost = borders.height / borders.length * size * contact * union
    return np.asarray(np.where((one == 0) | (other == 0), np.inf, cost))


def _disjoint(mutual: I64, borders: _Borders) -> list[int]:
    """Of several equally good pairs with a region in common only the first."""
    taken: set[int] = set()
    chosen = []
    for edge, one, other in zip(
        mutual.tolist(), borders.one[mutual].tolist(), borders.other[mutual].tolist(), strict=True
    ):
        if one not in taken and other not in taken:
            taken |= {one, other}
            chosen.append(edge)
    return chosen


def _waists(depth: F32, inner: Bools) -> I32:
    """Basins of the depth map, joined over every passage that is no waist, the widest passage first."""
    labels, count = basins(depth, inner)
    peaks = np.zeros(count)
    np.maximum.at(peaks, labels.ravel(), depth.ravel())
    passages: dict[tuple[int, int], float] = {}
    for near, far, low, high in _neighbours(labels, depth):
        apart = (near != far) & (near > 0) & (far > 0)
        ends = np.sort(np.stack([near[apart], far[apart]], axis=1), axis=1).tolist()
        for (one, other), width in zip(ends, np.minimum(low[apart], high[apart]).tolist(), strict=True):
            passages[one, other] = max(width, passages.get((one, other), 0.0))
    parent = list(range(count))
    peak = peaks.tolist()

    def root(part: int) -> int:
        while parent[part] != part:
            part = parent[part]
        return part

    for (one, other), width in sorted(passages.items(), key=lambda item: (-item[1], item[0])):
        a, b = root(one), root(other)
        thinner = min(peak[a], peak[b])
        if a != b and (width >= _NECK * thinner or thinner < _THIN):
            parent[b] = a
            peak[a] = max(peak[a], peak[b])
    return np.asarray([root(part) for part in range(count)], dtype=np.int32)[labels]
