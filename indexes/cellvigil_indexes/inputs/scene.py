"""A labelled image as the frame that the daemon would have made of it, and its cells as the daemon outlines them.

The steps are `cellvigil.normalize`'s and the segmenter's own; this file only brings images into their form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np

from cellvigil import normalize
from cellvigil.channels import Ranges, picture_images
from cellvigil.config import Segment
from cellvigil.data import I32, Array, Cells, Frame, FrameKey, ImageRule
from cellvigil.errors import BadFile
from cellvigil.segment import Segmenter, cells_from_labels, opencv_segmenter
from cellvigil.segment.sam import sam_segmenter
from cellvigil.segment.sam_session import SamSession
from cellvigil_indexes.inputs.images import read_channels, read_image
from cellvigil_indexes.inputs.labelled import LabelledCell, LabelledImage


@dataclass(frozen=True, slots=True, eq=False)
class PictureRule:
    """An image rule and what must be known of these very images to apply it."""

    rule: ImageRule
    pixel_size_um: float | None  # of images that do not say it themselves; None: single cells, each fitted whole
    ranges: Mapping[str, tuple[float, float]]  # by `series_of` an image; empty where each pixel type has its own
    outlines: Segment | None = None  # how the daemon outlines cells; None: they are taken as annotated
    channel_ranges: Mapping[str, Ranges] = field(default_factory=dict)  # by series, for a rule of channels
    sam: SamSession | None = None  # outlines what OpenCV found; None: OpenCV alone

    @property
    def segmenter(self) -> Segmenter | None:
        """The daemon's segmenter, where cells are to be outlined."""
        if self.outlines is None:
            return None
        plain = opencv_segmenter(self.outlines)
        return sam_segmenter(self.outlines, self.sam, plain) if self.sam else plain


def pixels_of(image: LabelledImage) -> Array:
    """The image's pixels (C, Y, X). Raises BadFile for one that does not open."""
    if image.stored:
        return image.stored.pixels()
    return read_channels(image.path, image.planes) if image.planes else read_image(image.path)


def digest_of(image: LabelledImage) -> str:
    """Hex sha256 of the bytes that the image is made of. Raises BadFile for one that cannot be read."""
    if image.stored:
        return image.stored.digest()
    try:
        return hashlib.sha256(image.path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadFile("unreadable", f"cannot read the image: {error.strerror}", where=image.path) from None


def series_of(image: LabelledImage, rule: ImageRule) -> str:
    """Which images share one intensity range: those of a folder; all of them where folders are classes."""
    if image.series is not None:
        return image.series
    single = len(image.cells) == 1 and image.cells[0].is_whole_image
    return "" if single or not rule.frame_normalised else PurePosixPath(image.name).parent.as_posix()


def intensity_of(image: LabelledImage, how: PictureRule) -> tuple[float, float] | None:
    """The raw values that become 0 and 255; None: all that the pixel type holds.

    A stored frame has those that its series was given when it was live, unless the rule says fixed ones.
    """
    if image.stored and image.stored.intensity and how.rule.intensity.kind == "percentiles":
        return image.stored.intensity
    return how.ranges.get(series_of(image, how.rule))


def ranges_of(image: LabelledImage, how: PictureRule) -> Ranges:
    """The same as `intensity_of` of each channel that the rule looks at; one that is not there: all of its type."""
    live = image.stored.ranges if image.stored and how.rule.intensity.kind == "percentiles" else {}
    return {**how.channel_ranges.get(series_of(image, how.rule), {}), **live}


def size_of(image: LabelledImage, how: PictureRule) -> tuple[float, float] | None:
    """Micrometres a pixel (y, x) of one image; None: single cells, each fitted whole."""
    if image.pixel_size_um:
        return image.pixel_size_um
    return (how.pixel_size_um, how.pixel_size_um) if how.pixel_size_um else None


def channel_of(image: LabelledImage) -> str:
    """The channel that is analysed; "" = the first, or a colour image's luminance."""
    return image.stored.channel if image.stored else image.channel


def frame_of(image: LabelledImage, pixels: Array, pixel_size_um: tuple[float, float]) -> Frame:
    """The image as a frame: of one channel, of red, green and blue, of the channels that were read, or as stored."""
    channels: tuple[str, ...] = image.planes or (normalize.RED_GREEN_BLUE if len(pixels) == 3 else ("",))
    key = FrameKey("reference", image.name, "", "", "", 0)
    if image.stored:
        key, channels = image.stored.key, image.stored.channels
    return Frame(key, datetime.fromtimestamp(0, UTC), pixels, channels, pixel_size_um, ())


def analysed(image: LabelledImage, pixels: Array, how: PictureRule) -> normalize.AnalysisImage:
    """The image at the index's scale, its intensity mapped. Raises BadFile as `normalize.analysis_image` does."""
    size = size_of(image, how) or (how.rule.pixel_size_um, how.rule.pixel_size_um)
    intensity = intensity_of(image, how) or normalize.full_range(pixels.dtype)
    return normalize.analysis_image(frame_of(image, pixels, size), channel_of(image), how.rule, intensity)


def cut_from(
    image: LabelledImage, pixels: Array, how: PictureRule, scaled: normalize.AnalysisImage
) -> tuple[normalize.AnalysisImage, ...]:
    """What cells' pictures are cut from: `scaled`, the image as `analysed`, or one such image a channel of the rule."""
    size = size_of(image, how) or (how.rule.pixel_size_um, how.rule.pixel_size_um)
    return picture_images(frame_of(image, pixels, size), scaled, how.rule, ranges_of(image, how))


def segmented(image: LabelledImage, scaled: normalize.AnalysisImage, shape: tuple[int, ...], how: PictureRule) -> Cells:
    """The cells that the daemon finds in the image, on its own grid of `shape` (Y, X)."""
    segmenter = how.segmenter or opencv_segmenter(Segment())
    size = size_of(image, how) or (scaled.pixel_size_um, scaled.pixel_size_um)
    return cells_from_labels(segmenter(normalize.grey(scaled), scaled.pixel_size_um), shape, size)


def with_every_cell(image: LabelledImage, pixels: Array, how: PictureRule) -> LabelledImage:
    """A homogeneous frame with each of its cells: those that the daemon finds, and that do not touch the border."""
    cells = segmented(image, analysed(image, pixels, how), pixels.shape[1:], how)
    inner = np.flatnonzero(~cells.touches_edge)
    return listed(image, cells.centroids_px[inner], cells.boxes_px[inner], inner + 1)


def listed(image: LabelledImage, centres: Array, boxes: Array, numbers: Array) -> LabelledImage:
    """A homogeneous frame with these cells: centres (n, 2) y, x; boxes (n, 4); numbers (n,) in its label image."""
    (every,) = image.cells
    found = tuple(
        LabelledCell(every.class_name, (y0, x0, y1, x1), (y, x), number=number)
        for (y, x), (y0, x0, y1, x1), number in zip(centres.tolist(), boxes.tolist(), numbers.tolist(), strict=True)
    )
    return replace(image, cells=found)


def label_image(image: LabelledImage, scaled: normalize.AnalysisImage, shape: tuple[int, ...], how: PictureRule) -> I32:
    """The label image (Y, X) that the cells' numbers are of, cell i of the image as i + 1."""
    labels = image.stored.labels() if image.stored else segmented(image, scaled, shape, how).labels
    numbers = [cell.number for cell in image.cells]
    rows = np.zeros(max(int(labels.max(initial=0)), *numbers, 0) + 1, dtype=np.int32)
    rows[numbers] = np.arange(1, len(numbers) + 1)
    return np.asarray(rows[labels])
