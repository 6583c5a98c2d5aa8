"""The simulated microscope's files: names, metadata, and how they grow."""

import csv
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from cellvigil.errors import UsageError
from cellvigil.rehearse import gen5, nanolive
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.holotomography import refractive_index
from cellvigil.rehearse.run import Growth, Progress, run, write_growing

GEN5 = Assay(wells=("A1", "B12"), treated=("B12",), fields=2, timepoints=3, shape=(128, 160), cells=5, stain_every=2)
PLATE = "240301_180000_Rehearsal/240301_180005_Plate 1"


def description(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].tags[270].value == tiff.pages[0].description
        return ElementTree.fromstring(tiff.pages[0].description)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_gen5_names_folders_and_channels(tmp_path: Path) -> None:
    done = run(GEN5, tmp_path)
    names = sorted(path.relative_to(done.images).as_posix() for path in done.images.rglob("*.tif"))
    expected = [
        f"{PLATE}/{well}_01_1_{field}_Bright Field_{time:03d}.tif"
        for well in ("A1", "B12")
        for field in (1, 2)
        for time in (1, 2, 3)
    ]
    stained = [
        f"{PLATE}/{well}_01_2_{field}_GFP_{time:03d}.tif"
        for well in ("A1", "B12")
        for field in (1, 2)
        for time in (1, 3)
    ]
    assert names == sorted(expected + stained)
    assert (done.frames, done.files) == (12, 20)


def test_gen5_metadata_reads_back(tmp_path: Path) -> None:
    done = run(GEN5, tmp_path)
    path = done.images / PLATE / "B12_01_1_2_Bright Field_003.tif"
    root = description(path)
    assert root.tag == "BTIImageMetaData"
    text = {element.tag: element.text for element in root.iter()}
    assert root.find("ImageAcquisition/Channel").get("Color") == "Bright Field"  # type: ignore[union-attr]
    assert text["Well"] == "B12"
    assert text["KineticSequence"] == "2"
    assert text["KineticReadsTotal"] == "3"
    assert text["KineticIntevalMs"] == str(120 * 60_000)
    assert text["KineticTimeMs"] == str(2 * 120 * 60_000 + 3 * 2000)  # the fourth visit, two seconds each
    assert (text["Date"], text["Time"]) == ("03/01/24", "22:00:06")
    assert (text["PixelWidth"], text["PixelHeight"]) == ("160", "128")
    assert float(text["ImageWidthMicrons"]) / 160 == pytest.approx(0.322, abs=1e-6)  # type: ignore[arg-type]
    assert float(text["ImageHeightMicrons"]) / 128 == pytest.approx(0.322, abs=1e-6)  # type: ignore[arg-type]
    assert text["SaturationLevel"] == "65520"
    pixels = tifffile.imread(path)
    assert (pixels.shape, pixels.dtype) == ((128, 160), np.uint16)
    assert not (pixels % 16).any()  # twelve bits in the upper part of sixteen
    assert 0.3 * 65520 < np.median(pixels) < 0.6 * 65520


def test_the_stain_glows_where_cells_are_dead(tmp_path: Path) -> None:
    assay = replace(GEN5, shape=(384, 384), cells=40, biology=replace(GEN5.biology, dead_at_start=0.5), defocus_rate=0)
    done = run(assay, tmp_path)
    stain = tifffile.imread(done.images / PLATE / "A1_01_2_1_GFP_001.tif").astype(float)
    rows = [row for row in table(done.truth / "cells.csv") if (row["well"], row["field"]) == ("A1", "1")]
    light: dict[str, list[float]] = {"live": [], "necrotic": []}
    for row in rows:
        if row["timepoint"] == "0" and row["detectable"] == "true" and row["state"] in light:
            y, x = round(float(row["y_px"])), round(float(row["x_px"]))
            light[row["state"]].append(stain[y - 4 : y + 5, x - 4 : x + 5].mean())
    assert min(len(values) for values in light.values()) > 3
    assert np.median(light["necrotic"]) > 3 * np.median(light["live"])


def test_a_full_size_gen5_frame_has_the_real_instruments_field() -> None:
    assay = Assay(shape=(904, 1224), timepoints=1, pixel_size_um=394 / 1224)
    shot = gen5.Shot("E", "Plate 1", assay.started_at, assay.started_at - assay.started_at, "A1", 1, 1, 0, 1,
                     assay.started_at - assay.started_at, gen5.BRIGHT_FIELD, assay.micrometres_a_pixel)  # fmt: skip
    root = ElementTree.fromstring(gen5.description((904, 1224), shot))
    assert float(root.findtext("ImageAcquisition/ImageWidthMicrons", "")) == pytest.approx(394)
    assert round(float(root.findtext("ImageAcquisition/ImageHeightMicrons", ""))) == 291


def test_nanolive_files_hold_refractive_index_bottom_up(tmp_path: Path) -> None:
    assay = Assay(kind="nanolive", wells=("A1",), treated=(), timepoints=2)
    done = run(assay, tmp_path)
    paths = sorted(done.images.rglob("*.tif"))
    assert [path.relative_to(done.images).as_posix() for path in paths] == [
        "240301_180000_Rehearsal/A1_1_001.tif",
        "240301_180000_Rehearsal/A1_1_002.tif",
    ]
    scene = next(simulate(assay))
    truth = refractive_index(scene, assay.optics)
    with tifffile.TiffFile(paths[0]) as tiff:
        low, high = tiff.pages[0].tags[nanolive.RANGE_TAG].value
        stored = tiff.asarray()
    assert (stored.shape, stored.dtype) == ((448, 448), np.uint16)
    assert 1.32 < low < 1.34 < high < 1.42
    ours = np.flipud(low + stored * ((high - low) / 65535))
    np.testing.assert_allclose(ours, truth, atol=2e-6)


def test_files_grow_under_their_final_name(tmp_path: Path) -> None:
    path, sizes = tmp_path / "well" / "A1.tif", []
    content = bytes(range(256)) * 40
    write_growing(path, content, Growth(5, 0.5, lambda seconds: sizes.append((seconds, path.stat().st_size))))
    assert [size for _, size in sizes] == [2048, 4096, 6144, 8192]
    assert {seconds for seconds, _ in sizes} == {0.5}
    assert path.read_bytes() == content


def test_a_growing_image_cannot_be_read_before_it_is_whole(tmp_path: Path) -> None:
    broken: list[bool] = []

    def look(seconds: float) -> None:
        newest = max(tmp_path.rglob("*.tif"), default=None, key=lambda path: path.stat().st_mtime_ns)
        if newest is None or not seconds:
            return
        try:
            tifffile.imread(newest)
        except (tifffile.TiffFileError, ValueError, IndexError, OSError):
            broken.append(True)
        else:
            broken.append(False)

    run(replace(GEN5, timepoints=1, stain_every=0), tmp_path, pieces=4, pause_s=0.1, sleep=look)
    assert broken == [True] * (4 * 3)


def test_progress_is_told_of_each_frame_and_the_truth_is_there_by_then(tmp_path: Path) -> None:
    told: list[tuple[Progress, int]] = []

    def progress(step: Progress) -> None:
        assert all(path.is_file() for path in step.files)
        told.append((step, len((tmp_path / "truth" / "wells.csv").read_text().splitlines()) - 1))

    run(GEN5, tmp_path, progress=progress)
    assert [(step.frame, step.frames, rows) for step, rows in told] == [(n, 12, n) for n in range(1, 13)]


def test_settings_and_plate_are_written_beside_the_truth(tmp_path: Path) -> None:
    started = datetime(2025, 5, 30, 17, 30)  # noqa: DTZ001 - Gen5's clock has no zone
    done = run(replace(GEN5, seed=77, started_at=started), tmp_path)
    settings = json.loads((done.truth / "assay.json").read_text())
    assert settings["seed"] == 77
    assert settings["started_at"] == "2025-05-30T17:30:00"
    assert settings["pixel_size_um"] == 0.322
    assert settings["version"]
    plate = table(done.truth / "plate.csv")
    assert plate == [
        {"well": "A1", "compound": "", "dose": "", "role": "control"},
        {"well": "B12", "compound": "Raptinal", "dose": "10 uM", "role": "treated"},
    ]
    assert {path.parts[len(done.images.parts)] for path in done.images.rglob("*.tif")} == {"250530_173000_Rehearsal"}


def test_an_existing_rehearsal_is_not_overwritten(tmp_path: Path) -> None:
    run(replace(GEN5, timepoints=1), tmp_path)
    with pytest.raises(UsageError, match="already"):
        run(replace(GEN5, timepoints=1), tmp_path)


def test_an_output_that_cannot_be_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(UsageError, match="cannot write"):
        run(GEN5, tmp_path / "file")
