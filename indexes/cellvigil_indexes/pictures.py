"""From labelled images to the pictures an encoder sees, through the very functions that live frames pass.

The image steps are `cellvigil.normalize`'s; this file only brings an image and its annotations into their form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np

from cellvigil import normalize
from cellvigil.config import Segment
from cellvigil.data import I32, U8, Array, Cells, Frame, FrameKey, ImageRule, IntensityRule
from cellvigil.errors import UsageError
from cellvigil.segment import Segmenter, cells_from_labels, opencv_segmenter
from cellvigil_indexes.images import read_image
from cellvigil_indexes.labelled import LabelledImage

Point = tuple[float, float]
"""y, x in raw pixels."""

_SAMPLED = 32  # images that are looked at to settle the intensity range or what "auto" means


@dataclass(frozen=True, slots=True, eq=False)
class PictureRule:
    """An image rule and what must be known of these very images to apply it."""

    rule: ImageRule
    pixel_size_um: float | None  # of the images as they are; None: single cells, each fitted whole
    ranges: Mapping[str, tuple[float, float]]  # by `series_of` an image; empty where each pixel type has its own
    segmenter: Segmenter | None = None  # outlines cells as the daemon does; None: they are taken as annotated


def settled(rule: ImageRule, images: Sequence[LabelledImage], *, intensity: str, colour: str) -> ImageRule:
    """`rule` with "auto" replaced by what a sample of the images shows; anything else was said by the user.

    Intensity: 8-bit images were mapped by whoever wrote them and come as they are ("full"); deeper ones get the
    rule's percentiles. Colour: rgb where an image's channels differ, else grey.
    """
    if "auto" not in (intensity, colour):
        return rule
    sample = [read_image(image.path) for image in _spread(images)]
    if intensity == "auto" and all(pixels.dtype == np.uint8 for pixels in sample):
        rule = replace(rule, intensity=IntensityRule("full"))
    if colour == "auto":
        rule = replace(rule, colour="rgb" if any(_coloured(pixels) for pixels in sample) else "grey")
    return rule


def picture_rule(
    rule: ImageRule,
    images: Sequence[LabelledImage],
    pixel_size_um: float | None,
    cell_diameter_um: float | None = None,
) -> PictureRule:
    """Settle the intensity ranges: one for all single-cell images, one a folder of frames (as live, one a plate).

    With a cell diameter the cells of frames are outlined by the daemon's segmenter, at its other defaults.
    """
    if pixel_size_um is None and rule.frame_normalised:
        raise UsageError("how large is a pixel of these images?", hint="say so with --pixel-size, in micrometres")
    series: dict[str, list[LabelledImage]] = {}
    for image in images:
        series.setdefault(series_of(image, rule), []).append(image)
    ranges = {}
    for name, members in series.items():
        sampled = _spread(members) if rule.intensity.kind == "percentiles" else []
        planes = [normalize.plane_of(_frame(image, read_image(image.path), 1.0), "") for image in sampled]
        if rule.intensity.kind != "full":
            ranges[name] = normalize.intensity_range(planes, rule.intensity)
    segmenter = opencv_segmenter(Segment(cell_diameter_um=cell_diameter_um)) if cell_diameter_um else None
    return PictureRule(rule, pixel_size_um, ranges, segmenter)


def series_of(image: LabelledImage, rule: ImageRule) -> str:
    """Which images share one intensity range: those of a folder; all of them where folders are classes."""
    single = len(image.cells) == 1 and image.cells[0].is_whole_image
    return "" if single or not rule.frame_normalised else PurePosixPath(image.name).parent.as_posix()


def pictures(image: LabelledImage, pixels: Array, how: PictureRule, sizes: Sequence[int]) -> dict[int, U8]:
    """The cells of one image (its `pixels` (C, Y, X)) in each of the sizes: (n, size, size, C) u8.

    Raises BadFile as `normalize` does, UsageError where the annotations do not fit the image, or have
    no masks for a rule that needs them.
    """
    if image.shape not in (None, pixels.shape[1:]):
        what = f"the image is {pixels.shape[1:]} (y, x), but was annotated as {image.shape}"
        raise UsageError(what, where=image.path, hint="give the images that were annotated")
    intensity = how.ranges.get(series_of(image, how.rule)) or normalize.full_range(pixels.dtype)
    if how.pixel_size_um is None:
        plain = replace(how.rule, clahe=None)
        whole = normalize.analysis_image(_frame(image, pixels, how.rule.pixel_size_um), "", plain, intensity).pixels
        return {size: normalize.fit_single(whole, how.rule, size)[None] for size in sizes}
    scaled = normalize.analysis_image(_frame(image, pixels, how.pixel_size_um), "", how.rule, intensity)
    centres = [cell.centre_in(pixels.shape[1:]) for cell in image.cells]
    labels: I32 | None = None
    if how.segmenter is not None:
        found = how.segmenter(normalize.grey(scaled), scaled.pixel_size_um)
        cells = cells_from_labels(found, pixels.shape[1:], (how.pixel_size_um, how.pixel_size_um))
        labels, centres = _outlined(image, centres, cells)
    elif how.rule.mask:
        labels = _labels(image, pixels.shape[1:])
    return {size: normalize.crops(scaled, centres, how.rule, size=size, labels=labels).pixels for size in sizes}


def _outlined(image: LabelledImage, centres: list[Point], cells: Cells) -> tuple[I32, list[Point]]:
    """Label image and centres of the annotated cells as the segmenter sees them, cell i as i + 1.

    A cell is the mask that its annotated centre lies in; where there is none, or another cell has it already, the
    annotation stands: its mask, else its box.
    """
    labels = np.zeros(cells.labels.shape, dtype=np.int32)
    taken: set[int] = set()
    seen = []
    for number, (cell, (y, x)) in enumerate(zip(image.cells, centres, strict=True), start=1):
        place = tuple(np.clip((round(y), round(x)), 0, np.array(labels.shape) - 1))
        own = int(cells.labels[place])
        if own and own not in taken:
            taken.add(own)
            labels[cells.labels == own] = number
            seen.append((float(cells.centroids_px[own - 1, 0]), float(cells.centroids_px[own - 1, 1])))
            continue
        y0, x0, y1, x1 = cell.box_px
        labels[y0:y1, x0:x1][True if cell.mask is None else cell.mask] = number
        seen.append((y, x))
    return labels, seen


def _labels(image: LabelledImage, shape: tuple[int, ...]) -> I32:
    """Label image of the annotated masks, cell i as i + 1; where two overlap, the later one."""
    labels = np.zeros(shape, dtype=np.int32)
    for number, cell in enumerate(image.cells, start=1):
        if cell.mask is None:
            raise UsageError("--mask needs masks, and this image has only boxes", where=image.path, hint="omit --mask")
        y0, x0, y1, x1 = cell.box_px
        labels[y0:y1, x0:x1][cell.mask] = number
    return labels


def _frame(image: LabelledImage, pixels: Array, pixel_size_um: float) -> Frame:
    """The image as a frame of one channel, or of red, green and blue."""
    channels = normalize.RED_GREEN_BLUE if len(pixels) == 3 else ("",)
    key = FrameKey("reference", image.name, "", "", "", 0)
    return Frame(key, datetime.fromtimestamp(0, UTC), pixels, channels, (pixel_size_um, pixel_size_um), ())


def _spread(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Up to `_SAMPLED` images, evenly spread."""
    return list(images[:: -(-len(images) // _SAMPLED)])


def _coloured(pixels: Array) -> bool:
    return len(pixels) == 3 and bool((pixels[0] != pixels[1]).any() or (pixels[1] != pixels[2]).any())
