"""Cells that nobody labelled, as a target: flat folders, choices that no label may sway, witnesses, intervals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligned_fixtures import flattened, write_device
from cellvigil.errors import UsageError
from cellvigil_indexes.inputs.folders import read_folders, read_frames
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.measures.intervals import balanced_interval
from cellvigil_indexes.options import add_common
from cellvigil_indexes.target_options import add_target, target_name, target_set
from cellvigil_indexes.unlabelled import FEWEST, parted
from index_fixtures import write_frames


def test_a_flat_folder_is_read_where_labels_are_not_needed(tmp_path):
    flat = flattened(write_device(tmp_path / "sorted", 4), tmp_path / "flat")
    with pytest.raises(UsageError, match="one folder a class"):
        read_folders(flat)
    found = read_folders(flat, flat=True)
    assert len(found.images) == 12
    assert {cell.class_name for image in found.images for cell in image.cells} == {""}
    assert found.classes == []


def test_a_folder_that_is_sorted_in_part_keeps_what_it_says(tmp_path):
    folder = write_device(tmp_path / "sorted", 3)
    (folder / "loose.png").write_bytes((folder / "live" / "0.png").read_bytes())
    found = read_folders(folder, flat=True)
    said = {image.name: image.cells[0].class_name for image in found.images}
    assert said["loose.png"] == ""
    assert said["live/0.png"] == "live"
    assert len(said) == 10


def test_flat_frames_are_read(tmp_path):
    write_frames(tmp_path / "frames", 3)
    (tmp_path / "frames" / "labels.json").unlink()
    found = read_frames(tmp_path / "frames", 0.5, flat=True)
    assert [image.name for image in found.images] == ["frame0.png", "frame1.png", "frame2.png"]
    assert all(image.cells[0].is_every_cell for image in found.images)


@pytest.mark.parametrize("missing", [False, True])
def test_a_folder_without_images_is_refused_flat_or_not(tmp_path, missing):
    folder = tmp_path / "nothing"
    if not missing:
        folder.mkdir()
    with pytest.raises(UsageError, match="no such folder" if missing else "no images"):
        read_folders(folder, flat=True)


def write_coco(folder: Path, name: str) -> Path:
    """Two boxes on one image of the folder."""
    image = sorted(folder.glob("*.png"))[0].name
    boxes = [{"id": i, "image_id": 0, "category_id": 0, "bbox": [2 * i, 0, 6, 6]} for i in range(2)]
    values = {
        "images": [{"id": 0, "file_name": image, "width": 16, "height": 16}],
        "categories": [{"id": 0, "name": "cell"}],
        "annotations": boxes,
    }
    (folder / name).write_text(json.dumps(values), encoding="utf-8")
    return folder / name


def asked(option: str, path: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_common(parser)
    add_target(parser)
    return parser.parse_args(["an index", option, str(path)])


def test_a_target_folder_with_a_coco_file_is_its_boxes_and_named_after_the_folder(tmp_path):
    folder = flattened(write_device(tmp_path / "sorted", 4), tmp_path / "other_scope")
    file = write_coco(folder, "annotations.coco.json")
    for words in (("--target", folder), ("--target", file), ("--coco", file)):
        args = asked(*words)
        assert sum(len(image.cells) for image in target_set(args).images) == 2
        assert target_name(args) == "other_scope"
    assert len(target_set(asked("--images", folder)).images) == 12
    write_coco(folder, "other.coco.json")
    with pytest.raises(UsageError, match="2 COCO files"):
        target_set(asked("--target", folder))


def test_a_limit_without_labels_is_of_all_cells():
    assert Gathering(limit=5).class_of("live") == "live"
    assert Gathering(limit=5, by_class=False).class_of("live") == Gathering(by_class=False).class_of("dead")


@given(
    groups=st.lists(st.integers(0, 60), min_size=FEWEST, max_size=120),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
)
def test_every_cell_is_in_the_fit_or_a_witness_and_some_are_each(groups, share, seed):
    fit, kept_out = parted(np.array(groups, dtype=np.int32), share, seed)
    assert sorted([*fit.tolist(), *kept_out.tolist()]) == list(range(len(groups)))
    assert 1 <= len(kept_out) <= len(groups) / 2
    again = parted(np.array(groups, dtype=np.int32), share, seed)
    np.testing.assert_array_equal(kept_out, again[1])


def test_whole_images_are_kept_out_where_there_are_many():
    groups = np.repeat(np.arange(40), 5).astype(np.int32)
    fit, kept_out = parted(groups, 0.2, 0)
    assert not set(groups[fit]) & set(groups[kept_out])
    assert len(kept_out) == 40


def test_too_few_cells_are_no_target():
    with pytest.raises(UsageError, match=f"fewer than {FEWEST}"):
        parted(np.arange(FEWEST - 1, dtype=np.int32), 0.2, 0)


def slow_interval(truth, right, groups, draws, seed):
    """One resample after the other, cell by cell."""
    rng = np.random.default_rng(seed)
    units = np.unique(groups)
    found = []
    for times in rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=draws):
        cells = [i for unit, n in zip(units, times, strict=True) for i in np.flatnonzero(groups == unit).tolist() * n]
        recalls = [right[[i for i in cells if truth[i] == c]].mean() for c in np.unique(truth[cells])]
        found.append(np.mean(recalls))
    return np.percentile(found, [2.5, 97.5])


@pytest.mark.parametrize("per_group", [1, 4])
def test_the_interval_is_that_of_groups_drawn_whole(per_group):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), per_group)
    truth = rng.integers(0, 3, len(groups)).astype(np.int16)
    right = rng.random(len(groups)) < 0.7
    low, high = balanced_interval(truth, right, groups.astype(np.int32), draws=200)
    np.testing.assert_allclose((low, high), slow_interval(truth, right, groups, 200, 0), atol=1e-12)


def test_cells_of_one_image_count_as_one():
    right = np.repeat(np.random.default_rng(0).random(40) < 0.6, 10)
    truth, groups = np.zeros(400, np.int16), np.repeat(np.arange(40), 10).astype(np.int32)
    low, high = balanced_interval(truth, right, groups)
    apart_low, apart_high = balanced_interval(truth, right, np.arange(400, dtype=np.int32))
    assert high - low > 2.5 * (apart_high - apart_low)
