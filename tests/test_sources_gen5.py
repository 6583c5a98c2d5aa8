"""Gen5 images: metadata, times and pixels, from real files written with real metadata."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cellvigil.data import FileStat
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.gen5 import Gen5
from cellvigil.sources.intake import take
from source_files import LIMITS, bti_xml, make_source, stat_of, texture, tiff_bytes, write_gen5

NAME = "B2_03_2_1_GFP_014.tif"
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="24" SizeZ="1"'
    ' SizeC="1" SizeT="1"><TiffData/></Pixels></Image>'
    '<StructuredAnnotations><XMLAnnotation ID="a"><Value>{}</Value></XMLAnnotation></StructuredAnnotations></OME>'
)


def _gen5(root: Path) -> Gen5:
    return Gen5(make_source(root), LIMITS)


def test_metadata_of_a_real_dump(tmp_path: Path) -> None:
    write_gen5(tmp_path / NAME)
    plane = _gen5(tmp_path).read(tmp_path, NAME)
    assert plane.pixel_size_um == (291 / 904, 394 / 1224)
    assert plane.pixel_size_um == pytest.approx((0.3219, 0.3219), abs=1e-4)
    assert plane.acquired_at == datetime(2025, 2, 1, 19, 0, 10, tzinfo=UTC)
    assert (plane.elapsed_ms, plane.number, plane.channels) == (11550000, 13, ("GFP",))
    assert np.array_equal(plane.pixels[0], texture())
    assert plane.pixels.dtype == np.uint16


def test_metadata_inside_ome_annotations_is_found(tmp_path: Path) -> None:
    inside = bti_xml()
    as_text = inside.replace("&", "&amp;").replace("<", "&lt;")
    for i, value in enumerate((inside, as_text, f"<![CDATA[{inside}]]>")):
        name = NAME.replace("014", f"{i + 1:03d}")
        write_gen5(tmp_path / name, description=OME.format(value))
        plane = _gen5(tmp_path).read(tmp_path, name)
        assert (plane.number, plane.pixel_size_um) == (13, (291 / 904, 394 / 1224))


@pytest.mark.parametrize(
    "description",
    [
        '<!DOCTYPE BTIImageMetaData [<!ENTITY a "b">]>' + bti_xml(Well="&a;"),
        '<!DOCTYPE BTIImageMetaData SYSTEM "http://127.0.0.1/x.dtd">' + bti_xml(),
        bti_xml().replace("</ImageReference>", ""),
        OME.format("&lt;!DOCTYPE BTIImageMetaData [&lt;!ENTITY a 'b'&gt;]&gt;" + bti_xml().replace("<", "&lt;")),
    ],
    ids=["entity", "external DTD", "broken", "hidden in text"],
)
def test_unsafe_or_broken_metadata_is_refused(tmp_path: Path, description: str) -> None:
    write_gen5(tmp_path / NAME, description=description)
    with pytest.raises(BadFile) as caught:
        _gen5(tmp_path).read(tmp_path, NAME)
    assert caught.value.reason == "bad_metadata"
    assert caught.value.where == NAME


@pytest.mark.parametrize("description", ["", "ImageJ=1.11a", "just words", "<xml>of another kind</xml>"])
def test_without_gen5_metadata_only_the_pixels_are_known(tmp_path: Path, description: str) -> None:
    write_gen5(tmp_path / NAME, description=description)
    plane = _gen5(tmp_path).read(tmp_path, NAME)
    assert (plane.pixel_size_um, plane.acquired_at, plane.number) == (None, None, None)
    assert np.array_equal(plane.pixels[0], texture())


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"PixelWidth": "0"}, None),
        ({"PixelWidth": ""}, None),
        ({"ImageWidthMicrons": "-394"}, None),
        ({"ImageWidthMicrons": "nan"}, None),
        ({"ImageWidthMicrons": "wide"}, None),
        ({"ImageWidthMicrons": "1389.0", "PixelWidth": "1992"}, (291 / 904, 1389 / 1992)),
    ],
)
def test_pixel_size(tmp_path: Path, changes: dict[str, str], size: tuple[float, float] | None) -> None:
    write_gen5(tmp_path / NAME, **changes)
    assert _gen5(tmp_path).read(tmp_path, NAME).pixel_size_um == size


# Clocks went back in Berlin on 2025-10-26 at 03:00 summer time: 02:30 came twice, at 00:30 and at 01:30 UTC.
_AUTUMN = {"Date": "10/26/25", "Time": "02:30:00"}
_STARTED = "251025_230000_Night/251025_230000_Plate 1/"  # 21:00 UTC


@pytest.mark.parametrize(
    ("changes", "folder", "hour"),
    [
        ({**_AUTUMN, "Daylight": "TRUE"}, "", "00:30"),
        ({**_AUTUMN, "Daylight": "FALSE"}, "", "01:30"),
        ({**_AUTUMN, "Daylight": "", "KineticTimeMs": str(3_600_000 * 7 // 2)}, _STARTED, "00:30"),
        ({**_AUTUMN, "Daylight": "", "KineticTimeMs": str(3_600_000 * 9 // 2)}, _STARTED, "01:30"),
        ({**_AUTUMN, "Daylight": "", "KineticTimeMs": ""}, _STARTED, "00:30"),
        ({**_AUTUMN, "Daylight": ""}, "", "00:30"),
        ({"Date": "10/26/25", "Time": "03:30:00", "Daylight": "TRUE"}, "", "02:30"),
        ({"Date": "10/26/25", "Time": "02: 30: 00", "Daylight": "FALSE"}, "", "01:30"),
    ],
)
def test_an_hour_that_comes_twice(tmp_path: Path, changes: dict[str, str], folder: str, hour: str) -> None:
    write_gen5(tmp_path / folder / NAME, **changes)
    plane = _gen5(tmp_path).read(tmp_path, folder + NAME)
    assert plane.acquired_at is not None
    assert plane.acquired_at.strftime("%Y-%m-%d %H:%M") == f"2025-10-26 {hour}"


@pytest.mark.parametrize("changes", [{"Date": ""}, {"Time": ""}, {"Date": "26.10.2025"}, {"Time": "25:00:00"}])
def test_a_time_that_cannot_be_read_is_left_to_the_file(tmp_path: Path, changes: dict[str, str]) -> None:
    write_gen5(tmp_path / NAME, **changes)
    assert _gen5(tmp_path).read(tmp_path, NAME).acquired_at is None


def test_a_colour_image_is_red_green_and_blue(tmp_path: Path) -> None:
    colour = np.dstack([texture(seed=seed) for seed in range(3)])
    write_gen5(tmp_path / "B2_01_1_1_Color Bright Field_001.tif", colour)
    plane = _gen5(tmp_path).read(tmp_path, "B2_01_1_1_Color Bright Field_001.tif")
    assert plane.channels == ("red", "green", "blue")
    assert np.array_equal(plane.pixels, np.moveaxis(colour, 2, 0))


def test_pages_are_slices(tmp_path: Path) -> None:
    flat = np.full((24, 32), 500, np.uint16)
    write_gen5(tmp_path / NAME, np.stack([flat, texture(), flat]))
    plane = _gen5(tmp_path).read(tmp_path, NAME)
    assert plane.pixels.shape == (1, 24, 32)
    assert np.array_equal(plane.pixels[0], texture())


def test_intake_takes_names_before_content(tmp_path: Path) -> None:
    fmt = _gen5(tmp_path)
    assert take(fmt, tmp_path, FileStat("Thumbs.db", 1, 1)) == ()
    with pytest.raises(BadFile):
        take(fmt, tmp_path, FileStat("wrong name.tif", 1, 1))  # it is not even there
    write_gen5(tmp_path / NAME)
    stat = stat_of(tmp_path, NAME)
    assert take(fmt, tmp_path, stat) == ((stat, fmt.sight(NAME)),)
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-1])
    with pytest.raises(NotYet):
        take(fmt, tmp_path, stat)


@pytest.mark.parametrize("cut", [9, 400, -1])
def test_broken_pixels_are_refused_not_crashed_on(tmp_path: Path, cut: int) -> None:
    data = bytearray(tiff_bytes(texture(), compression="zlib", description=bti_xml(), metadata=None))
    data[cut if cut > 0 else len(data) // 2] ^= 0xFF
    (tmp_path / NAME).write_bytes(data[:cut] if cut > 0 else data)
    with pytest.raises((BadFile, NotYet)) as caught:
        _gen5(tmp_path).read(tmp_path, NAME)
    if isinstance(caught.value, BadFile):
        assert caught.value.reason in ("unreadable", "bad_metadata")
    else:  # it ends too early: somebody may just be writing it again
        assert cut > 0


def test_a_file_that_is_gone_again_is_asked_for_later(tmp_path: Path) -> None:
    with pytest.raises(NotYet):
        _gen5(tmp_path).read(tmp_path, NAME)
