"""The files of one frame, read and decoded into a `Frame`.

Each file is read once, whole, and must still be what was listed: a file that changed since is not read as half old,
half new, but left for the scan that reports it anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby

import numpy as np

from cellvigil import config
from cellvigil.data import Array, FileRef, FileStat, Frame, FrameFiles, Plane, Slice
from cellvigil.errors import BadFile
from cellvigil.sources.load import check_listed
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.zstack import reduce_z

GREY = "grey"
"""The channel's name where neither name, metadata nor configuration gives one."""

_SMALLEST_UM, _LARGEST_UM = 1e-3, 1e3  # of a pixel's side, when the file says it
_SAME_SIZE = 0.01  # relative difference below which two pixel sizes are one

log = logging.getLogger(__name__)


def read_frame(files: FrameFiles, fmt: SourceFormat, source: config.Source, limits: config.Limits) -> Frame:
    """Decode every file and put the channels on top of each other, the segmentation channel first.

    Channels stand in the configuration's order, then by name; z slices are reduced by the source's rule. The pixel
    size is the configuration's, else the file's; the time is the metadata's, else the file's own (UTC).
    Raises NotYet if a file does not open just now or is no longer what was listed, and BadFile: "unreadable",
    "wrong_type", "too_large", "bad_metadata", "geometry_changed", "no_pixel_size", "incomplete", ...
    """
    planes: dict[str, Plane] = {}
    refs: list[FileRef] = []
    for channel, slices in groupby(files.slices, key=lambda item: item.channel):
        plane, read = _read_channel(list(slices), fmt, source)
        planes[channel] = plane
        refs += read
    names, pixels, owners = _stacked(planes, source.channels, str(files.key))
    if source.channels.segment and source.channels.segment not in names:
        what = f"channel {source.channels.segment!r} is not among {', '.join(names)}"
        hint = f"see `channels` of source {source.name!r}"
        raise BadFile("incomplete", what, where=files.slices[0].stat.path, hint=hint)
    if pixels.shape[1] * pixels.shape[2] > limits.max_pixels:
        raise BadFile("too_large", f"{pixels.shape[2]} x {pixels.shape[1]} pixels", where=str(files.key))
    ordered = [planes[owner] for owner in dict.fromkeys(owners)]
    _note_time(files, ordered, fmt)
    return Frame(
        key=files.key,
        acquired_at=_acquired_at(ordered, files),
        pixels=pixels,
        channels=names,
        pixel_size_um=_pixel_size(ordered, files, source),
        files=tuple(refs),
    )


def _read_channel(slices: list[Slice], fmt: SourceFormat, source: config.Source) -> tuple[Plane, list[FileRef]]:
    """One channel: its z slices reduced to one plane, and what was read for it."""
    first: Plane | None = None
    refs: list[FileRef] = []

    def pixels() -> Iterable[Array]:
        nonlocal first
        for item in slices:
            plane = _read_listed(item.stat, fmt, source)
            refs.append(FileRef(item.stat.path, item.stat.size, item.stat.mtime_ns, plane.digest))
            first = first or plane
            yield plane.pixels

    reduced = reduce_z(pixels(), source.z, where=slices[0].stat.path)
    if first is None:
        raise BadFile("unreadable", "a channel without files", where=slices[0].channel)
    names = _names(first, slices[0].channel, source)
    plane = Plane(reduced, names, first.pixel_size_um, first.acquired_at, first.elapsed_ms, first.number, first.digest)
    return plane, refs


def _read_listed(stat: FileStat, fmt: SourceFormat, source: config.Source) -> Plane:
    """Read a file that must be what was listed, before and after. Parts of containers have no listing of their own."""
    if "!" in stat.path and not os.path.lexists(source.path / stat.path):
        return fmt.read(source.path, stat.path)
    check_listed(source.path, stat)
    plane = fmt.read(source.path, stat.path)
    check_listed(source.path, stat)
    return plane


def _names(plane: Plane, channel: str, source: config.Source) -> tuple[str, ...]:
    """The channel names of one plane: the file name's word first, then the content's, then the configuration's."""
    if len(plane.channels) > 1:
        return plane.channels
    return (channel or plane.channels[0] or source.channels.segment or GREY,)


def _stacked(
    planes: dict[str, Plane], channels: config.Channels, where: str
) -> tuple[tuple[str, ...], Array, tuple[str, ...]]:
    """Names, (C, Y, X) pixels, and the file channel that each came from, in the frame's order."""
    wanted = (*channels.awaited, *channels.optional)
    flat = [
        (name, image, owner)
        for owner, plane in planes.items()
        for name, image in zip(plane.channels, plane.pixels, strict=True)
    ]
    rank = {name: i for i, name in reversed(list(enumerate(wanted)))}
    flat.sort(key=lambda item: (rank.get(item[0], len(wanted)), item[2]))  # stable: a file's own order stays
    if len({image.shape for _, image, _ in flat}) > 1:
        shapes = ", ".join(f"{name} {image.shape[1]} x {image.shape[0]}" for name, image, _ in flat)
        raise BadFile("geometry_changed", f"channels of unequal size: {shapes}", where=where)
    if len({name for name, _, _ in flat}) < len(flat):
        raise BadFile("bad_metadata", f"two channels of one name: {[name for name, _, _ in flat]}", where=where)
    dtype = np.result_type(*(image.dtype for _, image, _ in flat))
    pixels = np.stack([image for _, image, _ in flat]).astype(dtype, copy=False)
    return tuple(name for name, _, _ in flat), pixels, tuple(owner for _, _, owner in flat)


def _pixel_size(planes: list[Plane], files: FrameFiles, source: config.Source) -> tuple[float, float]:
    if source.pixel_size_um is not None:
        return source.pixel_size_um
    sizes = [plane.pixel_size_um for plane in planes if plane.pixel_size_um is not None]
    path = files.slices[0].stat.path
    if not sizes:
        what = f"neither the file nor the configuration says how large a pixel is (source {source.name!r})"
        hint = f"set sources[].pixel_size_um for {source.name!r}, in micrometres"
        raise BadFile("no_pixel_size", what, where=path, hint=hint)
    if not all(np.allclose(size, sizes[0], rtol=_SAME_SIZE, atol=0) for size in sizes):
        raise BadFile("bad_metadata", f"the channels' pixel sizes differ: {sizes}", where=path)
    if not all(_SMALLEST_UM <= side <= _LARGEST_UM for side in sizes[0]):
        raise BadFile("bad_metadata", f"a pixel of {sizes[0][0]:g} x {sizes[0][1]:g} um", where=path)
    return sizes[0]


def _acquired_at(planes: list[Plane], files: FrameFiles) -> datetime:
    """The first channel's own time, else another's, else the file's date."""
    told = (plane.acquired_at for plane in planes if plane.acquired_at is not None)
    if found := next(told, None):
        return found
    stat = files.slices[0].stat
    try:
        return datetime.fromtimestamp(stat.mtime_ns / 1e9, tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise BadFile("bad_metadata", "the file's date is beyond the calendar", where=stat.path) from None


def _note_time(files: FrameFiles, planes: list[Plane], fmt: SourceFormat) -> None:
    """A name and a metadata that disagree about the time point are told, and the name is followed."""
    told = next((plane.number for plane in planes if plane.number is not None), None)
    if told is not None and files.number >= 0 and told != files.number - fmt.first_number:
        log.warning(
            "%s: the name says time point %d, the metadata %d", files.key, files.number - fmt.first_number, told
        )
