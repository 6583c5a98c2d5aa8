"""A whole acquisition, from files that grow to frames: listing, settling, intake, assembly and reading together."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cellvigil import config, watch
from cellvigil.assemble import Assembler
from cellvigil.data import FileStat, Frame
from cellvigil.errors import BadFile, NotYet
from cellvigil.settle import Settler
from cellvigil.sources.intake import take
from cellvigil.sources.read import read_frame
from cellvigil.sources.registry import format_of
from source_files import LIMITS, bti_xml, make_source, texture, tiff_bytes

DATA = Path(os.environ.get("CELLVIGIL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
PLATE = "250201_164233_Assay/250201_164712_Plate 1"


class Reader:
    """What a service does with one source, without the encoder and the store."""

    def __init__(self, source: config.Source) -> None:
        self.source = source
        self.fmt = format_of(source, LIMITS)
        self.settler = Settler(source.settle_scans)
        self.assembler = Assembler(source, first_number=self.fmt.first_number)
        self.waiting: dict[str, FileStat] = {}
        self.frames: list[Frame] = []
        self.changes: list[str] = []
        self.bad: dict[str, str] = {}

    def look(self, now: float) -> None:
        for stat in self.settler.update(watch.scan(self.source.path, self.fmt.suffixes), now):
            self.waiting[stat.path] = stat
        for stat in list(self.waiting.values()):
            try:
                parts = take(self.fmt, self.source.path, stat)
            except NotYet as error:
                if now > self.source.frame_timeout_s:
                    self.bad[stat.path] = error.expired().reason
                continue
            except BadFile as error:
                self.bad[stat.path], parts = error.reason, ()
            del self.waiting[stat.path]
            for part, sighting in parts:
                self.assembler.add(part, sighting, now)
        for files in self.assembler.collect(now).frames:
            self.changes.append(files.change)
            self.frames.append(read_frame(files, self.fmt, self.source, LIMITS))


def _seed(channel: str, well: str, number: int) -> int:
    return zlib.crc32(f"{channel} {well} {number}".encode())


def _image(channel: str, well: str, number: int) -> tuple[str, bytes]:
    step = {"Bright Field": 1, "GFP": 2}[channel]
    xml = bti_xml(Color=channel, Well=well, KineticSequence=str(number - 1))
    pixels = texture(60, 80, seed=_seed(channel, well, number))
    path = f"{PLATE}/{well}_{step:02d}_{step}_1_{channel}_{number:03d}.tif"
    return path, tiff_bytes(pixels, description=xml, metadata=None)


def _microscope(root: Path, images: dict[str, bytes]) -> None:
    for path, data in images.items():
        with (root / path).open("wb", buffering=0) as file:
            for start in range(0, len(data), 2000):
                file.write(data[start : start + 2000])
                time.sleep(0.002)


def test_a_running_acquisition_gives_every_frame_once_and_names_what_is_bad(tmp_path: Path) -> None:
    wells, numbers = ("A1", "B2", "H12"), (1, 2, 3)
    order = [(c, w, n) for n in numbers for w in wells for c in ("Bright Field", "GFP") if c != "GFP" or n != 2]
    images = dict(_image(*which) for which in order)
    spoilt = {
        f"{PLATE}/A1_01_1_1_Bright Field_004.tif": images[_image("Bright Field", "A1", 1)[0]][:5000],
        f"{PLATE}/A1_01_1_1_Bright Field_005.tif": b"",
        f"{PLATE}/A1_01_1_1_Bright Field_006.tif": b"not a picture at all",
        f"{PLATE}/overview of the plate.tif": tiff_bytes(texture()),
        f"{PLATE}/Thumbs.db": b"x",
    }
    channels = {"segment": "Bright Field", "optional": ["GFP"]}
    source = make_source(tmp_path, channels=channels, frame_timeout_s=50)
    (tmp_path / PLATE).mkdir(parents=True)
    reader = Reader(source)
    writer = threading.Thread(target=_microscope, args=(tmp_path, images | spoilt))
    writer.start()
    now = 0.0
    try:
        while writer.is_alive():
            now += 0.01
            reader.look(now)
    finally:
        writer.join()
    for now in (40.0, 41.0, 42.0, 43.0, 100.0):
        reader.look(now)
    last = {(frame.key.well, frame.key.timepoint): frame for frame in reader.frames}
    assert sorted(last) == sorted((well, number - 1) for well in wells for number in numbers)
    for (well, timepoint), frame in last.items():
        wanted = ("Bright Field",) if timepoint == 1 else ("Bright Field", "GFP")
        assert frame.channels == wanted
        assert frame.key.series == ("scope", "250201_164233_Assay", "Plate 1")
        for channel in wanted:
            seed = _seed(channel, well, timepoint + 1)
            assert np.array_equal(frame.channel(channel), texture(60, 80, seed=seed))
    assert set(reader.changes) <= {"new", "late"}
    assert reader.changes.count("new") == len(last)
    assert {path.rpartition("/")[2]: reason for path, reason in reader.bad.items()} == {
        "A1_01_1_1_Bright Field_004.tif": "truncated",
        "A1_01_1_1_Bright Field_005.tif": "empty",
        "A1_01_1_1_Bright Field_006.tif": "wrong_type",
        "overview of the plate.tif": "bad_name",
    }
    for path, data in (images | spoilt).items():
        assert (tmp_path / path).read_bytes() == data


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no test images in {DATA} (CELLVIGIL_TEST_DATA)")
@pytest.mark.parametrize(
    ("folder", "pattern", "scale", "frames"),
    [
        ("phase-t98g", r"t(?P<time>\d+)\.tif$", 0.871, {("grey",): 4}),
        ("livedead/images", r"^(?P<experiment>[a-z]+)", 0.75, {("grey",): 60, ("red", "green", "blue"): 120}),
    ],
)
def test_real_images_are_read(folder: str, pattern: str, scale: float, frames: dict[tuple[str, ...], int]) -> None:
    reader = Reader(make_source(DATA / folder, "plain", pattern=pattern, pixel_size_um=scale))
    for now in (0.0, 1.0, 2.0):
        reader.look(now)
    assert Counter(frame.channels for frame in reader.frames) == frames
    assert len({frame.key for frame in reader.frames}) == sum(frames.values())
    if folder == "phase-t98g":
        assert {frame.pixels.shape for frame in reader.frames} == {(1, 1022, 1024)}
        assert [frame.key.timepoint for frame in reader.frames] == [1, 2, 3, 4]
        # The masks beside the images are PNGs that the pattern does not take.
        assert set(reader.bad.values()) == {"bad_name"}
