"""OME-TIFF: channels, slices, time points and positions of one file, and ImageJ's hyperstacks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellvigil import config
from cellvigil.data import Array, FileStat
from cellvigil.errors import BadFile
from cellvigil.sources.intake import take
from cellvigil.sources.ometiff import OmeTiff
from source_files import LIMITS, make_source, stat_of, texture, tiff_bytes


def _fmt(root: Path, limits: config.Limits = LIMITS, **settings: Any) -> OmeTiff:
    return OmeTiff(make_source(root, "ometiff", **settings), limits)


def _stack(*shape: int) -> Array:
    return np.random.default_rng(1).integers(0, 4000, (*shape, 20, 28)).astype(np.uint16)


def _write(path: Path, pixels: Array, axes: str, **metadata: Any) -> None:
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata={"axes": axes, **metadata})


def test_channels_pixel_size_and_time(tmp_path: Path) -> None:
    pixels = _stack(2)
    _write(
        tmp_path / "a.ome.tif",
        pixels,
        "CYX",
        Channel={"Name": ["Phase", "GFP"]},
        PhysicalSizeX=325.0,
        PhysicalSizeXUnit="nm",
        PhysicalSizeY=0.65,
        AcquisitionDate="2025-02-01T20:00:10+01:00",
    )
    plane = _fmt(tmp_path).read(tmp_path, "a.ome.tif")
    assert np.array_equal(plane.pixels, pixels)
    assert plane.channels == ("Phase", "GFP")
    assert plane.pixel_size_um == pytest.approx((0.65, 0.325))
    assert plane.acquired_at == datetime(2025, 2, 1, 19, 0, 10, tzinfo=UTC)


def test_a_time_without_a_zone_is_in_the_sources(tmp_path: Path) -> None:
    _write(tmp_path / "a.ome.tif", _stack(), "YX", AcquisitionDate="2025-07-01T12:00:00")
    plane = _fmt(tmp_path, timezone="Europe/Berlin").read(tmp_path, "a.ome.tif")
    assert plane.acquired_at == datetime(2025, 7, 1, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(("rule", "expected"), [("max", "maximum"), ("focus", "sharpest")])
def test_slices_are_reduced(tmp_path: Path, rule: str, expected: str) -> None:
    pixels = np.full((3, 2, 20, 28), 700, np.uint16)
    pixels[1, 0], pixels[2, 1] = _stack(), _stack() // 2
    _write(tmp_path / "a.ome.tif", pixels, "ZCYX")
    plane = _fmt(tmp_path, z=rule).read(tmp_path, "a.ome.tif")
    wanted = pixels.max(axis=0) if expected == "maximum" else np.stack([pixels[1, 0], pixels[2, 1]])
    assert np.array_equal(plane.pixels, wanted)


@pytest.mark.parametrize("axes", ["TCZYX", "TZCYX"])
@pytest.mark.parametrize("settings", [{}, {"compression": "zlib"}, {"bigtiff": True, "tile": (16, 16)}])
def test_a_file_of_several_time_points(tmp_path: Path, axes: str, settings: dict[str, Any]) -> None:
    pixels = _stack(3, 2, 2)
    metadata = {"axes": axes, "AcquisitionDate": "2025-02-01T20:00:10Z", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    planes = {"Plane": {"DeltaT": [600.0 * t for t in range(3) for _ in range(4)], "DeltaTUnit": ["s"] * 12}}
    path = tmp_path / "day 1" / "a.ome.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata=metadata | planes, **settings)
    fmt = _fmt(tmp_path, z="max")
    parts = take(fmt, tmp_path, stat_of(tmp_path, "day 1/a.ome.tif"))
    assert [seen.number for _, seen in parts] == [0, 1, 2]
    assert {(seen.experiment, seen.folder, seen.field) for _, seen in parts} == {("day 1", "day 1/a.ome.tif", "1")}
    for t, (stat, _) in enumerate(parts):
        plane = fmt.read(tmp_path, stat.path)
        assert np.array_equal(plane.pixels, pixels[t].max(axis=axes.index("Z") - 1))
        assert plane.acquired_at == datetime(2025, 2, 1, 20, 10 * t, 10, tzinfo=UTC)
        assert (plane.number, plane.pixel_size_um) == (t, (0.5, 0.5))
    assert len({fmt.read(tmp_path, stat.path).digest for stat, _ in parts}) == 3


def test_positions_are_fields(tmp_path: Path) -> None:
    images = [_stack(2), _stack(2) + 1]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for image in images:
            writer.write(image, photometric="minisblack", metadata={"axes": "TYX"})
    fmt = _fmt(tmp_path)
    parts = take(fmt, tmp_path, stat_of(tmp_path, "a.ome.tif"))
    assert [(seen.field, seen.number) for _, seen in parts] == [("1", 0), ("1", 1), ("1-2", 0), ("1-2", 1)]
    assert np.array_equal(fmt.read(tmp_path, parts[3][0].path).pixels[0], images[1][1])


def test_later_times_follow_the_sources_interval_where_the_file_has_none(tmp_path: Path) -> None:
    _write(tmp_path / "a.ome.tif", _stack(2), "TYX", AcquisitionDate="2025-02-01T20:00:00Z")
    stat = stat_of(tmp_path, "a.ome.tif")
    for settings, expected in (({}, None), ({"interval_s": 900}, datetime(2025, 2, 1, 20, 15, tzinfo=UTC))):
        fmt = _fmt(tmp_path, **settings)
        assert fmt.read(tmp_path, fmt.expand(tmp_path, stat)[1].path).acquired_at == expected


def test_imagej_hyperstacks_are_read(tmp_path: Path) -> None:
    pixels = _stack(2, 3)
    settings = {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "TCYX", "unit": "micron"}}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **settings)
    fmt = _fmt(tmp_path)
    parts = take(fmt, tmp_path, stat_of(tmp_path, "a.tif"))
    assert len(parts) == 2
    plane = fmt.read(tmp_path, parts[1][0].path)
    assert np.array_equal(plane.pixels, pixels[1])
    assert plane.pixel_size_um == (0.5, 0.5)
    assert plane.channels == ("C1", "C2", "C3")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["GFP", "GFP"], ("GFP 1", "GFP 2")), (["", "GFP"], ("C1", "GFP")), (["", ""], ("C1", "C2"))],
)
def test_channel_names_always_differ(tmp_path: Path, names: list[str], expected: tuple[str, ...]) -> None:
    _write(tmp_path / "a.ome.tif", _stack(2), "CYX", Channel={"Name": names})
    assert _fmt(tmp_path).read(tmp_path, "a.ome.tif").channels == expected


def _described(path: Path, description: str) -> None:
    path.write_bytes(tiff_bytes(texture(), description=description, metadata=None))


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("not OME at all", "wrong_type"),
        ('<!DOCTYPE OME [<!ENTITY a "b">]><OME xmlns="x"><Image/></OME>', "bad_metadata"),
    ],
)
def test_other_metadata_is_refused(tmp_path: Path, description: str, reason: str) -> None:
    _described(tmp_path / "a.tif", description)
    fmt = _fmt(tmp_path)
    for ask in (lambda: fmt.expand(tmp_path, stat_of(tmp_path, "a.tif")), lambda: fmt.read(tmp_path, "a.tif")):
        with pytest.raises(BadFile) as caught:
            ask()
        assert caught.value.reason == reason


_UUID = "urn:uuid:00000000-0000-0000-0000-00000000000{}"
_OTHER_FILE = (
    f'<TiffData IFD="0" FirstC="0" PlaneCount="1"><UUID FileName="a.ome.tif">{_UUID.format(1)}</UUID></TiffData>'
    f'<TiffData IFD="0" FirstC="1" PlaneCount="1"><UUID FileName="../b.ome.tif">{_UUID.format(2)}</UUID></TiffData>'
)


@pytest.mark.parametrize(
    ("data", "reason"), [(_OTHER_FILE, "wrong_type"), ('<TiffData IFD="0" PlaneCount="1"/>', "incomplete")]
)
def test_planes_that_are_not_in_the_file_are_missing_not_black(tmp_path: Path, data: str, reason: str) -> None:
    _described(
        tmp_path / "a.ome.tif",
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{_UUID.format(1)}"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="24" SizeZ="1" '
        'SizeC="2" SizeT="1">'
        f"{data}</Pixels></Image></OME>",
    )
    with pytest.raises(BadFile) as caught:
        _fmt(tmp_path).read(tmp_path, "a.ome.tif")
    assert caught.value.reason == reason


@pytest.mark.parametrize("limits", [config.Limits(max_pixels=500), config.Limits(max_pages=2)])
def test_sizes_are_checked_before_decoding(tmp_path: Path, limits: config.Limits) -> None:
    _write(tmp_path / "a.ome.tif", _stack(3), "ZYX")
    with pytest.raises(BadFile) as caught:
        _fmt(tmp_path, limits).read(tmp_path, "a.ome.tif")
    assert caught.value.reason == "too_large"


def test_a_part_of_a_file_that_is_no_container_any_more_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.ome.tif", _stack(), "YX")
    fmt = _fmt(tmp_path)
    assert fmt.expand(tmp_path, FileStat("a.ome.tif", 1, 1)) == (FileStat("a.ome.tif", 1, 1),)
    with pytest.raises(BadFile):
        fmt.read(tmp_path, "a.ome.tif!s4t0")
