"""Real microscope images through the real service. Skipped, saying so, where the folder of real images is absent.

The figures asserted are floors below what was measured (benchmarks/README.md), so that a step back is noticed.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import zarr

from cellvigil import config
from cellvigil.service.serve import once
from cellvigil.store.reader import read_ledger
from cellvigil_indexes.cli import main as index_command
from lab import build_index

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import livedead


def f1_at_half(labels: np.ndarray, truth: np.ndarray) -> float:
    """2 TP / (masks + true masks); a mask is right if its intersection over union with a true one is above 0.5."""
    overlap = np.zeros((int(truth.max()) + 1, int(labels.max()) + 1))
    np.add.at(overlap, (truth.ravel(), labels.ravel()), 1)
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    right = (overlap / np.maximum(union, 1) > 0.5)[1:, 1:].sum()
    return 2 * right / ((np.unique(truth) > 0).sum() + (np.unique(labels) > 0).sum())


def test_livedead_fields_written_in_pieces_become_live_and_dead_counts(real_images, lite0, tmp_path, monkeypatch):
    monkeypatch.setattr(livedead, "DATA", real_images / "livedead")
    (tmp_path / "images").mkdir()
    livedead.build(tmp_path, lite0.parent)
    counts = livedead.serve(tmp_path, livedead.configure(tmp_path, lite0.parent))
    ledger = read_ledger(tmp_path / "store")
    frames = [frame for series in ledger.series() for frame in ledger.frames(series)]
    assert len(frames) == len({frame.key for frame in frames}) == 60
    inner = sum(frame.n_cells - frame.edge for frame in frames if frame.outcome == "counted")
    assert counts["live"] + counts["dead"] == inner
    assert counts["live"] > counts["dead"] > 0
    figures = livedead.score(tmp_path / "store")
    assert figures["recall"] >= 0.75
    assert figures["precision"] >= 0.5
    assert figures["balanced_accuracy"] >= 0.85


def test_a_phase_contrast_time_lapse_is_segmented(real_images, lite0, tmp_path):
    source = real_images / "phase-t98g"
    images = tmp_path / "images"
    images.mkdir()
    for name in ("t01.tif", "t02.tif", "t03.tif", "t04.tif"):
        (images / name).write_bytes((source / name).read_bytes())
    build_index(tmp_path / "indexes", lite0)
    entry = {
        "name": "phase", "kind": "plain", "path": "images", "pattern": r"t(?P<time>\d+)\.tif", "index": "states",
        "pixel_size_um": 0.871, "scan_interval_s": 0.1,
    }  # fmt: skip
    settings = {
        "sources": [entry],
        "segment": {"cell_diameter_um": 65.0, "min_area_um2": 300.0, "max_area_um2": 10000.0},
        "encoder": {"path": str(lite0.parent)},
        "classify": {"indexes": str(tmp_path / "indexes")},
    }
    done = once(config.parse(settings, base=tmp_path))
    assert done["counted"] + done["excluded"] == 4
    ledger = read_ledger(tmp_path / "store")
    [series] = ledger.series()
    frames = ledger.frames(series)
    assert [frame.key.timepoint for frame in frames] == [1, 2, 3, 4]
    [plate] = (tmp_path / "store").rglob("*.zarr")
    labels = zarr.open_array(plate / frames[0].path / "labels" / "cells" / "0", mode="r")
    pixels = zarr.open_array(plate / frames[0].path / "0", mode="r")
    scores = []
    for frame in frames:
        name = f"t{frame.key.timepoint:02d}"
        truth = cv2.imread(str(source / f"{name}_mask.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(pixels[frame.t, 0], tifffile.imread(source / f"{name}.tif"))
        scores.append(f1_at_half(np.asarray(labels[frame.t]), truth))
    assert np.mean(scores) >= 0.45


def test_white_blood_cells_are_told_apart_on_a_held_out_split(real_images, lite0, tmp_path, capsys):
    classes = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
    only = [word for name in classes for word in ("--only", f"{name}/*")]
    # Red cells of 7.5 um are about 75 px across: 0.1 um a pixel; a window of 26 um holds the largest monocyte.
    crop = ["--pixel-size", "0.1", "--crop-um", "26"]
    place = ["--encoders", str(lite0.parent), "--out", str(tmp_path)]
    assert index_command(["build", "blood", "--images", str(real_images / "pbc"), *only, *crop, "--encoder",
                          lite0.name, "--k-max", "100", "--threshold", "0.3", *place]) == 0  # fmt: skip
    capsys.readouterr()
    assert index_command(["evaluate", "blood", "--split", "0.1", "--seeds", "5", "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert "260 px" in result["crop_rule"]
    assert result["balanced_accuracy"] == pytest.approx(0.867, abs=0.01)


def test_folders_of_one_class_need_no_scale(real_images, lite0, tmp_path, capsys):
    """Ready-made single-cell images are fitted whole, and the index says that live frames are another matter."""
    arguments = ["--images", str(real_images / "pbc"), "--only", "platelet/*", "--only", "erythroblast/*"]
    arguments += ["--encoder", lite0.name, "--encoders", str(lite0.parent), "--out", str(tmp_path), "--json"]
    assert index_command(["build", "two", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["image_rule"]["frame_normalised"] is False
    assert result["evaluation"]["balanced_accuracy"] > 0.8
