"""SAM as a segmenter: asked by boxes around the cells that OpenCV found, or by points all over the frame. Pure.

The model comes in from outside (`sam_model.SamModel`). Kirillov et al., "Segment Anything" (2023); its automatic mask
generator for the points. What either way is worth, and costs, is in benchmarks/README.md.

- boxes: one prompt a cell, one mask a prompt. Every cell that OpenCV found is in the answer: with SAM's outline, or,
  where SAM's is refused (no cell's size, cut off by its tile, or a better cell's mask over it), with its own. No other
  filter: the generator's are made to reject what nobody asked for, and would refuse most outlines of phase-contrast
  cells.
- grid: `points_per_side` points along the longer side of each picture, three masks each, filtered as published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from cellvigil.config import Segment
from cellvigil.data import F32, I32, U8
from cellvigil.segment.protocol import Segmenter
from cellvigil.segment.sam_choice import Limits, from_boxes, from_grid
from cellvigil.segment.sam_masks import Mask, cut_out, trimmed, without_holes
from cellvigil.segment.sam_model import SamModel
from cellvigil.segment.sam_prompts import Prompts, box_prompts, boxes_of, grid_prompts
from cellvigil.segment.sam_tiles import Tile, owner, picture_of, tiles_of

SINGLE, SEVERAL = 0, (1, 2, 3)  # which of a prompt's four masks are taken: a box is not ambiguous, a point is
MARGIN = 0.1  # of a box around OpenCV's outline, in cell diameters (benchmarks/README.md: how it was chosen)


def sam_segmenter(settings: Segment, model: SamModel, first: Segmenter) -> Callable[[U8, float], I32]:
    """A `Segmenter` that asks `model`; `first` finds the cells where `settings.sam.prompts` is "boxes".

    It returns labels on the image's own grid; with boxes they are those of `first`. Calls raise DeviceError if the
    model fails.
    """
    if settings.sam.prompts == "grid":
        return lambda image, pixel_size_um: segment_by_grid(image, pixel_size_um, settings, model)
    return lambda image, pixel_size_um: segment_by_boxes(image, pixel_size_um, settings, model, first)


def segment_by_boxes(image: U8, pixel_size_um: float, settings: Segment, model: SamModel, first: Segmenter) -> I32:
    """Labels (Y, X) of the cells that `first` finds in a (Y, X) u8 image, each with one outline."""
    cells = _on_grid(first(image, pixel_size_um), image.shape)
    count = int(cells.max(initial=0))
    boxes = boxes_of(cells, count)
    diameter = settings.cell_diameter_um / pixel_size_um
    limits = replace(limits_of(settings, pixel_size_um), min_iou=0.0, min_stability=0.0)
    shape = (image.shape[0], image.shape[1])
    tiles = tiles_of(shape, diameter, model.side)
    there = [row for row in range(count) if boxes[row, 2] > 0]
    home = {row: owner(tiles, *boxes[row].reshape(2, 2).mean(axis=0)) for row in there}
    masks: list[Mask | None] = [None] * count
    for place, tile in enumerate(tiles):
        rows = [row for row in there if home[row] == place]
        prompts = box_prompts(boxes[rows].astype(np.float32), tile, MARGIN * diameter)
        for row, (logits, iou) in zip(rows, answers(image, tile, prompts, model), strict=True):
            masks[row] = _whole(logits[SINGLE], float(iou[SINGLE]), tile, shape, limits)
    return from_boxes(masks, cells, limits)


def segment_by_grid(image: U8, pixel_size_um: float, settings: Segment, model: SamModel) -> I32:
    """Labels (Y, X) of whatever SAM finds in a (Y, X) u8 image and is of a cell's size."""
    shape = (image.shape[0], image.shape[1])
    limits = limits_of(settings, pixel_size_um)
    tiles = tiles_of(shape, settings.cell_diameter_um / pixel_size_um, model.side)
    masks = [
        mask
        for tile in tiles
        for mask in _tile_masks(image, tile, grid_prompts(tile, tiles, settings.sam.points_per_side), limits, model)
    ]
    return from_grid(masks, shape, limits)


def limits_of(settings: Segment, pixel_size_um: float) -> Limits:
    """The configured limits, areas in pixels."""
    sam, pixel = settings.sam, pixel_size_um**2
    low, high = settings.min_area_um2 / pixel, settings.max_area_um2 / pixel
    return Limits(sam.min_iou, sam.min_stability, low, high, sam.max_overlap)


def answers(image: U8, tile: Tile, prompts: Prompts, model: SamModel) -> Iterator[tuple[F32, F32]]:
    """Four masks' logits and predicted overlaps for each prompt, in order; one batch of them is held at a time."""
    if not len(prompts):
        return
    features = model.encode(picture_of(image, tile, model.side), (tile.rows, tile.columns))
    for start in range(0, len(prompts), model.together):
        part = slice(start, start + model.together)
        logits, iou = model.decode(features, prompts.points[part], prompts.labels[part])
        yield from zip(logits, iou, strict=True)


def _tile_masks(image: U8, tile: Tile, prompts: Prompts, limits: Limits, model: SamModel) -> Iterator[Mask]:
    """The masks of a tile that are worth a second look."""
    shape = (image.shape[0], image.shape[1])
    pixel = (tile.height * tile.width * 16) / (tile.rows * tile.columns)  # of the frame, to one of the logits
    for logits, iou in answers(image, tile, prompts, model):
        for token in SEVERAL:
            # Before a mask is drawn in full: most are of the ground, or of half the frame.
            rough = np.count_nonzero(logits[token] > 0) * pixel
            if iou[token] >= limits.min_iou and limits.min_area / 2 <= rough <= 2 * limits.max_area:
                mask = _whole(logits[token], float(iou[token]), tile, shape, limits)
                if mask is not None:
                    yield mask


def _whole(logits: F32, iou: float, tile: Tile, shape: tuple[int, int], limits: Limits) -> Mask | None:
    """A mask without holes that are smaller than the smallest cell; None if there is none, or its tile cuts it off."""
    mask = cut_out(logits, iou, tile, shape)
    if mask is None or _cut_off(mask, tile, shape):
        return None
    return trimmed(mask.box, without_holes(mask.bits, limits.min_area), mask.iou, mask.stability)


def _cut_off(mask: Mask, tile: Tile, shape: tuple[int, int]) -> bool:
    """Whether a mask ends at a border of its tile that is none of the frame: the rest is not in the picture."""
    y0, x0, y1, x1 = mask.box
    ends = ((y0, tile.y, 0), (x0, tile.x, 0), (y1, tile.y + tile.height, shape[0]), (x1, tile.x + tile.width, shape[1]))
    return any(at == end and end != border for at, end, border in ends)


def _on_grid(labels: I32, shape: tuple[int, ...]) -> I32:
    if labels.shape == shape:
        return labels
    source = np.ascontiguousarray(labels, dtype=np.int32)
    return np.asarray(cv2.resize(source, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.int32)
