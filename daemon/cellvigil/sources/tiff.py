"""Pixels out of a TIFF: its first series as a grid of pages, reduced to one (C, Y, X) image.

Axes come from the file (OME, ImageJ, plain pages). C are channels, T time points, S the samples of a colour pixel;
every other axis but Y and X counts as z. Sizes are checked before anything is decoded, and one page is in memory
at a time.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile

from cellvigil import config
from cellvigil.data import Array
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources import ome
from cellvigil.sources.inflate import check_inflation
from cellvigil.sources.load import MEGABYTE, decoding, opened_file, too_large
from cellvigil.sources.pixels import decoded, plain_pixels, samples_first
from cellvigil.sources.safexml import refuse_dtd
from cellvigil.sources.tiffchain import Chain, check_chain
from cellvigil.sources.zstack import reduce_z

COLOURS = ("red", "green", "blue")
"""The channel names of a colour image, in the order of its samples."""

Convert = Callable[[Array, tifffile.TiffPage], Array]

# Vendors' formats that we do not read as such: their code would run on whatever claims to be one.
_READ = frozenset(("ome", "imagej", "shaped", "uniform"))
_LEFT_ALONE: dict[str, Any] = {f"is_{kind}": False for kind in sorted(tifffile.TIFF.FILE_FLAGS) if kind not in _READ}
_MOST_SAMPLE = 16  # bytes of one pixel, all samples
_EXPANDED = 4  # how much larger than the largest file an image may be once it is decoded

_MICROMETRES = frozenset(("um", "µm", "μm", "micron", "microns", "\\u00B5m"))


@contextlib.contextmanager
def opened(
    content: bytes | Path, name: str, limits: config.Limits | None = None, *, final: bool = False
) -> Iterator[tifffile.TiffFile]:
    """A TIFF open for reading, other files of a set left alone. Inside the block, broken content is BadFile.

    Its structure is checked first: `tifffile` trusts what it reads. A path may be a container's, of up to
    `limits.max_members` pages. Raises NotYet for content that ends too early, unless it is `final`: then BadFile.
    """
    limits = limits or config.Limits()
    with _handle(content, name) as (handle, size), decoding(name):
        try:
            if isinstance(content, Path):
                chain = _container_chain(content, name, limits, os.fstat(handle.fileno()).st_mtime_ns, size)
            else:
                chain = check_chain(handle, size, name, limits)
        except NotYet as error:
            if final:
                raise error.expired() from None
            raise
        handle.seek(0)
        with tifffile.TiffFile(handle, _multifile=False, **_LEFT_ALONE) as file:
            text = description(file)
            refuse_dtd(text, name)
            if file.is_ome:
                ome.check_sizes(text, name, limits, pages=chain.pages, smallest=chain.smallest)
            yield file


@functools.lru_cache(maxsize=64)
def _container_chain(path: Path, name: str, limits: config.Limits, mtime_ns: int, size: int) -> Chain:  # noqa: ARG001 - the date is of the key
    """A container's chain, walked once a version of the file: it is opened again for each of its parts."""
    with opened_file(path, name) as (file, _):
        return check_chain(file, size, name, limits, pages=limits.max_members)


@contextlib.contextmanager
def _handle(content: bytes | Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    if isinstance(content, bytes):
        yield io.BytesIO(content), len(content)
        return
    with opened_file(content, name) as (file, size):
        yield file, size


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
            if pixels.ndim not in (2, 3) or pixels.size == 0:
                raise BadFile("unreadable", f"pixels of a type that is not known here, {page.dtype}", where=name)
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
    if part.keyframe.nbytes > _MOST_SAMPLE * limits.max_pixels:
        raise too_large(name, f"one page has {part.keyframe.nbytes / MEGABYTE:.0f} MB", "limits.max_pixels")
    at_once = part.nbytes / lead.get("T", 1)
    if at_once > _EXPANDED * limits.max_file_mb * MEGABYTE:
        raise too_large(name, f"the image has {at_once / MEGABYTE:.0f} MB", "limits.max_file_mb")


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
            return part.keyframe, decoded(page, part.keyframe, content, name, limits)

        return by_page
    # One page stands for all (ImageJ's large stacks): they can only be had together.
    if part.nbytes > _EXPANDED * limits.max_file_mb * MEGABYTE:
        raise too_large(name, f"the stack has {part.nbytes / MEGABYTE:.0f} MB", "limits.max_file_mb")
    for page in part.pages:
        if page is not None:
            check_inflation(page, part.keyframe, name)
    whole = part.asarray()
    axes = "".join(axis for axis in part.axes if axis in "YXS")

    def by_index(at: tuple[int, ...]) -> tuple[tifffile.TiffPage, Array]:
        return part.keyframe, samples_first(whole[at], axes)

    return by_index
