"""Nanolive: refractive index, flips, projections, and archives of unknown member names."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellvigil import config
from cellvigil.data import Array
from cellvigil.errors import BadFile
from cellvigil.sources.intake import take
from cellvigil.sources.nanolive import Nanolive
from source_files import LIMITS, make_source, ri_tag, stat_of, texture, tiff_bytes, write_vol

LOW, HIGH = 1.33, 1.40


def _nanolive(root: Path, limits: config.Limits = LIMITS, **settings: object) -> Nanolive:
    return Nanolive(make_source(root, "nanolive", **settings), limits)


def _index(raw: Array, top: int) -> Array:
    """Refractive index by the definition, in double precision."""
    return LOW + raw.astype(float) * (HIGH - LOW) / top


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_projection_becomes_refractive_index_and_is_turned_upright(tmp_path: Path, dtype: type, top: int) -> None:
    raw = texture(top=top).astype(dtype)
    raw[0, 0], raw[0, 1] = 0, top
    tifffile.imwrite(tmp_path / "MIP_1.tif", raw, photometric="minisblack", extratags=ri_tag(LOW, HIGH))
    plane = _nanolive(tmp_path).read(tmp_path, "MIP_1.tif")
    assert plane.channels == ("RI",)
    assert plane.pixels.dtype == np.float32
    assert np.allclose(plane.pixels[0], _index(raw, top)[::-1], atol=2e-7)
    assert plane.pixels[0, -1, :2].tolist() == pytest.approx([LOW, HIGH], abs=1e-6)


def test_a_stack_is_projected_to_its_maximum(tmp_path: Path) -> None:
    raw = np.stack([texture(seed=seed) for seed in range(5)])
    tifffile.imwrite(tmp_path / "a.tiff", raw, photometric="minisblack", extratags=ri_tag(LOW, HIGH))
    plane = _nanolive(tmp_path).read(tmp_path, "a.tiff")
    assert np.allclose(plane.pixels[0], _index(raw.max(axis=0), 65535)[::-1], atol=2e-7)


def test_float_pixels_below_three_are_refractive_index_already(tmp_path: Path) -> None:
    index = (1.33 + texture() / 1e6).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", index, extratags=ri_tag(LOW, HIGH))
    plane = _nanolive(tmp_path).read(tmp_path, "a.tif")
    assert plane.channels == ("RI",)
    assert np.array_equal(plane.pixels[0], index[::-1])


def test_fluorescence_stays_as_it_is(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "gfp.tif", texture(), photometric="minisblack")
    plane = _nanolive(tmp_path).read(tmp_path, "gfp.tif")
    assert plane.channels == ("",)
    assert np.array_equal(plane.pixels[0], texture()[::-1])


@pytest.mark.parametrize(
    ("pixels", "range_"),
    [
        (texture(), (1.40, 1.33)),
        (texture(), (0.0, 1.4)),
        (texture(), (1.33, 14.0)),
        (texture(), (float("nan"), 1.4)),
        ((texture() + 10).astype(np.float32), (LOW, HIGH)),
    ],
    ids=["reversed", "from nothing", "beyond glass", "no number", "floats of another kind"],
)
def test_a_range_that_cannot_be_is_refused(tmp_path: Path, pixels: Array, range_: tuple[float, float]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", extratags=ri_tag(*range_))
    with pytest.raises(BadFile) as caught:
        _nanolive(tmp_path).read(tmp_path, "a.tif")
    assert (caught.value.reason, caught.value.where) == ("bad_metadata", "a.tif")


def test_imagej_pixel_size_is_used_and_bare_resolution_is_not(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "ij.tif", texture(), imagej=True, resolution=(5.0, 4.0), metadata={"unit": "um"})
    tifffile.imwrite(tmp_path / "dpi.tif", texture(), resolution=(72, 72), resolutionunit="INCH")
    fmt = _nanolive(tmp_path)
    assert fmt.read(tmp_path, "ij.tif").pixel_size_um == pytest.approx((0.25, 0.2))
    assert fmt.read(tmp_path, "dpi.tif").pixel_size_um is None


def _volume(seed: int) -> bytes:
    return tiff_bytes(np.stack([texture(seed=seed), texture(seed=seed + 1)]), extratags=ri_tag(LOW, HIGH))


def test_an_archive_gives_its_frames_in_natural_order(tmp_path: Path) -> None:
    members = {"record.xml": b"<acquisition/>", "frame_10.tiff": _volume(10), "frame_9.tiff": _volume(9)}
    write_vol(tmp_path / "exp.vol", members)
    fmt = _nanolive(tmp_path, timezone="Europe/Zurich")
    parts = take(fmt, tmp_path, stat_of(tmp_path, "exp.vol"))
    assert [(seen.number, seen.folder, seen.channel, seen.well) for _, seen in parts] == [
        (0, "exp.vol", "", "A1"),
        (1, "exp.vol", "", "A1"),
    ]
    planes = [fmt.read(tmp_path, stat.path) for stat, _ in parts]
    for seed, plane in zip((9, 10), planes, strict=True):
        raw = np.maximum(texture(seed=seed), texture(seed=seed + 1))
        assert np.allclose(plane.pixels[0], _index(raw, 65535)[::-1], atol=2e-7)
    assert [plane.number for plane in planes] == [0, 1]
    assert parts[0][0].size == len(members["frame_9.tiff"])
    written = datetime(2025, 2, 1, 19, 0, 10, tzinfo=UTC)  # the members' date, in the source's zone
    assert datetime.fromtimestamp(parts[0][0].mtime_ns / 1e9, tz=UTC) == written


def test_an_archive_that_grew_leaves_its_earlier_frames_as_they_were(tmp_path: Path) -> None:
    fmt = _nanolive(tmp_path)
    write_vol(tmp_path / "exp.vol", {"f1.tif": _volume(1)})
    before = take(fmt, tmp_path, stat_of(tmp_path, "exp.vol"))
    write_vol(tmp_path / "exp.vol", {"f1.tif": _volume(1), "f2.tif": _volume(2)})
    after = take(fmt, tmp_path, stat_of(tmp_path, "exp.vol"))
    assert len(after) == 2
    assert after[0] == before[0]


def test_fluorescence_in_an_archive_is_a_channel_of_its_own(tmp_path: Path) -> None:
    members = {f"a/volume_{i}.tif": _volume(i) for i in (1, 2)}
    members |= {f"a/GFP_{i}.tif": tiff_bytes(texture(seed=i)) for i in (1, 2)}
    write_vol(tmp_path / "exp.vol", members)
    fmt = _nanolive(tmp_path)
    parts = take(fmt, tmp_path, stat_of(tmp_path, "exp.vol"))
    assert sorted((seen.channel, seen.number) for _, seen in parts) == [("GFP", 0), ("GFP", 1), ("RI", 0), ("RI", 1)]
    for stat, seen in parts:
        assert fmt.read(tmp_path, stat.path).channels == (seen.channel,)


@pytest.mark.parametrize("name", ["../../evil_1.tif", "/abs/evil_1.tif", "..\\evil_1.tif", "C:\\evil_1.tif"])
def test_a_member_that_points_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "scans"
    folder.mkdir(parents=True)
    write_vol(folder / "exp.vol", {name: _volume(1)})
    with pytest.raises(BadFile, match="leave its folder"):
        take(_nanolive(folder), folder, stat_of(folder, "exp.vol"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["exp.vol"]


def test_a_member_named_like_a_part_is_read_as_what_it_is(tmp_path: Path) -> None:
    write_vol(tmp_path / "exp.vol", {"a!b@0!c_1.tif": _volume(1)})
    fmt = _nanolive(tmp_path)
    ((stat, _),) = take(fmt, tmp_path, stat_of(tmp_path, "exp.vol"))
    assert fmt.read(tmp_path, stat.path).channels == ("RI",)


def test_a_member_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    write_vol(tmp_path / "bomb.vol", {"f1.tif": bytes(3_000_000)})
    assert (tmp_path / "bomb.vol").stat().st_size < 10_000
    fmt = _nanolive(tmp_path, config.Limits(max_file_mb=2))
    ((stat, _),) = take(fmt, tmp_path, stat_of(tmp_path, "bomb.vol"))
    with pytest.raises(BadFile) as caught:
        fmt.read(tmp_path, stat.path)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("members", [{}, {"record.xml": b"<a/>"}])
def test_an_archive_without_images_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    write_vol(tmp_path / "exp.vol", members)
    with pytest.raises(BadFile) as caught:
        take(_nanolive(tmp_path), tmp_path, stat_of(tmp_path, "exp.vol"))
    assert caught.value.reason == "wrong_type"


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    write_vol(tmp_path / "exp.vol", {"f1.tif": _volume(1)}, stored=True)
    data = bytearray((tmp_path / "exp.vol").read_bytes())
    data[len(data) // 2] ^= 0xFF  # the member's checksum tells
    (tmp_path / "exp.vol").write_bytes(data)
    fmt = _nanolive(tmp_path)
    ((stat, _),) = take(fmt, tmp_path, stat_of(tmp_path, "exp.vol"))
    with pytest.raises(BadFile) as caught:
        fmt.read(tmp_path, stat.path)
    assert caught.value.reason == "unreadable"
