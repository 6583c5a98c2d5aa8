"""Which of SAM's masks stand, and the label image they make. Pure.

Over a grid of points: the filters and the non-maximum suppression of SAM's automatic mask generator (Kirillov et al.
2023, section B: predicted overlap, stability, then the better of two boxes that overlap), and then, since a pixel has
one label, the same for the masks themselves. From boxes: one mask a cell, whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I32, Array, Bools
from cellvigil.segment.sam_masks import Mask, largest_piece


@dataclass(frozen=True, slots=True)
class Limits:
    """What a mask must be; areas in pixels of the frame."""

    min_iou: float
    min_stability: float
    min_area: float
    max_area: float
    max_overlap: float

    def admit(self, mask: Mask) -> bool:
        """Whether a mask is good enough, and of a cell's size."""
        good = mask.iou >= self.min_iou and mask.stability >= self.min_stability
        return good and self.min_area <= mask.area <= self.max_area


def best_boxes(masks: Sequence[Mask], max_overlap: float) -> list[Mask]:
    """The masks, best first, without those whose box overlaps a better one's by more (intersection over union)."""
    order = sorted(masks, key=lambda mask: -mask.quality)
    boxes = np.array([mask.box for mask in order], np.float32).reshape(-1, 4)
    gone = np.zeros(len(order), np.bool_)
    kept = []
    for row, mask in enumerate(order):
        if not gone[row]:
            kept.append(mask)
            gone[row:] |= _box_overlap(boxes[row], boxes[row:]) > max_overlap
    return kept


def _box_overlap(one: F32, others: F32) -> F32:
    """Intersection over union of a box with each of (n, 4)."""
    low, high = np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    sizes = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / (np.prod(one[2:] - one[:2]) + sizes - shared), dtype=np.float32)


def best_masks(masks: Sequence[Mask], max_overlap: float) -> list[Mask]:
    """The masks, best first, without those that share more of the smaller of the two with a better one.

    Of the smaller, not of the union: of a nucleus and its cell, of two cells and one mask over both, but one stands.
    """
    kept: list[Mask] = []
    for mask in sorted(masks, key=lambda mask: -mask.quality):
        if all(shared(mask, other) <= max_overlap * min(mask.area, other.area) for other in kept):
            kept.append(mask)
    return kept


def shared(one: Mask, other: Mask) -> int:
    """Pixels that two masks have in common."""
    y0, x0 = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    y1, x1 = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    if y0 >= y1 or x0 >= x1:
        return 0
    return int(np.count_nonzero(_cut(one, y0, x0, y1, x1) & _cut(other, y0, x0, y1, x1)))


def _cut(mask: Mask, y0: int, x0: int, y1: int, x1: int) -> Bools:
    top, left = mask.box[:2]
    return mask.bits[y0 - top : y1 - top, x0 - left : x1 - left]


def painted(masks: Iterable[tuple[int, Mask]], shape: tuple[int, int]) -> I32:
    """A label image (Y, X) of masks with their labels; where two overlap the better one is seen."""
    labels = np.zeros(shape, np.int32)
    for label, mask in sorted(masks, key=lambda item: (item[1].quality, -item[0])):
        y0, x0, y1, x1 = mask.box
        labels[y0:y1, x0:x1][mask.bits] = label
    return labels


def in_one_piece(labels: I32, masks: Iterable[tuple[int, Mask]], least: float) -> I32:
    """The labels, each but its largest connected piece; one that keeps fewer than `least` pixels is left out."""
    tidy = labels.copy()
    for label, mask in masks:
        y0, x0, y1, x1 = mask.box
        window = tidy[y0:y1, x0:x1]
        mine = window == label
        piece = largest_piece(mine)
        window[mine & ~piece] = 0
        if np.count_nonzero(piece) < least:
            window[piece] = 0
    return tidy


def from_grid(masks: Sequence[Mask], shape: tuple[int, int], limits: Limits) -> I32:
    """The label image (Y, X) of masks that nobody asked for one by one."""
    good = [mask for mask in masks if limits.admit(mask)]
    stand = best_masks(best_boxes(good, limits.max_overlap), limits.max_overlap)
    numbered = list(enumerate(stand, start=1))
    return in_one_piece(painted(numbered, shape), numbered, limits.min_area)


def from_boxes(masks: Sequence[Mask | None], cells: I32, limits: Limits) -> I32:
    """The label image (Y, X) of `masks`, one for each label 1, 2, ... of `cells`, or None.

    A cell whose mask is refused, or loses more than `limits.max_overlap` of itself to better ones, keeps what it has in
    `cells`, whole: SAM's masks give way there. So exactly the labels of `cells` are in the answer, each once.
    """
    count = int(cells.max(initial=0))
    sizes = np.bincount(cells.ravel(), minlength=count + 1)
    own = [label for label in range(1, count + 1) if sizes[label]]
    chosen = {label: mask for label in own if (mask := masks[label - 1]) is not None and limits.admit(mask)}
    while True:
        labels = painted(chosen.items(), (cells.shape[0], cells.shape[1]))
        kept = np.ones(count + 1, np.bool_)
        kept[list(chosen)] = False
        kept[0] = False
        labels = np.where(kept[cells], cells, labels)
        labels = in_one_piece(labels, chosen.items(), 1)
        lost = _lost(labels, chosen, limits)
        if not lost:
            return labels.astype(np.int32)
        for label in lost:
            del chosen[label]


def _lost(labels: I32, chosen: dict[int, Mask], limits: Limits) -> list[int]:
    """The labels of which too little is left."""
    seen: Array = np.bincount(labels.ravel(), minlength=max(chosen, default=0) + 1)
    share = 1 - limits.max_overlap
    return [label for label, mask in chosen.items() if seen[label] < max(share * mask.area, limits.min_area, 1)]
