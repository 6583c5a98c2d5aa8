"""Bad input to `cellvigil-index`, as a person would give it: refused in one clear line, or told of in a warning."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cellvigil.bundle import files
from cellvigil.bundle.index import open_index
from cellvigil.bundle.index_manifest import SCHEMA_VERSION
from cellvigil.cli import main as cellvigil
from cellvigil.errors import UsageError
from cellvigil_indexes.cli import main
from cellvigil_indexes.draft import draft_of
from cellvigil_indexes.writing import write_index
from index_fixtures import PIXEL_UM, ground, write_frames, write_plain_index, write_singles

ENCODER = "efficientnet-lite0"
SCALE = ("--pixel-size", PIXEL_UM, "--crop-um", 20)


@pytest.fixture
def command(lite0, tmp_path, capsys):
    """Run `cellvigil-index COMMAND ...` on the folder tmp_path/indexes; (code, result, stderr)."""

    def run(name, *words, encoders=lite0.parent):
        where = ["--encoders", encoders, "--device", "cpu"] if name in ("build", "add", "evaluate", "tune") else []
        code = main([str(word) for word in (name, *words, "--out", tmp_path / "indexes", "--json", *where)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def indexes(tmp_path):
    """Names of what is in the folder of indexes, but for the cache."""
    folder = tmp_path / "indexes"
    return sorted(path.name for path in folder.iterdir() if path.name != ".cache") if folder.is_dir() else []


def refused(answer, code, *parts):
    """Check that a command ended with one line on stderr (but for the progress) that holds all these parts."""
    got, result, said = answer
    assert (got, result) == (code, None), said
    assert len([line for line in said.strip().splitlines() if not line.startswith("embedded ")]) == 1, said
    for part in parts:
        assert part in said


# One class only, or fewer cells than neighbours are asked for


def test_one_class_is_an_index_that_says_how_little_it_tells(command, tmp_path):
    singles = write_singles(tmp_path / "singles", 6)
    code, built, said = command("build", "one", "--images", singles, "--only", "live/*", "--encoder", ENCODER)
    assert code == 0, said
    assert built["classes"] == {"live": 6}
    assert any("live is the only class" in warning for warning in built["warnings"])
    code, found, _ = command("evaluate", "one", "--split", "0.5", "--seeds", "1", "--baselines", "majority")
    assert (code, found["accuracy"]) == (0, 1.0)
    assert any("accuracy of 1 says nothing" in warning for warning in found["warnings"])
    refused(command("tune", "one"), 2, "all of class live", "two classes or more")
    assert indexes(tmp_path) == ["one"]


@pytest.mark.parametrize(
    ("cells", "settings", "told"),
    [
        (5, {}, "class dead has fewer cells (2) than k_min (3)"),
        (20, {"k_max": 21}, "k_max (21) is above the 20 reference cells: a cell in doubt is called by all of them"),
        (
            20,
            {"k_min": 21, "k_max": 30},
            "k_min (21) is above the 20 reference cells: every cell is called by all of them",
        ),
        (20, {"k_max": 20}, ""),
    ],
)
def test_depths_beyond_the_cells_that_are_there_are_told(command, tmp_path, cells, settings, told):
    write_plain_index(tmp_path / "indexes" / "few", cells=cells, **{"k_max": max(3, min(cells, 20)), **settings})
    code, shown, _ = command("show", "few")
    assert code == 0
    about_depth = [warning for warning in shown["warnings"] if "k_m" in warning]
    assert about_depth[-1:] == ([told] if told else [])


@pytest.mark.parametrize("depth", [{"k_min": 3, "k_max": 1000}, {"k_min": 50, "k_max": 60}])
def test_an_index_smaller_than_its_depth_still_calls(command, tmp_path, depth):
    write_plain_index(tmp_path / "indexes" / "few", cells=40, **depth)
    code, found, said = command("evaluate", "few", "--split", "0.25", "--seeds", "1", "--baselines", "1-NN")
    assert code == 0, said
    assert found["balanced_accuracy"] == 1.0, "the classes lie far apart"
    assert any("above the 40 reference cells" in warning for warning in found["warnings"])


# Encoders and cells that do not look at the same picture


def test_encoders_of_different_crop_rules_make_no_index(command, lite0, tmp_path):
    encoders = tmp_path / "encoders"
    shutil.copytree(lite0, encoders / ENCODER)
    shutil.copytree(lite0, encoders / "stained")
    manifest = json.loads((encoders / "stained" / files.MANIFEST).read_text())
    manifest["name"] = "stained"
    manifest["preprocessing"]["outside_the_graph"]["stain"] = "normalised"
    (encoders / "stained" / files.MANIFEST).write_text(json.dumps(manifest))
    words = ("--images", write_singles(tmp_path / "singles", 3), "--encoder", ENCODER, "--encoder", "stained")
    refused(command("build", "two", *words, encoders=encoders), 1, "stained", "stain outside of its graph")
    assert indexes(tmp_path) == []


def test_cells_at_scale_are_not_scored_by_an_index_of_whole_pictures(command, tmp_path):
    singles = write_singles(tmp_path / "singles", 4)
    assert command("build", "whole", "--images", singles, "--encoder", ENCODER)[0] == 0
    coco = write_frames(tmp_path / "frames", 1)
    for name in ("evaluate", "add", "tune"):
        refused(command(name, "whole", "--coco", coco), 2, "fitted whole")
    assert indexes(tmp_path) == ["whole"]


# Vectors that are no numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["collected", "set_aside"])
def test_vectors_that_are_not_finite_are_named_and_not_written(tmp_path, part, value):
    draft = draft_of(open_index(write_plain_index(tmp_path / "plain")))
    rows = draft.collected.rows(np.arange(20))
    block = np.array(rows.embeddings["one"])
    block[[4, 5, 6], 1] = value
    broken = replace(rows, embeddings={"one": block})
    with pytest.raises(UsageError, match=r"encoder one .* not finite for 3 cells \{'live': 2, 'dead': 1\}.* in 4\.png"):
        write_index(tmp_path / "broken", replace(draft, **{part: broken}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


# Names that are there twice


def test_names_that_are_there_twice_are_refused(command, tmp_path):
    singles = write_singles(tmp_path / "singles", 3)
    words = ("--images", singles, "--encoder", ENCODER)
    refused(command("build", "new", *words, "--encoder", ENCODER), 2, "twice", ENCODER)
    assert command("build", "taken", *words)[0] == 0
    refused(command("build", "taken", *words), 1, "already", "--force")
    refused(command("add", "taken", "--images", singles), 2, "every one of these cells is in the index already")
    (singles / "LIVE").mkdir()
    cv2.imwrite(str(singles / "LIVE" / "9.png"), ground((48, 40), 9))
    refused(command("build", "new", *words), 2, "case", "'LIVE'")
    assert indexes(tmp_path) == ["taken"]


def test_the_same_picture_twice_is_told_and_one_of_them_can_be_dropped(command, tmp_path):
    singles = write_singles(tmp_path / "singles", 3)
    shutil.copy(singles / "live" / "0.png", singles / "live" / "copy.png")
    words = ("--images", singles, "--encoder", ENCODER)
    _, built, _ = command("build", "some", *words)
    assert built["classes"]["live"] == 4
    assert any("near-copies" in warning and "--drop-duplicates" in warning for warning in built["warnings"])
    _, built, _ = command("build", "fewer", *words, "--drop-duplicates")
    assert built["classes"]["live"] < 4


# Annotations


@pytest.fixture
def faulty(tmp_path):
    """Three frames of six cells; one file is missing, a category unknown, a box far outside, and one reaches over."""
    path = write_frames(tmp_path / "frames", 3, outlines=False)
    content = json.loads(path.read_text())
    (path.parent / "frame2.png").unlink()
    content["annotations"][0]["category_id"] = 77
    content["annotations"][1]["bbox"] = [400, 10, 21, 21]
    content["annotations"][2]["bbox"] = [184, 40, 21, 21]
    path.write_text(json.dumps(content))
    return path


FAULTS = ("frame2.png", "category 77", "400.0, 10.0, 21.0, 21.0")


def test_faulty_annotations_are_all_named_at_once_and_refused(command, tmp_path, faulty):
    words = ("--coco", faulty, *SCALE, "--encoder", ENCODER)
    refused(command("build", "new", *words), 2, *FAULTS, "unknown categories: 1", "outside the image: 1")
    refused(command("build", "new", *words), 2, "--skip-bad")
    assert indexes(tmp_path) == []


def test_faulty_annotations_are_left_out_when_asked_and_the_index_remembers(command, faulty):
    words = ("--coco", faulty, *SCALE, "--encoder", ENCODER, "--skip-bad")
    code, built, said = command("build", "new", *words)
    assert code == 0, said
    assert built["cells"] == 10, "two frames of six, but for two boxes"
    left_out = [warning for warning in command("show", "new")[1]["warnings"] if warning.startswith("left out: ")]
    assert len(left_out) == 3
    for fault in FAULTS:
        assert any(fault in warning for warning in left_out)
    assert any("reach over the image's border and were cut" in warning for warning in built["warnings"])


@pytest.mark.parametrize("name", ["evaluate", "add", "tune"])
def test_other_commands_treat_faulty_annotations_alike(command, tmp_path, faulty, name):
    good = write_frames(tmp_path / "good", 2, outlines=False, seed=50)
    assert command("build", "assay", "--coco", good, *SCALE, "--encoder", ENCODER)[0] == 0
    given = ("--coco", faulty, "--pixel-size", PIXEL_UM)
    refused(command(name, "assay", *given), 2, *FAULTS, "--skip-bad")
    assert indexes(tmp_path) == ["assay"]
    code, found, said = command(name, "assay", *given, "--skip-bad")
    assert code == 0, said
    assert all(fault in json.dumps(found) for fault in FAULTS), "what was left out is told"


# An index of a later cellvigil


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("tune",),
        ("evaluate", "--split", "0.2"),
        ("report",),
        ("drop", "--cell", "0"),
        ("add", "--images", "singles"),
    ],
)
def test_an_index_of_a_newer_version_is_left_alone(command, tmp_path, words):
    folder = newer(write_plain_index(tmp_path / "indexes" / "later"))
    before = (folder / files.MANIFEST).read_bytes()
    refused(command(words[0], "later", *words[1:]), 1, f"schema version {SCHEMA_VERSION + 1}", "update cellvigil")
    assert (folder / files.MANIFEST).read_bytes() == before
    assert indexes(tmp_path) == ["later"]


def test_classify_says_so_too(tmp_path, capsys):
    newer(write_plain_index(tmp_path / "indexes" / "later"))
    cv2.imwrite(str(tmp_path / "cell.png"), ground((40, 40), 0))
    words = ("classify", tmp_path / "cell.png", "--index", "later", "--indexes", tmp_path / "indexes")
    assert cellvigil([str(word) for word in words]) == 1
    assert "update cellvigil" in capsys.readouterr().err


# A reader that has seen enough


def test_a_pipe_that_closes_early_is_no_error(tmp_path):
    write_plain_index(tmp_path / "plain")
    words = [sys.executable, "-m", "cellvigil_indexes", "show", str(tmp_path / "plain")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")


def newer(folder):
    """Give the index a manifest of the next schema version, with a key that nobody knows yet."""
    manifest = json.loads((folder / files.MANIFEST).read_text())
    changed = {**manifest, "schema_version": SCHEMA_VERSION + 1, "votes_by": "committee"}
    files.write_manifest(folder, {key: value for key, value in changed.items() if key != "files"})
    return folder
