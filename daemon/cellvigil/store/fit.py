"""Whether a record fits its plate, and the geometry that a plate's first frame fixes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import Array, Frame, Record
from cellvigil.errors import BadFile
from cellvigil.store.layout import Geometry
from cellvigil.store.shards import ROWS

DTYPES = ("uint8", "uint16", "float32")
"""Pixel types that a plate may have."""


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """What the configuration says of a source beforehand, so that a plate's arrays are laid out for all of it."""

    channels: tuple[str, ...] = ()  # names that may come, the later ones too
    interval_s: float | None = None  # seconds between time points


def fitting_geometry(frame: Frame, known: Geometry | None, plan: SourcePlan) -> Geometry:
    """The plate's geometry: `known`, which the frame must fit, or the one that the frame begins.

    Raises BadFile("geometry_changed") if image size, pixel type, pixel size (by over 1 %) or channels differ, and
    BadFile("wrong_type") for pixels that no plate can hold.
    """
    where = frame.files[0].path if frame.files else str(frame.key)
    dtype = frame.pixels.dtype.newbyteorder("=").name
    if dtype not in DTYPES:
        raise BadFile("wrong_type", f"pixels of type {dtype} cannot be stored", where=where)
    if known is None:
        return _first_geometry(frame, dtype, plan)
    differs = []
    if frame.pixels.shape[1:] != known.shape:
        differs.append(f"image size {frame.pixels.shape[1:]} instead of {known.shape}")
    if dtype != known.dtype:
        differs.append(f"pixel type {dtype} instead of {known.dtype}")
    if not np.allclose(frame.pixel_size_um, known.pixel_size_um, rtol=0.01, atol=0):
        differs.append(f"pixel size {frame.pixel_size_um} um instead of {known.pixel_size_um}")
    if frame.channels != known.channels and not _fits(frame.channels, known.channels):
        differs.append(f"channels {list(frame.channels)} instead of {list(known.channels)}")
    if differs:
        hint = "a plate keeps the geometry of its first frame; channels that come later belong under channels.optional"
        raise BadFile("geometry_changed", "; ".join(differs), where=where, hint=hint)
    return known


def check_cells(record: Record) -> None:
    """See that a record's parts fit each other and the tables.

    Raises BadFile("too_many_cells"), and ValueError where the parts contradict each other.
    """
    count = len(record.cells)
    if count > ROWS:
        where = record.frame.files[0].path if record.frame.files else str(record.frame.key)
        hint = "see whether the segmentation settings fit these images (segment.min_area_um2, segment.sensitivity)"
        raise BadFile("too_many_cells", f"{count} cells; a frame holds {ROWS}", where=where, hint=hint)
    blocks = {"calls": len(record.calls), **{name: len(block) for name, block in record.embeddings.items()}}
    if wrong := {name: rows for name, rows in blocks.items() if rows != count}:
        raise ValueError(f"{record.frame.key}: {count} cells, but rows {wrong}")
    if record.cells.labels.shape != record.frame.pixels.shape[1:]:
        raise ValueError(f"{record.frame.key}: labels {record.cells.labels.shape}, image {record.frame.pixels.shape}")
    if count and int(np.max(record.calls.best_ids)) >= len(record.classes):
        raise ValueError(f"{record.frame.key}: a class id beyond the {len(record.classes)} classes")


def _first_geometry(frame: Frame, dtype: str, plan: SourcePlan) -> Geometry:
    height, width = frame.pixels.shape[1:]
    later = tuple(name for name in plan.channels if name not in frame.channels)
    windows = [_window(plane) for plane in frame.pixels]
    size_y, size_x = frame.pixel_size_um
    return Geometry(
        channels=frame.channels + later,
        dtype=dtype,
        shape=(int(height), int(width)),
        pixel_size_um=(float(size_y), float(size_x)),
        windows=(*windows, *[(0.0, 65535.0 if dtype == "uint16" else 255.0 if dtype == "uint8" else 1.0)] * len(later)),
        interval_s=plan.interval_s,
    )


def _window(plane: Array) -> tuple[float, float]:
    sample = plane[::4, ::4]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.percentile(sample, (0.1, 99.9)))
    return (low, high if high > low else low + 1.0)


def _fits(channels: tuple[str, ...], known: tuple[str, ...]) -> bool:
    return len(set(channels)) == len(channels) and set(channels) <= set(known)
