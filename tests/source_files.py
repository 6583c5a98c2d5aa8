"""Writes image files as microscopes do, for the tests: real TIFFs with real metadata, PNGs, archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from cellvigil import config
from cellvigil.data import Array, FileStat, FrameFiles, FrameKey, Sighting, Slice

LIMITS = config.Limits()


def make_source(root: Path, kind: str = "gen5", **settings: Any) -> config.Source:
    if kind == "gen5":
        settings.setdefault("timezone", "Europe/Berlin")
    if kind == "plain":
        settings.setdefault("pattern", ".")
    return config.Source(name="scope", kind=kind, path=root, index="i", **settings)  # type: ignore[arg-type]


def stat_of(root: Path, path: str) -> FileStat:
    stat = (root / path).stat()
    return FileStat(path, stat.st_size, stat.st_mtime_ns)


def frame_files(root: Path, *files: tuple[str, int | None, str], number: int = 1) -> FrameFiles:
    """The frame made of files given as (channel, z, path)."""
    slices = tuple(Slice(channel, z, stat_of(root, path)) for channel, z, path in files)
    return FrameFiles(FrameKey("scope", "e", "Plate 1", "A1", "1", 0), slices, number=number)


def sighting(**parts: Any) -> Sighting:
    usual = {"experiment": "e", "plate": "p", "well": "A1", "field": "1", "number": 1, "folder": "", "channel": "BF"}
    return Sighting(**{**usual, "z": None, "derived": "", **parts})


def texture(height: int = 24, width: int = 32, *, seed: int = 0, top: int = 60000) -> Array:
    return np.random.default_rng(seed).integers(0, top, (height, width)).astype(np.uint16)


def bti_xml(**changes: str) -> str:
    """Gen5's metadata with the values of a real dump (Cytation 5, Gen5 3.12.08, 20x); "" leaves an entry out."""
    reference = {
        "Well": "B2",
        "ReadStepIndex": "2",
        "Date": "02/01/25",
        "Time": "20:00:10",
        "Daylight": "FALSE",
        "KineticSequence": "13",
        "KineticTimeMs": "11550000",
        "KineticReadsTotal": "121",
        "KineticIntevalMs": "60000",
    }
    acquisition = {"PixelWidth": "1224", "PixelHeight": "904", "ImageWidthMicrons": "394", "ImageHeightMicrons": "291"}
    color = changes.pop("Color", "GFP")
    for name, value in changes.items():
        (reference if name in reference else acquisition)[name] = value

    def entries(values: dict[str, str]) -> str:
        return "".join(f"<{name}>{value}</{name}>" for name, value in values.items() if value)

    return (
        f'<BTIImageMetaData Version="34"><ImageReference>{entries(reference)}</ImageReference>'
        f"<ImageAcquisition>{entries(acquisition)}"
        f'<Channel Color="{color}"><BrightField>FALSE</BrightField></Channel></ImageAcquisition></BTIImageMetaData>'
    )


def write_gen5(path: Path, pixels: Array | None = None, *, description: str | None = None, **changes: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = bti_xml(**changes) if description is None else description
    photometric = "rgb" if pixels is not None and pixels.shape[-1] == 3 else "minisblack"
    pixels = texture() if pixels is None else pixels
    tifffile.imwrite(path, pixels, description=text or None, metadata=None, photometric=photometric)
    return path


def tiff_bytes(pixels: Array, **settings: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", **settings})
    return file.getvalue()


def ri_tag(low: float, high: float) -> list[tuple[int, str, int, tuple[float, float], bool]]:
    """Nanolive's private tag: the range of refractive index."""
    return [(65000, "d", 2, (low, high), True)]


def image_bytes(suffix: str, pixels: Array, *settings: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, list(settings))
    if not done:
        raise ValueError(suffix)
    return data.tobytes()


def write_vol(path: Path, members: dict[str, bytes], *, stored: bool = False) -> Path:
    kind = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(2025, 2, 1, 20, 0, 10)), data, compress_type=kind)
    return path
