"""Pixels out of a TIFF: its first series as a grid of pages, reduced to one (C, Y, X) image.

Axes come from the file (OME, ImageJ, plain pages). C are channels, T time points, S the samples of a colour pixel;
every other axis but Y and X counts as z. Sizes are checked before anything is decoded, and one page is in memory
at a time. Compressions that `tifffile` lacks without `imagecodecs` (LZW, JPEG) are decoded by OpenCV's libtiff.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile

from cellvigil import config
from cellvigil.data import Array
from cellvigil.errors import BadFile
from cellvigil.sources.load import MEGABYTE, decoding, sharing, too_large
from cellvigil.sources.safexml import refuse_dtd
from cellvigil.sources.zstack import reduce_z

COLOURS = ("red", "green", "blue")
"""The channel names of a colour image, in the order of its samples."""

Convert = Callable[[Array, tifffile.TiffPage], Array]

_MICROMETRES = frozenset(("um", "µm", "μm", "micron", "microns", "\\u00B5m"))


@contextlib.contextmanager
def opened(content: bytes | Path, name: str) -> Iterator[tifffile.TiffFile]:
    """A TIFF open for reading, other files of a set left alone. Inside the block, broken content is BadFile."""
    handle: io.BytesIO | Path = io.BytesIO(content) if isinstance(content, bytes) else content
    with sharing(name), decoding(name), tifffile.TiffFile(handle, _multifile=False) as file:
        refuse_dtd(description(file), name)
        yield file


def description(file: tifffile.TiffFile) -> str:
    """The first page's ImageDescription (tag 270), "" where there is none."""
    value = file.pages.first.tags.valueof(270, "")
    return value if isinstance(value, str) else ""


def read_planes(
    file: tifffile.TiffFile,
    content: bytes | Path,
    name: str,
    *,
    rule: str,
    limits: config.Limits,
    series: int = 0,
    time: int | None = None,
    convert: Convert | None = None,
) -> Array:
    """One time point of one series as (C, Y, X) u8, u16 or f32, z reduced by `rule` ("focus" or "max").

    Without `time` the series must be a single time point. `convert` maps one page's (Y, X) or (S, Y, X) pixels before
    the reduction, and gets the page whose tags hold for all. Raises BadFile.
    """
    part = file.series[series]
    lead = [(axis, length) for axis, length in zip(part.axes, part.shape, strict=True) if axis not in "YXS"]
    _check_size(part, dict(lead), name, limits)
    if time is None and dict(lead).get("T", 1) > 1:
        hint = "use kind ometiff for files of several time points"
        raise BadFile("wrong_type", f"the file holds {dict(lead)['T']} time points", where=name, hint=hint)
    fetch = _fetcher(part, [length for _, length in lead], content, name, limits)

    def pages(channel: int) -> Iterator[Array]:
        ranges = [_range(axis, length, time or 0, channel) for axis, length in lead]
        for index in np.ndindex(*[len(choice) for choice in ranges]):
            at = tuple(choice[i] for choice, i in zip(ranges, index, strict=True))
            page, pixels = fetch(at)
            yield plain_pixels(convert(pixels, page) if convert else pixels, name)

    count = dict(lead).get("C", 1)
    planes = [reduce_z(pages(channel), rule, where=name) for channel in range(count)]
    return np.concatenate([plane if plane.ndim == 3 else plane[None] for plane in planes])


def channel_names(file: tifffile.TiffFile, count: int, series: int = 0) -> tuple[str, ...]:
    """Red, green and blue for the samples of colour pixels, else "" for each of `count` channels."""
    part = file.series[series]
    samples = dict(zip(part.axes, part.shape, strict=True)).get("S", 1)
    return COLOURS if count == 3 and samples >= 3 else ("",) * count


def only_image(file: tifffile.TiffFile, count: int, name: str) -> tuple[str, ...]:
    """The names of a grey or colour image's channels. Raises BadFile("wrong_type") for several separate channels."""
    names = channel_names(file, count)
    if names not in (("",), COLOURS):
        hint = "use kind ometiff for images of several channels"
        raise BadFile("wrong_type", f"an image of {count} channels", where=name, hint=hint)
    return names


def pixel_size_um(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """(y, x) as ImageJ writes it (a unit of micrometres beside the resolution); None where the file does not say.

    The bare resolution tags are not trusted: most writers leave a screen's or a printer's figure there.
    """
    metadata = file.imagej_metadata
    if not metadata or str(metadata.get("unit", "")).strip() not in _MICROMETRES:
        return None
    per_x, per_y = file.pages.first.resolution
    return (1 / per_y, 1 / per_x) if per_x > 0 and per_y > 0 else None


def plain_pixels(pixels: Array, name: str) -> Array:
    """The pixels as u8, u16 or f32: the types that a frame may have. Raises BadFile for values that are no numbers."""
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "uif":
        raise BadFile("unreadable", f"pixels of type {pixels.dtype}", where=name)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BadFile("unreadable", "pixels that are no numbers", where=name)
    return np.ascontiguousarray(pixels, dtype=np.float32)


def samples_first(pixels: Array, axes: str) -> Array:
    """(Y, X) for grey, (3, Y, X) for colour, from a page with `axes` like "YX", "YXS" or "SYX"; alpha is dropped."""
    if "S" not in axes:
        return pixels
    ordered = np.moveaxis(pixels, axes.index("S"), 0)
    return ordered[:3] if len(ordered) >= 3 else ordered[0]


def _check_size(part: tifffile.TiffPageSeries, lead: dict[str, int], name: str, limits: config.Limits) -> None:
    sizes = dict(zip(part.axes, part.shape, strict=True))
    height, width = sizes.get("Y", 1), sizes.get("X", 1)
    if height * width > limits.max_pixels:
        raise too_large(name, f"the image has {width} x {height} pixels", "limits.max_pixels")
    depth = math.prod(length for axis, length in lead.items() if axis not in "TC")
    if depth > limits.max_pages:
        raise too_large(name, f"the stack has {depth} slices", "limits.max_pages")
    if lead.get("C", 1) > limits.max_pages:
        raise too_large(name, f"the image has {lead['C']} channels", "limits.max_pages")


def _range(axis: str, length: int, time: int, channel: int) -> range:
    if axis == "T":
        return range(time, time + 1)
    return range(channel, channel + 1) if axis == "C" else range(length)


def _fetcher(
    part: tifffile.TiffPageSeries, lead: Sequence[int], content: bytes | Path, name: str, limits: config.Limits
) -> Callable[[tuple[int, ...]], tuple[tifffile.TiffPage, Array]]:
    """A function from a place in the grid to its page and that page's pixels."""
    if len(part.pages) == math.prod(lead):

        def by_page(at: tuple[int, ...]) -> tuple[tifffile.TiffPage, Array]:
            index = int(np.ravel_multi_index(at, lead)) if at else 0
            page = part.pages[index]
            if page is None:
                raise BadFile("incomplete", "the image's planes lie in other files of a set", where=name)
            return part.keyframe, _decode(page, part.keyframe, content, name)

        return by_page
    # One page stands for all (ImageJ's large stacks): they can only be had together.
    if part.nbytes > 4 * limits.max_file_mb * MEGABYTE:
        raise too_large(name, f"the stack has {part.nbytes / MEGABYTE:.0f} MB", "limits.max_file_mb")
    whole = part.asarray()
    axes = "".join(axis for axis in part.axes if axis in "YXS")

    def by_index(at: tuple[int, ...]) -> tuple[tifffile.TiffPage, Array]:
        return part.keyframe, samples_first(whole[at], axes)

    return by_index


def _decode(
    page: tifffile.TiffPage | tifffile.TiffFrame, tags: tifffile.TiffPage, content: bytes | Path, name: str
) -> Array:
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return _decode_by_opencv(page.index, content, name)
    if tags.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    return samples_first(pixels, "".join(axis for axis in tags.axes if axis in "YXS"))


def _decode_by_opencv(index: int, content: bytes | Path, name: str) -> Array:
    data = content if isinstance(content, bytes) else content.read_bytes()
    done, images = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(index, index + 1))
    if not done or not images:
        raise BadFile("unreadable", "its compression is not known here", where=name, hint="pip install imagecodecs")
    return colours_first(images[0])


def colours_first(image: Array) -> Array:
    """(Y, X) for grey, (3, Y, X) red, green, blue for colour, from OpenCV's (Y, X[, BGR[A]])."""
    if image.ndim == 2:
        return image
    if image.shape[2] < 3:
        return np.asarray(image[:, :, 0])
    return np.moveaxis(image[:, :, 2::-1], 2, 0)
