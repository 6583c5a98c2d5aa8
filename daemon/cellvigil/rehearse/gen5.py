"""Files as BioTek's Gen5 writes them: form A names in dated folders, and its XML in TIFF tag 270.

The field names and values are those of `reference/microscopes.md` (a Cytation 5 with Gen5 3.12.08 at 20x).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from xml.etree import ElementTree

import tifffile

from cellvigil.data import Array

BRIGHT_FIELD = "Bright Field"
DEAD_STAIN = "GFP"
_CHANNELS = {BRIGHT_FIELD: 1, DEAD_STAIN: 2}
_WAVELENGTHS = {BRIGHT_FIELD: (0, 0), DEAD_STAIN: (469, 525)}  # excitation, emission, nm
_SATURATION = 65520


@dataclass(frozen=True, slots=True)
class Shot:
    """One image in one read of the plate."""

    experiment: str
    plate: str
    started_at: datetime  # the instrument's local clock, without a zone
    after: timedelta  # since the start
    well: str
    field: int  # 1-based
    fields: int
    timepoint: int  # 0-based
    timepoints: int
    interval: timedelta
    channel: str
    pixel_size_um: float


def path_of(shot: Shot) -> PurePosixPath:
    """Where the image lies below the image folder: dated experiment, dated plate, form A name with NNN from 1."""
    experiment = f"{shot.started_at:%y%m%d_%H%M%S}_{shot.experiment}"
    plate = f"{shot.started_at + timedelta(seconds=5):%y%m%d_%H%M%S}_{shot.plate}"
    index = _CHANNELS[shot.channel]
    name = f"{shot.well}_01_{index}_{shot.field}_{shot.channel}_{shot.timepoint + 1:03d}.tif"
    return PurePosixPath(experiment, plate, name)


def encode(pixels: Array, shot: Shot) -> bytes:
    """The TIFF file of one (Y, X) u16 image."""
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        photometric="minisblack",
        description=description(pixels.shape, shot),
        metadata=None,
        software="Gen5",
    )
    return file.getvalue()


def description(shape: tuple[int, ...], shot: Shot) -> str:
    """The `BTIImageMetaData` XML of an image of `shape` (Y, X)."""
    root = ElementTree.Element("BTIImageMetaData", Version="1.0")
    _add(
        root, "System", {"Gen5": {"Version": "3.12.08"}, "Camera": {"SaturationLevel": _SATURATION, "BitsPerPixel": 16}}
    )
    _add(root, "ImageReference", _reference(shape, shot))
    acquisition = _add(root, "ImageAcquisition", _acquisition(shape, shot))
    transmitted = shot.channel == BRIGHT_FIELD
    channel = _add(acquisition, "Channel", _channel(shot.channel, transmitted))
    channel.set("Color", shot.channel)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _channel(name: str, transmitted: bool) -> dict[str, object]:
    flags: dict[str, object] = {"BrightField": str(transmitted).upper(), "PhaseContrast": "FALSE"}
    excitation, emission = _WAVELENGTHS[name]
    return flags if transmitted else {**flags, "ExcitationWavelength": excitation, "EmissionWavelength": emission}


def _reference(shape: tuple[int, ...], shot: Shot) -> dict[str, object]:
    taken = shot.started_at + shot.after
    width_um = shape[1] * shot.pixel_size_um
    height_um = shape[0] * shot.pixel_size_um
    return {
        "Experiment": f"{shot.experiment}.xpt",
        "Plate": shot.plate,
        "DataSet": shot.channel,
        "OriginalFilename": "D:\\" + str(path_of(shot)).replace("/", "\\"),
        "Date": f"{taken:%m/%d/%y}",
        "Time": f"{taken:%H:%M:%S}",
        "Daylight": "FALSE",
        "ImageStatus": "ImageOk",
        "Vessel": 1,
        "Well": shot.well,
        "ReadStepIndex": 1,
        "MeasurementIndex": _CHANNELS[shot.channel],
        "KineticStartDate": f"{shot.started_at:%m/%d/%y}",
        "KineticStartTime": f"{shot.started_at:%H:%M:%S}",
        "KineticStartDaylight": "FALSE",
        "KineticSequence": shot.timepoint,
        "KineticTimeMs": round(shot.after.total_seconds() * 1000),
        "KineticReadsTotal": shot.timepoints,
        "KineticIntevalMs": round(shot.interval.total_seconds() * 1000),  # misspelt in the real files
        "HorizontalIndex": shot.field,
        "HorizontalTotal": shot.fields,
        "HorizontalOffsetMicrons": round((shot.field - 1) * width_um),
        "HorizontalSpacingMicrons": round(width_um),
        "VerticalIndex": 1,
        "VerticalTotal": 1,
        "VerticalOffsetMicrons": 0,
        "VerticalSpacingMicrons": round(height_um),
        "ZStackStepSizeMicrons": 0,
        "ZStackTotal": 1,
        "ZStackFocalPosition": 1,
        "ZStackPosition": 1,
    }


def _acquisition(shape: tuple[int, ...], shot: Shot) -> dict[str, object]:
    transmitted = shot.channel == BRIGHT_FIELD
    return {
        "Binning": "None",
        "PixelWidth": shape[1],
        "PixelHeight": shape[0],
        # Gen5 rounds these to whole micrometres, which on small frames would change the pixel size by per cents.
        "ImageWidthMicrons": f"{shape[1] * shot.pixel_size_um:.4f}",
        "ImageHeightMicrons": f"{shape[0] * shot.pixel_size_um:.4f}",
        "ObjectiveSize": 20,
        "DisplayedObjectiveSize": "20x",
        "ObjectiveMfg": "Olympus",
        "NumericalAperture": 0.45,
        "Temperature": {"Status": "DirectFromReader", "Value": 37},
        "ColorBrightField": "FALSE",
        "FocalHeightMicrons": 3226.3,
        "LEDIntensity": 4 if transmitted else 10,
        "ShutterSpeedMS": 20 if transmitted else 50,
        "CameraGain": 8 if transmitted else 15.6,
    }


def _add(parent: ElementTree.Element, name: str, content: object) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    if isinstance(content, dict):
        for key, value in content.items():
            _add(element, key, value)
    else:
        element.text = str(content)
    return element
