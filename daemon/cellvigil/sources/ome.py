"""OME-XML: pixel size, channel names and times of each image in an OME-TIFF."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element
from zoneinfo import ZoneInfo

from cellvigil import config
from cellvigil.errors import BadFile
from cellvigil.sources import safexml
from cellvigil.sources.load import too_large

_MICROMETRES = {"pm": 1e-6, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_LONGEST_INDEX = 9  # digits of a time point
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image of an OME document."""

    pixel_size_um: tuple[float, float] | None  # (y, x)
    channels: tuple[str, ...]  # "" where a channel has no name
    acquired_at: datetime | None  # aware, UTC; of the first time point
    elapsed_s: dict[int, float]  # by time index, since `acquired_at`; of each time point's earliest plane


def parse(description: str, path: str, zone: ZoneInfo, limits: config.Limits | None = None) -> tuple[OmeImage, ...]:
    """The images of the document, in order. Raises BadFile("bad_metadata") for unsafe or broken XML.

    `zone` is that of times without one.
    """
    root = safexml.parse(description, path, limits)
    return tuple(_image(image, zone) for image in safexml.children(root, "Image"))


def check_sizes(description: str, path: str, limits: config.Limits, *, pages: int, smallest: int) -> None:
    """Raise BadFile for a document that says more planes than `limits.max_members`, or what no file can hold.

    For a reader that makes room for whatever the document says. `pages` are the file's, `smallest` the pixels of the
    smallest of them.
    """
    planes = told = 0
    root = safexml.parse(description, path, limits)
    for image in safexml.children(root, "Image"):
        for pixels in safexml.children(image, "Pixels"):
            sizes = {axis: _count(pixels.get(f"Size{axis}"), path) for axis in "XYZCT"}
            if sorted(pixels.get("DimensionOrder", "")) != sorted("XYZCT") or min(sizes.values()) < 1:
                raise BadFile("bad_metadata", f"the metadata describes an image of {sizes}", where=path)
            planes += math.prod(sizes[axis] for axis in "ZCT")
            if math.prod(sizes.values()) > smallest * 100 * limits.max_members:
                raise too_large(path, f"the metadata describes {sizes}", "limits.max_members")
            for data in safexml.children(pixels, "TiffData"):
                count = data.get("PlaneCount") or data.get("NumPlanes")
                told += _count(count, path) if count else 1 if "IFD" in data.attrib else pages
    if max(planes, told / 2) > limits.max_members:
        raise too_large(path, f"the metadata describes {max(planes, told)} planes", "limits.max_members")
    notes = (note for part in safexml.children(root, "StructuredAnnotations") for note in part)
    if any(note.get("Namespace", "").endswith("modulo") for note in notes):
        raise BadFile("wrong_type", "axes beyond X, Y, Z, C and T (Modulo) are not read here", where=path)


def _count(text: str | None, path: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise BadFile("bad_metadata", f"the metadata has {text!r:.40} for a number", where=path) from None


def _image(image: Element, zone: ZoneInfo) -> OmeImage:
    pixels = next(iter(safexml.children(image, "Pixels")), image)
    sizes = [_length(pixels, axis) for axis in "YX"]
    elapsed: dict[int, float] = {}
    for plane in safexml.children(pixels, "Plane"):
        seconds = _scaled(plane.get("DeltaT"), plane.get("DeltaTUnit") or "s", _SECONDS)
        time = plane.get("TheT", "")
        if seconds is not None and time.isdecimal() and len(time) <= _LONGEST_INDEX:
            elapsed[int(time)] = min(seconds, elapsed.get(int(time), seconds))
    return OmeImage(
        pixel_size_um=(sizes[0], sizes[1]) if sizes[0] and sizes[1] else None,
        channels=tuple((channel.get("Name") or "").strip() for channel in safexml.children(pixels, "Channel")),
        acquired_at=_date(safexml.text_at(image, "AcquisitionDate"), zone),
        elapsed_s=elapsed,
    )


def moment(image: OmeImage, time: int) -> datetime | None:
    """When a time point was taken; None where the document does not say."""
    if image.acquired_at is None or (time and time not in image.elapsed_s):
        return None
    return later(image.acquired_at, image.elapsed_s.get(time, 0.0))


def later(start: datetime, seconds: float) -> datetime | None:
    """So many seconds after `start`; None beyond the calendar."""
    try:
        return start + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _length(pixels: Element, axis: str) -> float | None:
    unit = pixels.get(f"PhysicalSize{axis}Unit") or "µm"
    value = _scaled(pixels.get(f"PhysicalSize{axis}"), unit, _MICROMETRES)
    return value if value and value > 0 else None


def _scaled(text: str | None, unit: str, units: dict[str, float]) -> float | None:
    try:
        value = float(text or "") * units[unit]
    except (ValueError, KeyError):
        return None
    return value if math.isfinite(value) else None


def _date(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):  # no date, or one that only another zone's calendar has
        return None
