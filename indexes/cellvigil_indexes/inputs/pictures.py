"""From labelled images to the pictures an encoder sees, through the very functions that live frames pass.

The image steps are `cellvigil.normalize`'s; this file only brings an image and its annotations into their form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cellvigil import channels, normalize
from cellvigil.config import Segment
from cellvigil.data import I32, U8, Array, Cells, Fit, ImageRule, IntensityRule
from cellvigil.errors import BadFile, UsageError
from cellvigil.segment.sam_session import SamSession
from cellvigil_indexes.inputs.labelled import LabelledImage
from cellvigil_indexes.inputs.scene import (
    PictureRule,
    analysed,
    channel_of,
    cut_from,
    frame_of,
    intensity_of,
    label_image,
    pixels_of,
    ranges_of,
    segmented,
    series_of,
    size_of,
)

__all__ = ["PICTURES", "PictureRule", "picture_rule", "pictures", "settled"]

PICTURES = 1
"""Raise it when the same image and rule give another picture: vectors that were cached before are then not used."""

Point = tuple[float, float]
"""y, x in raw pixels."""

_SAMPLED = 32  # images that are looked at to settle the intensity range or what "auto" means


def settled(rule: ImageRule, images: Sequence[LabelledImage], *, intensity: str, colour: str) -> ImageRule:
    """`rule` with "auto" replaced by what a sample of the images shows; anything else was said by the user.

    Intensity: 8-bit images were mapped by whoever wrote them and come as they are ("full"); deeper ones get the
    rule's percentiles. Frames of a store are mapped as they were when they were live. Colour: rgb where an image's
    channels differ, else grey.
    """
    if "auto" not in (intensity, colour):
        return rule
    sample = _opened(_spread(images))
    if intensity == "auto" and all(_as_it_is(image, pixels) for image, pixels in sample):
        rule = replace(rule, intensity=IntensityRule("full"))
    if colour == "auto":
        rule = replace(rule, colour="rgb" if any(_coloured(*each) for each in sample) else "grey")
    return rule


def picture_rule(
    rule: ImageRule,
    images: Sequence[LabelledImage],
    pixel_size_um: float | None,
    cell_diameter_um: float | None = None,
    sam: SamSession | None = None,
) -> PictureRule:
    """Settle the intensity ranges: one for all single-cell images, one a folder of frames (as live, one a plate), and
    for a rule of channels one a channel of these.

    With a cell diameter annotated cells are outlined by the daemon's segmenter, at its other defaults; homogeneous
    frames always are. Cells of a store keep the outlines that they have. `sam` outlines what OpenCV found, as with
    `segment.method: sam`; raises UsageError where nothing is outlined.
    """
    if pixel_size_um is None and rule.frame_normalised:
        raise UsageError("how large is a pixel of these images?", hint="say so with --pixel-size, in micrometres")
    outlines = Segment(cell_diameter_um=cell_diameter_um) if cell_diameter_um else None
    if outlines is None and any(cell.is_every_cell for image in images for cell in image.cells):
        outlines = Segment()
    if sam is not None and outlines is None:
        what = "no cell is outlined here, so there is nothing for a segmenter to do"
        raise UsageError(what, hint="give --cell-diameter or --frames with --segmenter")
    series: dict[str, list[LabelledImage]] = {}
    for image in images if rule.intensity.kind != "full" else ():
        unknown = PictureRule(rule, None, {})
        if intensity_of(image, unknown) is None or not set(rule.channels) <= ranges_of(image, unknown).keys():
            series.setdefault(series_of(image, rule), []).append(image)
    ranges, channel_ranges = {}, {}
    for name, members in series.items():
        sample = _opened(_spread(members)) if rule.intensity.kind == "percentiles" else []
        frames = [frame_of(image, pixels, (1, 1)) for image, pixels in sample]
        planes = [normalize.plane_of(f, channel_of(image)) for f, (image, _) in zip(frames, sample, strict=True)]
        ranges[name] = normalize.intensity_range(planes, rule.intensity)
        whole = [frame for frame in frames if set(rule.channels) <= set(frame.channels)]
        channel_ranges[name] = channels.ranges_of(whole or frames, rule)
    return PictureRule(rule, pixel_size_um, ranges, outlines, channel_ranges, sam)


def pictures(image: LabelledImage, pixels: Array, how: PictureRule, fits: Sequence[Fit]) -> dict[Fit, U8]:
    """The cells of one image (its `pixels` (C, Y, X)) by each fit: (n, side, side, C) u8.

    Raises BadFile as `normalize` does, UsageError where the annotations do not fit the image, or have
    no masks for a rule that needs them.
    """
    if image.shape not in (None, pixels.shape[1:]):
        what = f"the image is {pixels.shape[1:]} (y, x), but was annotated as {image.shape}"
        raise UsageError(what, where=image.path, hint="give the images that were annotated")
    if size_of(image, how) is None:
        plain = replace(how, rule=replace(how.rule, clahe=None))
        whole = [each.pixels for each in cut_from(image, pixels, plain, analysed(image, pixels, plain))]
        return {fit: channels.fit_singles(whole, how.rule, fit)[None] for fit in dict.fromkeys(fits)}
    shape = pixels.shape[1:]
    scaled = analysed(image, pixels, how)
    centres = [cell.centre_in(shape) for cell in image.cells]
    labels: I32 | None = None
    if image.has_label_image:
        labels = label_image(image, scaled, shape, how) if how.rule.mask else None
    elif how.outlines is not None:
        labels, centres = _outlined(image, centres, segmented(image, scaled, shape, how))
    elif how.rule.mask:
        labels = _labels(image, shape)
    images = cut_from(image, pixels, how, scaled)
    return {fit: channels.cut(images, centres, how.rule, fit=fit, labels=labels).pixels for fit in dict.fromkeys(fits)}


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


def _spread(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Up to `_SAMPLED` images, evenly spread."""
    return list(images[:: -(-len(images) // _SAMPLED)])


def _opened(images: Sequence[LabelledImage]) -> list[tuple[LabelledImage, Array]]:
    """Those that open, with their pixels: what does not is told when its cells are cut. Raises BadFile if none does."""
    found = []
    trouble: BadFile | None = None
    for image in images:
        try:
            found.append((image, pixels_of(image)))
        except BadFile as error:
            trouble = trouble or error
    if not found and trouble is not None:
        raise trouble
    return found


def _as_it_is(image: LabelledImage, pixels: Array) -> bool:
    """Whether the image's raw values are those that are looked at."""
    if image.stored and image.stored.intensity:
        return image.stored.intensity == normalize.full_range(pixels.dtype)
    return bool(pixels.dtype == np.uint8)


def _coloured(image: LabelledImage, pixels: Array) -> bool:
    frame = frame_of(image, pixels, (1.0, 1.0))
    if channel_of(image) or not normalize.is_colour(frame):
        return False
    red, green, blue = (frame.pixels[[n.lower() for n in frame.channels].index(c)] for c in normalize.RED_GREEN_BLUE)
    return bool((red != green).any() or (green != blue).any())
