"""The `BTIImageMetaData` XML that Gen5 leaves in TIFF tag 270, bare or inside OME `StructuredAnnotations`.

Its times are local and without a zone. A local hour that happens twice (the end of daylight saving) is told apart by
the file's own `Daylight` flag, else by `KineticTimeMs`, which the microscope counts from the start of the series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element
from zoneinfo import ZoneInfo

from cellvigil import config
from cellvigil.sources import safexml

_ROOT = "BTIImageMetaData"


@dataclass(frozen=True, slots=True)
class BtiMetadata:
    """What we use of one image's metadata; None or "" where the file does not say."""

    well: str
    channel: str
    pixel_size_um: tuple[float, float] | None  # (y, x)
    local_time: datetime | None  # naive, the reader's own clock
    daylight: bool | None  # True: `local_time` is daylight saving time
    elapsed_ms: float | None  # since the series began
    sequence: int | None  # 0-based time index


def parse(description: str, path: str, limits: config.Limits | None = None) -> BtiMetadata | None:
    """The metadata in a TIFF description; None if there is none. Raises BadFile("bad_metadata", "too_large")."""
    if _ROOT not in description:
        return None
    root = _find(safexml.parse(description, path, limits), path, limits)
    return None if root is None else _read(root)


def acquired_at(metadata: BtiMetadata, zone: ZoneInfo, started: str = "") -> datetime | None:
    """When the image was taken, aware, UTC. `started` is the dated folder's "YYMMDD_HHMMSS" in local time, or ""."""
    if metadata.local_time is None:
        return None
    first, second = (metadata.local_time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first >= second:  # an ordinary hour; or one that was skipped, where fold 0 is as good as any
        return first
    if metadata.daylight is not None:
        return first if metadata.daylight else second
    if metadata.elapsed_ms is None or (start := _start(started, zone)) is None:
        return first
    try:
        expected = start + timedelta(milliseconds=metadata.elapsed_ms)
    except OverflowError:  # no series runs for millennia
        return first
    return min(first, second, key=lambda candidate: abs(candidate - expected))


def _find(root: Element, path: str, limits: config.Limits | None) -> Element | None:
    """The metadata's root: the document's own, one inside OME annotations, or XML kept there as text."""
    for element in root.iter():
        if safexml.local(element) == _ROOT:
            return element
    for element in root.iter():
        if element.text and f"<{_ROOT}" in element.text:
            return safexml.parse(element.text, path, limits)
    return None


def _read(root: Element) -> BtiMetadata:
    def reference(name: str) -> str:
        return safexml.text_at(root, "ImageReference", name)

    def acquisition(name: str) -> float | None:
        return _number(safexml.text_at(root, "ImageAcquisition", name))

    channels = [
        channel.get("Color", "").strip()
        for part in safexml.children(root, "ImageAcquisition")
        for channel in safexml.children(part, "Channel")
    ]
    size_y = _ratio(acquisition("ImageHeightMicrons"), acquisition("PixelHeight"))
    size_x = _ratio(acquisition("ImageWidthMicrons"), acquisition("PixelWidth"))
    sequence = _number(reference("KineticSequence"))
    return BtiMetadata(
        well=reference("Well"),
        channel=channels[0] if channels else "",
        pixel_size_um=(size_y, size_x) if size_y is not None and size_x is not None else None,
        local_time=_local_time(reference("Date"), reference("Time")),
        daylight={"TRUE": True, "FALSE": False}.get(reference("Daylight").upper()),
        elapsed_ms=_number(reference("KineticTimeMs")),
        sequence=int(sequence) if sequence is not None and sequence >= 0 else None,
    )


def _local_time(date: str, time: str) -> datetime | None:
    try:
        # The zone is the source's, set by the caller: the file has none.
        return datetime.strptime(f"{date} {time.replace(' ', '')}", "%m/%d/%y %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return None


def _start(started: str, zone: ZoneInfo) -> datetime | None:
    try:
        return datetime.strptime(started, "%y%m%d_%H%M%S").replace(tzinfo=zone).astimezone(UTC)
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _ratio(above: float | None, below: float | None) -> float | None:
    ratio = above / below if above and below and above > 0 and below > 0 else 0.0
    return ratio if 0 < ratio < math.inf else None
