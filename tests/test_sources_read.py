"""From the files of one frame to the frame."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from cellvigil import config
from cellvigil.data import Frame, FrameFiles, Slice
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.bti import acquired_at, parse
from cellvigil.sources.intake import take
from cellvigil.sources.load import sha256
from cellvigil.sources.read import read_frame
from cellvigil.sources.registry import format_of
from cellvigil.sources.zstack import sharpness
from source_files import LIMITS, bti_xml, frame_files, image_bytes, make_source, stat_of, texture, write_gen5, write_vol

BF, GFP = "B2_01_1_1_Bright Field_014.tif", "B2_02_2_1_GFP_014.tif"


def _read(root: Path, files: FrameFiles, limits: config.Limits = LIMITS, **settings: Any) -> Frame:
    source = make_source(root, **settings)
    return read_frame(files, format_of(source, limits), source, limits)


def _two_channels(root: Path) -> FrameFiles:
    write_gen5(root / BF, texture(seed=1), Color="Bright Field", Time="20:00:12")
    write_gen5(root / GFP, texture(seed=2))
    return frame_files(root, ("Bright Field", None, BF), ("GFP", None, GFP), number=14)


def test_a_frame_of_two_channels(tmp_path: Path) -> None:
    files = _two_channels(tmp_path)
    frame = _read(tmp_path, files)
    assert frame.channels == ("Bright Field", "GFP")
    assert np.array_equal(frame.pixels, [texture(seed=1), texture(seed=2)])
    assert frame.pixel_size_um == (291 / 904, 394 / 1224)
    assert frame.acquired_at == datetime(2025, 2, 1, 19, 0, 12, tzinfo=UTC)  # the first channel's
    assert [(ref.path, ref.size, ref.digest) for ref in frame.files] == [
        (name, (tmp_path / name).stat().st_size, sha256((tmp_path / name).read_bytes())) for name in (BF, GFP)
    ]
    assert not frame.pixels.flags.writeable


@pytest.mark.parametrize(
    ("channels", "order"),
    [
        ({"segment": "GFP"}, ("GFP", "Bright Field")),
        ({"segment": "GFP", "optional": ["Bright Field"]}, ("GFP", "Bright Field")),
        ({"segment": "Bright Field", "required": ["GFP"]}, ("Bright Field", "GFP")),
        ({"required": ["GFP", "Bright Field"]}, ("GFP", "Bright Field")),
    ],
)
def test_channels_stand_in_the_configured_order(tmp_path: Path, channels: dict[str, Any], order: tuple[str]) -> None:
    frame = _read(tmp_path, _two_channels(tmp_path), channels=channels)
    assert frame.channels == order
    assert np.array_equal(frame.channel("GFP"), texture(seed=2))
    assert frame.acquired_at.second == (12 if order[0] == "Bright Field" else 10)


@pytest.mark.parametrize("rule", ["focus", "max"])
def test_slices_in_files_of_their_own(tmp_path: Path, rule: str) -> None:
    slices = [np.full((24, 32), 900, np.uint16), texture(seed=1), texture(seed=2) // 3]
    names = [f"B2_01_1_1Z{z}_GFP_014.tif" for z in range(3)]
    for name, pixels in zip(names, slices, strict=True):
        write_gen5(tmp_path / name, pixels)
    frame = _read(tmp_path, frame_files(tmp_path, *(("GFP", z, name) for z, name in enumerate(names))), z=rule)
    assert np.array_equal(frame.pixels[0], slices[1] if rule == "focus" else np.maximum.reduce(slices))
    assert [ref.path for ref in frame.files] == names


def test_blur_lowers_sharpness() -> None:
    image = texture()
    blurred = (image[:-1, :-1] / 4 + image[1:, :-1] / 4 + image[:-1, 1:] / 4 + image[1:, 1:] / 4).astype(np.uint16)
    assert sharpness(blurred) < sharpness(image) / 2
    assert sharpness(np.full((9, 9), 7, np.uint8)) == 0


def test_the_configured_pixel_size_wins(tmp_path: Path) -> None:
    assert _read(tmp_path, _two_channels(tmp_path), pixel_size_um=(0.5, 0.6)).pixel_size_um == (0.5, 0.6)


def test_without_a_pixel_size_the_error_names_the_key_that_sets_it(tmp_path: Path) -> None:
    write_gen5(tmp_path / BF, description="")
    with pytest.raises(BadFile) as caught:
        _read(tmp_path, frame_files(tmp_path, ("Bright Field", None, BF)))
    assert caught.value.reason == "no_pixel_size"
    assert "sources[].pixel_size_um" in str(caught.value)
    assert "'scope'" in str(caught.value)
    assert BF in str(caught.value)


def test_without_metadata_the_time_is_the_files_own(tmp_path: Path) -> None:
    write_gen5(tmp_path / BF, description="")
    os.utime(tmp_path / BF, (1_700_000_000, 1_700_000_000))
    frame = _read(tmp_path, frame_files(tmp_path, ("Bright Field", None, BF)), pixel_size_um=0.3)
    assert frame.acquired_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_channels_of_unequal_size_are_refused(tmp_path: Path) -> None:
    write_gen5(tmp_path / BF, texture(24, 32))
    write_gen5(tmp_path / GFP, texture(24, 30))
    with pytest.raises(BadFile) as caught:
        _read(tmp_path, frame_files(tmp_path, ("Bright Field", None, BF), ("GFP", None, GFP)))
    assert caught.value.reason == "geometry_changed"
    assert "GFP 30 x 24" in str(caught.value)


def test_channels_of_unequal_scale_are_refused(tmp_path: Path) -> None:
    files = _two_channels(tmp_path)
    write_gen5(tmp_path / GFP, ImageWidthMicrons="788", ImageHeightMicrons="582")
    files = frame_files(tmp_path, ("Bright Field", None, BF), ("GFP", None, GFP))
    with pytest.raises(BadFile) as caught:
        _read(tmp_path, files)
    assert caught.value.reason == "bad_metadata"


def test_channels_of_unequal_depth_get_the_deeper(tmp_path: Path) -> None:
    write_gen5(tmp_path / BF, texture(top=255).astype(np.uint8))
    write_gen5(tmp_path / GFP, texture())
    frame = _read(tmp_path, frame_files(tmp_path, ("Bright Field", None, BF), ("GFP", None, GFP)))
    assert frame.pixels.dtype == np.uint16
    assert np.array_equal(frame.pixels, [texture(top=255), texture()])


def test_a_file_that_changed_since_it_was_listed_is_left_for_the_next_scan(tmp_path: Path) -> None:
    files = _two_channels(tmp_path)
    write_gen5(tmp_path / GFP, texture(seed=3), description="longer " * 80)
    with pytest.raises(NotYet):
        _read(tmp_path, files)
    files = frame_files(tmp_path, ("Bright Field", None, BF))
    os.utime(tmp_path / BF, (1, 1))
    with pytest.raises(NotYet):
        _read(tmp_path, files)


def test_a_listed_file_that_does_not_open_is_asked_for_again(tmp_path: Path) -> None:
    files = _two_channels(tmp_path)
    (tmp_path / GFP).unlink()
    with pytest.raises(NotYet) as caught:
        _read(tmp_path, files)
    assert caught.value.where == GFP


def test_a_segmentation_channel_that_the_content_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image_bytes(".png", np.dstack([texture()] * 3)))
    files = frame_files(tmp_path, ("", None, "a.png"))
    with pytest.raises(BadFile) as caught:
        _read(tmp_path, files, kind="plain", channels={"segment": "phase"}, pixel_size_um=1)
    assert caught.value.reason == "incomplete"
    assert "'phase' is not among red, green, blue" in str(caught.value)


@pytest.mark.parametrize(("segment", "name"), [("", "grey"), ("phase", "phase")])
def test_an_unnamed_grey_image_gets_the_configured_name(tmp_path: Path, segment: str, name: str) -> None:
    (tmp_path / "a.png").write_bytes(image_bytes(".png", texture()))
    files = frame_files(tmp_path, ("", None, "a.png"))
    frame = _read(tmp_path, files, kind="plain", channels={"segment": segment}, pixel_size_um=1)
    assert frame.channels == (name,)


def test_a_colour_image_keeps_its_order(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image_bytes(".png", np.dstack([texture(seed=s) for s in range(3)])))
    files = frame_files(tmp_path, ("", None, "a.png"))
    assert _read(tmp_path, files, kind="plain", pixel_size_um=1).channels == ("red", "green", "blue")
    green = _read(tmp_path, files, kind="plain", pixel_size_um=1, channels={"segment": "green"})
    assert green.channels == ("green", "red", "blue")


def test_frames_of_an_archive(tmp_path: Path) -> None:
    write_vol(tmp_path / "e.vol", {f"f{i}.png.tif": image_bytes(".tif", texture(seed=i)) for i in range(2)})
    source = make_source(tmp_path, "nanolive", pixel_size_um=0.19)
    fmt = format_of(source, LIMITS)
    ((_, _), (stat, _)) = take(fmt, tmp_path, stat_of(tmp_path, "e.vol"))
    files = FrameFiles(frame_files(tmp_path).key, (Slice("", None, stat),))
    frame = read_frame(files, fmt, source, LIMITS)
    assert np.array_equal(frame.pixels[0], texture(seed=1)[::-1])
    assert frame.files[0].path == stat.path
    assert frame.acquired_at == datetime(2025, 2, 1, 20, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(("number", "told"), [(14, False), (15, True), (-1, False)])
def test_a_name_and_metadata_that_disagree_are_told(
    tmp_path: Path, number: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_gen5(tmp_path / GFP)
    files = frame_files(tmp_path, ("GFP", None, GFP), number=number)
    with caplog.at_level(logging.WARNING):
        assert _read(tmp_path, files).key == files.key
    assert any("metadata" in record.getMessage() for record in caplog.records) == told


def test_a_spring_hour_that_does_not_exist_still_gives_a_time() -> None:
    metadata = parse(bti_xml(Date="03/30/25", Time="02:30:00"), "x")
    assert metadata is not None
    assert acquired_at(metadata, ZoneInfo("Europe/Berlin")) == datetime(2025, 3, 30, 1, 30, tzinfo=UTC)
