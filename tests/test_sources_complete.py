"""Whole or not: no prefix of any format's file is taken for the whole, and hostile files cost little."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellvigil import config
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.complete import finished
from source_files import LIMITS, image_bytes, ri_tag, texture, tiff_bytes, write_vol

_STACK = np.stack([texture(40, 48, seed=seed, top=200) for seed in range(3)])


def _zip(*, stored: bool) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        inner = write_vol(folder / "inner.zip", {"a.tif": tiff_bytes(texture())}, stored=True).read_bytes()
        members = {"frames/1.tif": tiff_bytes(texture(), compression="zlib"), "nested.zip": inner}
        return write_vol(folder / "outer.zip", members, stored=stored).read_bytes()

    return make


def _libtiff(folder: Path) -> bytes:
    """Written by another library, which puts the directory last, and compresses with LZW."""
    path = folder / "lzw.tif"
    cv2.imwritemulti(str(path), list(_STACK), [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    return path.read_bytes()


WHOLE: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "tiff": ("tiff", lambda _: tiff_bytes(texture())),
    "tiff, big-endian": ("tiff", lambda _: tiff_bytes(texture(), byteorder=">")),
    "tiff, several pages": ("tiff", lambda _: tiff_bytes(_STACK)),
    "tiff, strips": ("tiff", lambda _: tiff_bytes(texture(), rowsperstrip=3)),
    "tiff, compressed tiles": ("tiff", lambda _: tiff_bytes(_STACK, tile=(16, 16), compression="zlib")),
    "tiff, metadata and private tag": (
        "tiff",
        lambda _: tiff_bytes(texture(), description="x" * 500, metadata=None, extratags=ri_tag(1.33, 1.4)),
    ),
    "tiff, sub-pages": ("tiff", lambda _: _pyramid()),
    "tiff by libtiff": ("tiff", _libtiff),
    "bigtiff": ("tiff", lambda _: tiff_bytes(_STACK, bigtiff=True)),
    "bigtiff, big-endian, tiles": (
        "tiff",
        lambda _: tiff_bytes(_STACK, bigtiff=True, byteorder=">", tile=(16, 16), compression="zlib"),
    ),
    "png": ("png", lambda _: image_bytes(".png", texture())),
    "jpeg": ("jpeg", lambda _: image_bytes(".jpg", texture(top=255).astype(np.uint8))),
    "jpeg, progressive": (
        "jpeg",
        lambda _: image_bytes(".jpg", texture(top=255).astype(np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    ),
    "jpeg, restarts": (
        "jpeg",
        lambda _: image_bytes(".jpg", texture(64, 64, top=255).astype(np.uint8), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    ),
    "bmp": ("bmp", lambda _: image_bytes(".bmp", texture(top=255).astype(np.uint8))),
    "zip, compressed": ("zip", _zip(stored=False)),
    "zip, stored, with a zip inside": ("zip", _zip(stored=True)),
}


SLACK = {"tiff, several pages": 16}
"""Bytes at the end that nothing in the file points at (tifffile leaves them): a prefix without them lacks nothing."""


def _pyramid() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(texture(64, 64), subifds=1, photometric="minisblack")
        writer.write(texture(32, 32), photometric="minisblack")
    return file.getvalue()


@pytest.mark.parametrize("case", WHOLE)
def test_the_whole_is_taken_and_no_prefix_of_it(case: str, tmp_path: Path) -> None:
    kind, make = WHOLE[case]
    data = make(tmp_path)
    path = tmp_path / "image"
    path.write_bytes(data)
    finished(path, "image", kind, LIMITS)
    cuts = {*range(12), *np.linspace(0, len(data) - 1, 60).astype(int).tolist(), len(data) - 2, len(data) - 1}
    for cut in sorted(cuts):
        if len(data) - cut <= SLACK.get(case, 0):
            continue
        path.write_bytes(data[:cut])
        with pytest.raises(NotYet) as caught:
            finished(path, "image", kind, LIMITS)
        assert caught.value.becomes == ("empty" if cut == 0 else "truncated"), cut
        assert caught.value.expired().reason == caught.value.becomes


@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg", "bmp", "zip"])
def test_another_format_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"%PDF-1.7 this is none of them")
    with pytest.raises(BadFile) as caught:
        finished(path, "image", kind, LIMITS)
    assert caught.value.reason == "wrong_type"


@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg", "bmp", "zip"])
def test_room_that_was_reserved_but_not_filled_may_still_be(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(5000))
    with pytest.raises(NotYet) as caught:
        finished(path, "image", kind, LIMITS)
    assert caught.value.becomes == "wrong_type"


def test_a_file_that_is_gone_or_closed_to_us_is_asked_again(tmp_path: Path) -> None:
    with pytest.raises(NotYet) as caught:
        finished(tmp_path / "gone.tif", "gone.tif", "tiff", LIMITS)
    assert caught.value.becomes == "unreadable"
    assert caught.value.where == "gone.tif"


def test_a_page_whose_pixels_are_not_placed_yet_is_unfinished(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, texture(), photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["StripOffsets"].overwrite(0)
    with pytest.raises(NotYet):
        finished(path, "image.tif", "tiff", LIMITS)


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def _chain(*directories: tuple[list[bytes], int]) -> bytes:
    """A classic little-endian TIFF of directories, each given as its entries and the offset of the next."""
    body = b"".join(struct.pack("<H", len(e)) + b"".join(e) + struct.pack("<I", after) for e, after in directories)
    return b"II*\0" + struct.pack("<I", 8) + body


_STRIP = [_entry(256, 3, 1, 1), _entry(257, 3, 1, 1), _entry(273, 4, 1, 8), _entry(279, 4, 1, 1)]
HOSTILE = {
    "a page that follows itself": (_chain((_STRIP, 8)), "unreadable"),
    "a page without pixels": (_chain(([_entry(256, 3, 1, 1)], 0)), "unreadable"),
    "a page with too many entries": (b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(800_000), "unreadable"),
    "offsets that are text": (_chain(([_entry(273, 2, 4, 8), _entry(279, 4, 1, 1)], 0)), "unreadable"),
    "more offsets than lengths": (_chain(([_entry(273, 3, 2, 8), _entry(279, 4, 1, 1)], 0)), "unreadable"),
    "strips without lengths": (_chain(([_entry(273, 3, 2, 8)], 0)), "unreadable"),
    "a page in two million pieces": (
        _chain(([_entry(273, 3, 2_000_000, 100), _entry(279, 3, 2_000_000, 100)], 0)) + bytes(5_000_000),
        "too_large",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tiff_is_refused(case: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[case]
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    with pytest.raises(BadFile) as caught:
        finished(path, "image.tif", "tiff", LIMITS)
    assert caught.value.reason == reason


def test_offsets_near_the_end_of_numbers_do_not_wrap_around(tmp_path: Path) -> None:
    entries = struct.pack("<HHQQ", 273, 16, 1, 2**64 - 8) + struct.pack("<HHQQ", 279, 16, 1, 16)
    data = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", 2) + entries + struct.pack("<Q", 0)
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    with pytest.raises(NotYet):
        finished(path, "image.tif", "tiff", LIMITS)


def test_limits_hold_before_anything_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff_bytes(_STACK))
    for limits in (config.Limits(max_pages=2), config.Limits(max_file_mb=0.005)):
        with pytest.raises(BadFile) as caught:
            finished(path, "image.tif", "tiff", limits)
        assert caught.value.reason == "too_large"
        assert "limits.max_" in str(caught.value)


def test_a_lone_strip_without_its_length_must_hold_the_image(tmp_path: Path) -> None:
    size = [_entry(256, 3, 1, 10), _entry(257, 3, 1, 10), _entry(258, 3, 1, 8)]
    data = _chain(([*size, _entry(273, 4, 1, 70)], 0))
    path = tmp_path / "image.tif"
    for length, whole in ((170, True), (169, False)):
        path.write_bytes(data.ljust(length, b"\1"))
        if whole:
            finished(path, "image.tif", "tiff", LIMITS)
        else:
            with pytest.raises(NotYet):
                finished(path, "image.tif", "tiff", LIMITS)


def test_an_archive_of_nothing_is_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    finished(tmp_path / "a.zip", "a.zip", "zip", LIMITS)


def test_a_prefix_that_lacks_only_unused_bytes_reads_the_same(tmp_path: Path) -> None:
    data = WHOLE["tiff, several pages"][1](tmp_path)[: -SLACK["tiff, several pages"]]
    (tmp_path / "image.tif").write_bytes(data)
    finished(tmp_path / "image.tif", "image.tif", "tiff", LIMITS)
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), _STACK)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {case: make(folder) for case, (_, make) in WHOLE.items()}


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_damage_never_crashes_the_check(tmp_path: Path, whole: dict[str, bytes], data: st.DataObject) -> None:
    """Any bytes changed in a whole file: taken, refused or asked again, but nothing else."""
    case = data.draw(st.sampled_from(sorted(WHOLE)))
    kind = WHOLE[case][0]
    content = bytearray(whole[case])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    path = tmp_path / "image"
    path.write_bytes(content)
    with contextlib.suppress(BadFile, NotYet):
        finished(path, "image", kind, LIMITS)
