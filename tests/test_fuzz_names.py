"""Any text as a name or as metadata: read, or refused as a bad file, and nothing else. What we write is read back."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellvigil import config
from cellvigil.errors import BadFile
from cellvigil.sources import bti, ome
from cellvigil.sources.natural import natural_key
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.registry import format_of
from source_files import LIMITS, bti_xml, make_source

ZONE = ZoneInfo("Europe/Berlin")
PATTERN = r"(?P<well>[A-Z]+\d+)_t(?P<time>\d+)"
FORMATS: dict[str, SourceFormat] = {
    kind: format_of(make_source(Path("x"), kind, **({"pattern": PATTERN} if kind == "plain" else {})), LIMITS)
    for kind in ("gen5", "nanolive", "ometiff", "plain")
}
WORDS = st.sampled_from(
    [
        "A1",
        "AF48",
        "A0",
        "ZZ9",
        "01",
        "-1",
        "_",
        "Z0",
        "ROI",
        "Bright Field",
        "Tsf[",
        "]",
        "Stitched[",
        "T001",
        "SP1",
        "C1",
        "..",
        "/",
        "\\",
        "!",
        "@",
        "s0t1",
        ".vol",
        ".tif",
        ".ome.tif",
        "\u202e",
        "\n",
        "\0",
        "9" * 30,
        "\udce9",
        "t1",
        "240301_180000_x",
    ]
)
NAMES = st.lists(WORDS | st.text(max_size=4), max_size=12).map("".join) | st.text(max_size=80)
NUMBERS = st.sampled_from(["", "0", "-1", "nan", "inf", "-inf", "1e300", "1e-300", "1_0", "0x1", "٣", " 7 ", "13"])
VALUES = NUMBERS | st.floats().map(str) | st.integers().map(str) | st.text(max_size=12)
WELLS = st.builds(lambda row, column: f"{row}{column}", st.sampled_from("ABHP"), st.integers(1, 48))


@pytest.mark.parametrize("kind", FORMATS)
@given(NAMES, st.sampled_from(["", ".tif", ".tiff", ".vol", ".png", ".ome.tif", ".tif!s0t1", ".vol!@000001!x.tif"]))
def test_any_name_is_sighted_or_refused(kind: str, name: str, suffix: str) -> None:
    with contextlib.suppress(BadFile):
        seen = FORMATS[kind].sight(name + suffix)
        if seen is not None:
            assert isinstance(seen.number, int)
            assert seen.well.isascii()
            assert natural_key(seen.field)


@given(
    WELLS,
    st.integers(1, 99),
    st.integers(0, 5),
    st.integers(1, 9999),
    st.sampled_from(["DAPI", "Bright Field", "a b,c"]),
)
def test_a_gen5_name_that_we_make_is_read_back(well: str, field: int, z: int, number: int, channel: str) -> None:
    for name in (
        f"{well}_02_1_{field}Z{z}_{channel}_{number:03d}.tif",
        f"{well}_{field}Z{z}_{channel}_1_{number:03d}_02.tif",
        f"{well}_02_SP{field}Z{z}_C1_{channel}_T{number:03d}.tif",
    ):
        seen = FORMATS["gen5"].sight(f"240301_180000_Run/240301_180005_Plate 1/{name}")
        assert seen is not None
        told = (seen.well, seen.field, seen.z, seen.number, seen.channel, seen.plate)
        assert told == (well, str(field), z, number, channel, "Plate 1")


def escaped(text: str) -> str:
    """Text as XML may hold it."""
    for char, name in (("&", "&amp;"), ("<", "&lt;"), ('"', "&quot;")):
        text = text.replace(char, name)
    return text


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "Well",
                "Date",
                "Time",
                "Daylight",
                "KineticSequence",
                "KineticTimeMs",
                "PixelWidth",
                "PixelHeight",
                "ImageWidthMicrons",
                "ImageHeightMicrons",
                "Color",
            ]
        ),
        VALUES,
    )
)
@example({"Date": "10/26/25", "Time": "02:30:00", "Daylight": "", "KineticTimeMs": "1e300"})
def test_any_values_in_gen5_metadata_are_read_or_refused(values: dict[str, str]) -> None:
    with contextlib.suppress(BadFile):
        found = bti.parse(bti_xml(**{name: escaped(value) for name, value in values.items()}), "x")
        assert found is not None
        assert found.pixel_size_um is None or all(0 < side < float("inf") for side in found.pixel_size_um)
        moment = bti.acquired_at(found, ZONE, "251026_013000")
        assert moment is None or moment.tzinfo is not None


@given(VALUES, VALUES, VALUES, st.sampled_from(["um", "nm", "pc", "", "µm"]), VALUES)
@example("0001-01-01T00:00:00+14:00", "1", "1", "um", "1e300")
@example("9999-12-31T23:59:59-14:00", "1", "1", "um", "1e300")
def test_any_values_in_ome_metadata_are_read_or_refused(
    date: str, size: str, count: str, unit: str, delta: str
) -> None:
    sizes = f'SizeX="{escaped(size)}" SizeY="4" SizeZ="1" SizeC="1" SizeT="{escaped(count)}" DimensionOrder="XYZCT"'
    scale = f'PhysicalSizeX="{escaped(size)}" PhysicalSizeXUnit="{unit}" PhysicalSizeY="1"'
    text = (
        f"<OME><Image><AcquisitionDate>{escaped(date)}</AcquisitionDate><Pixels {sizes} {scale}>"
        f'<TiffData PlaneCount="{escaped(count)}"/><Plane TheT="0" DeltaT="{escaped(delta)}"/></Pixels></Image></OME>'
    )
    with contextlib.suppress(BadFile):
        ome.check_sizes(text, "x", LIMITS, pages=3, smallest=16)
    with contextlib.suppress(BadFile):
        for image in ome.parse(text, "x", ZONE):
            moment = ome.moment(image, 0)
            assert moment is None or isinstance(moment, datetime)


@pytest.mark.parametrize("kind", ["bti", "ome"])
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("utf-8", "replace")))
def test_any_text_for_metadata_is_read_or_refused(kind: str, text: str) -> None:
    with contextlib.suppress(BadFile):
        if kind == "bti":
            bti.parse(f"<BTIImageMetaData>{text}", "x")
        else:
            ome.parse(text, "x", ZONE)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 10**9))
def test_no_document_makes_room_for_more_than_the_limits(planes: int, width: int, count: int) -> None:
    limits = config.Limits(max_members=50)
    text = (
        f'<OME><Image><Pixels DimensionOrder="XYZCT" SizeX="{width}" SizeY="1" SizeZ="1" SizeC="1" SizeT="{planes}">'
        f'<TiffData IFD="0" PlaneCount="{count}"/></Pixels></Image></OME>'
    )
    fits = planes <= 50 and count <= 100 and planes * width <= 100 * 50 * 16
    if fits:
        ome.check_sizes(text, "x", limits, pages=1, smallest=16)
    else:
        with pytest.raises(BadFile) as caught:
            ome.check_sizes(text, "x", limits, pages=1, smallest=16)
        assert caught.value.reason == "too_large"
