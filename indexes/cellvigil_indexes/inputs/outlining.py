"""The SAM that outlines an index's cells as the daemon's does, where it was asked for, and what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellvigil.bundle.segmenter import open_segmenter
from cellvigil.segment.sam_session import SamSession, open_sam


def sam_of(name: str, folder: Path, device: str) -> SamSession | None:
    """The segmenter bundle `name` in the encoders' `folder`, loaded; None for "". Raises BundleError, DeviceError."""
    return open_sam(open_segmenter(folder / name), device=device) if name else None


def sam_told(sam: SamSession | None) -> dict[str, Any]:
    """What an index's provenance says of it: nothing where OpenCV alone outlined the cells."""
    return {} if sam is None else {"segmenter": {"name": sam.bundle.name, "sha256": sam.bundle.sha256}}
