"""OME-XML: pixel size, channel names and times of each image in an OME-TIFF."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element
from zoneinfo import ZoneInfo

from cellvigil.sources import safexml

_MICROMETRES = {"pm": 1e-6, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image of an OME document."""

    pixel_size_um: tuple[float, float] | None  # (y, x)
    channels: tuple[str, ...]  # "" where a channel has no name
    acquired_at: datetime | None  # aware, UTC; of the first time point
    elapsed_s: dict[int, float]  # by time index, since `acquired_at`; of each time point's earliest plane


def parse(description: str, path: str, zone: ZoneInfo) -> tuple[OmeImage, ...]:
    """The images of the document, in order. Raises BadFile("bad_metadata") for unsafe or broken XML.

    `zone` is that of times without one.
    """
    root = safexml.parse(description, path)
    return tuple(_image(image, zone) for image in safexml.children(root, "Image"))


def _image(image: Element, zone: ZoneInfo) -> OmeImage:
    pixels = next(iter(safexml.children(image, "Pixels")), image)
    sizes = [_length(pixels, axis) for axis in "YX"]
    elapsed: dict[int, float] = {}
    for plane in safexml.children(pixels, "Plane"):
        seconds = _scaled(plane.get("DeltaT"), plane.get("DeltaTUnit") or "s", _SECONDS)
        time = plane.get("TheT", "")
        if seconds is not None and time.isdecimal():
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
    return image.acquired_at + timedelta(seconds=image.elapsed_s.get(time, 0.0))


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
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=zone)).astimezone(UTC)
