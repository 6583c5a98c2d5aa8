"""Regions of an image: watershed basins, joining them across weak borders, cutting them at waists. Pure, vectorised.

OpenCV's own watershed floods by the difference between neighbouring pixels, not by height, and so does not find the
basins of a landscape; here every pixel climbs to its highest neighbour until it stands on a summit.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I32, I64, Bools
from cellvigil.segment.shape import blurred

_LOWEST = -1e30
_FLAT_SUMMIT = 0.08  # diameters: a summit no higher is part of its neighbour, whatever the waist
_WAIST = 0.8  # waist over the narrower body's half width: below it there are two bodies

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Merging:
    """When two regions are one: their common border's mean height, weighed by size and by how they touch, is low."""

    cell_area: float  # square pixels
    stop: float = 0.6  # weighed height, in units of local contrast, from which on a border stands
    small: float = 0.75  # regions below this share of a cell are joined more easily
    small_power: float = 0.8
    large: float = 1.2  # unions above so many cells are joined less easily, those below one more easily
    touch: tuple[float, ...] = (0.0, 0.25, 0.4, 1.0)  # share of the smaller one's border that the two have in common
    touch_weight: tuple[float, ...] = (1.5, 1.2, 1.0, 0.3)  # an enclosed region is no cell of its own


@dataclass(frozen=True, slots=True, eq=False)
class Borders:
    """Which regions touch; one row a pair, a < b. Region 0 is the outside."""

    a: I64
    b: I64
    length: Doubles  # pixel pairs
    height: Doubles  # sum over them


def basins(height: F32, mask: Bools) -> I32:
    """The region of each pixel of `mask`, 1..n: pixels from which a climb over `height` (Y, X) ends on the same summit.

    0 outside the mask, and where the climb leaves it: such a pixel lies on the far side of the outermost ridge.
    """
    rows, columns = height.shape
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    padded = cv2.copyMakeBorder(height, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_LOWEST)
    padded_index = np.pad(index, 1)
    best, target = height.copy(), index.copy()
    for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        window = (slice(dy, dy + rows), slice(dx, dx + columns))
        higher = padded[window] > best
        np.copyto(best, padded[window], where=higher)
        np.copyto(target, padded_index[window], where=higher)
    climb = target.ravel()
    while not np.array_equal(further := climb[climb], climb):
        climb = further
    summit = np.asarray((climb == index.ravel()) & mask.ravel(), dtype=np.uint8).reshape(rows, columns)
    _, name = cv2.connectedComponents(summit, connectivity=8)  # a flat summit is one
    return np.where(mask, name.ravel()[climb].reshape(rows, columns), 0).astype(np.int32)


def joined(regions: I32, height: F32, rule: Merging) -> I32:
    """Join regions across their weakest borders until every border left is higher than the rule's stop.

    Each round joins every pair of regions that are each other's weakest border, so a round is a few array operations
    and the result is that of joining the weakest pair of all each time (mean linkage). Region 0 is never joined.
    """
    areas = np.bincount(regions.ravel()).astype(np.float64)
    borders = _borders(regions, height, np.maximum)
    owner = np.arange(len(areas))
    while len(borders.a):
        weight = _weighed(borders, areas, rule)
        pairs = _mutual(borders, weight, len(areas), rule.stop)
        if not len(pairs):
            break
        kept, gone = borders.a[pairs], borders.b[pairs]
        areas[kept] += areas[gone]
        rename = np.arange(len(areas))
        rename[gone] = kept
        owner = rename[owner]
        borders = _summed(rename[borders.a], rename[borders.b], borders.length, borders.height, len(areas))
    return _compact(owner[regions])


def waisted(regions: I32, diameter: float) -> I32:
    """Cut each region at its waists: the distance to its border is a landscape whose summits are bodies.

    Two summits are two bodies where the pass between them is lower than 0.8 of the lower summit.
    """
    apart = regions != np.asarray(cv2.erode(regions.astype(np.float32), np.ones((3, 3), dtype=np.uint8)))
    inside = np.asarray((regions > 0) & ~apart)
    depth = np.asarray(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)
    depth = np.where(inside, blurred(depth, 1.0), 0).astype(np.float32)
    parts = basins(depth, inside)
    summit = np.zeros(int(parts.max()) + 1)
    np.maximum.at(summit, parts.ravel(), depth.ravel())
    owner = _over_passes(_passes(parts, depth), summit, _FLAT_SUMMIT * diameter)
    parts = owner[parts].astype(np.int32)
    grown = cv2.dilate(parts.astype(np.float32), np.ones((3, 3), dtype=np.uint8)).astype(np.int32)
    return _compact(np.where((parts == 0) & (regions > 0), grown, parts))


def _over_passes(passes: list[tuple[float, int, int]], summit: Doubles, flat: float) -> I64:
    """The owner of each part when parts are joined over every pass that is no waist; highest pass first."""
    owner = list(range(len(summit)))
    height = summit.tolist()

    def top(part: int) -> int:
        while owner[part] != part:
            part = owner[part]
        return part

    for level, one, other in passes:
        a, b = top(one), top(other)
        lower = min(height[a], height[b])
        if a != b and (level >= _WAIST * lower or lower < flat):
            owner[b] = a
            height[a] = max(height[a], height[b])
    return np.array([top(part) for part in range(len(owner))], dtype=np.int64)


def _passes(parts: I32, depth: F32) -> list[tuple[float, int, int]]:
    """(height, a, b) of the highest pass between each two parts that touch, highest first."""
    a, b, level = _touching(parts, depth, np.minimum)
    inner = a > 0
    order = np.argsort(-level[inner], kind="stable")
    a, b, level = a[inner][order], b[inner][order], level[inner][order]
    _, first = np.unique(a * (int(parts.max()) + 1) + b, return_index=True)
    first.sort()
    return list(zip(level[first].tolist(), a[first].tolist(), b[first].tolist(), strict=True))


def _weighed(borders: Borders, areas: Doubles, rule: Merging) -> Doubles:
    a, b = borders.a, borders.b
    whole = np.bincount(a, borders.length, len(areas)) + np.bincount(b, borders.length, len(areas))
    smaller = np.where(areas[a] < areas[b], a, b)
    touch = np.interp(borders.length / whole[smaller], rule.touch, rule.touch_weight)
    small = np.minimum(1, areas[smaller] / (rule.small * rule.cell_area)) ** rule.small_power
    union = (areas[a] + areas[b]) / rule.cell_area
    size = small * np.maximum(1, union / rule.large) * np.sqrt(np.minimum(1, union))
    return np.where(a == 0, np.inf, borders.height / borders.length * touch * size)


def _mutual(borders: Borders, weight: Doubles, count: int, stop: float) -> I64:
    """Rows of `borders` below `stop` that are the weakest of both their regions."""
    rank = np.empty(len(weight), dtype=np.int64)
    rank[np.argsort(weight, kind="stable")] = np.arange(len(weight))
    weakest = np.full(count, len(weight), dtype=np.int64)
    np.minimum.at(weakest, borders.a, rank)
    np.minimum.at(weakest, borders.b, rank)
    return np.flatnonzero((weight <= stop) & (weakest[borders.a] == rank) & (weakest[borders.b] == rank))


def _borders(regions: I32, height: F32, of_two: np.ufunc) -> Borders:
    a, b, level = _touching(regions, height, of_two)
    return _summed(a, b, np.ones(len(a)), level.astype(np.float64), int(regions.max()) + 1)


def _touching(regions: I32, height: F32, of_two: np.ufunc) -> tuple[I64, I64, F32]:
    """Every pair of neighbouring pixels of two regions: the regions (a < b), and one height of the two pixels'."""
    pairs = []
    every, before, after = slice(None), slice(0, -1), slice(1, None)
    for near, far in (((every, before), (every, after)), ((before, every), (after, every))):
        at = np.nonzero(regions[near] != regions[far])
        one, other = regions[near][at].astype(np.int64), regions[far][at].astype(np.int64)
        level = of_two(height[near][at], height[far][at])
        pairs.append((np.minimum(one, other), np.maximum(one, other), level))
    a, b, level = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return a, b, level


def _summed(a: I64, b: I64, length: Doubles, height: Doubles, count: int) -> Borders:
    apart = a != b
    low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
    pair, row = np.unique(low * count + high, return_inverse=True)
    lengths = np.bincount(row, length[apart], len(pair)).astype(np.float64)
    heights = np.bincount(row, height[apart], len(pair)).astype(np.float64)
    return Borders(pair // count, pair % count, lengths, heights)


def _compact(labels: npt.NDArray[np.integer]) -> I32:
    """The same labels as 1..n without gaps."""
    there = np.bincount(labels.ravel()) > 0
    there[0] = False
    return np.asarray((np.cumsum(there) * there)[labels], dtype=np.int32)
