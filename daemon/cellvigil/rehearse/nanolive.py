"""Files as a Nanolive CX-A's projections lie in a folder: one TIFF a field and time, refractive index in tag 65000.

The stored value times (max - min) / 65535 plus min is the refractive index; rows are stored bottom up. The instrument
writes no pixel size here: the configuration gives it (`pixel_size_um: 0.19`).
"""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import PurePosixPath

import numpy as np
import tifffile

from cellvigil.data import F32

RANGE_TAG = 65000
PATTERN = r"(?P<well>[A-Z]{1,2}\d{1,2})_(?P<field>\d+)_(?P<time>\d+)\.tif$"
"""The source's `pattern` that reads these names: Nanolive's own have no fixed form."""
_FULL = 65535


def path_of(experiment: str, started_at: datetime, well: str, field: int, timepoint: int) -> PurePosixPath:
    """Where the image lies below the image folder: `DATED_experiment/WELL_FIELD_NNN.tif`, NNN from 1."""
    return PurePosixPath(f"{started_at:%y%m%d_%H%M%S}_{experiment}", f"{well}_{field}_{timepoint + 1:03d}.tif")


def encode(refractive_index: F32) -> bytes:
    """The TIFF file of one (Y, X) projection; its range is the image's own."""
    low, high = float(refractive_index.min()), float(refractive_index.max())
    stored = np.round((refractive_index - low) * (_FULL / (high - low))).clip(0, _FULL).astype(np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.flipud(stored),
        photometric="minisblack",
        metadata=None,
        software=False,
        extratags=[(RANGE_TAG, "f", 2, (low, high), True)],
    )
    return file.getvalue()
