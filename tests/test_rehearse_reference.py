"""Reference cells of a rehearsal, and its command-line options."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellvigil.errors import UsageError
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.options import add_arguments, from_arguments
from cellvigil.rehearse.reference import write_reference
from cellvigil.rehearse.scene import STATES

ASSAY = Assay(shape=(300, 400), timepoints=2)


@pytest.mark.parametrize("kind", ["gen5", "nanolive"])
def test_annotations_fit_the_images(tmp_path: Path, kind: str) -> None:
    reference = write_reference(tmp_path, replace(ASSAY, kind=kind), 5)
    coco = json.loads(reference.annotations.read_text())
    assert [category["name"] for category in coco["categories"]] == list(STATES)
    assert len(coco["images"]) == reference.images == 5
    assert len(coco["annotations"]) == sum(reference.cells.values())
    for image in coco["images"]:
        pixels = tifffile.imread(tmp_path / image["file_name"])
        assert pixels.shape == (image["height"], image["width"]) == (300, 400)
        assert pixels.dtype == (np.uint16 if kind == "gen5" else np.float32)
        for note in coco["annotations"]:
            x, y, width, height = note["bbox"]
            assert 0 <= x < x + width <= 400
            assert 0 <= y < y + height <= 300
            assert 30 / coco["info"]["pixel_size_um"] ** 2 * 0.6 < note["area"] <= width * height
            points = np.array(note["segmentation"][0]).reshape(-1, 2)
            assert (points >= (x, y)).all()
            assert (points <= (x + width, y + height)).all()


def test_every_state_is_there_in_number(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, Assay(), 12)
    assert set(reference.cells) == set(STATES)
    assert min(reference.cells.values()) >= 30
    assert reference.cells["live"] < 0.5 * sum(reference.cells.values())


def test_reference_frames_carry_their_pixel_size(tmp_path: Path) -> None:
    write_reference(tmp_path, ASSAY, 1)
    with tifffile.TiffFile(tmp_path / "reference_001.tif") as tiff:
        assert f"<ImageWidthMicrons>{400 * 0.322:.4f}</ImageWidthMicrons>" in tiff.pages[0].description


def test_reference_cells_are_repeatable_and_not_those_of_the_assay(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_reference(tmp_path / name, ASSAY, 2)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    looks = {int(look) for scene in simulate(ASSAY) for look in scene.cells["look"]}
    other = {
        int(look) for scene in simulate(replace(ASSAY, seed=ASSAY.seed + 1_000_003)) for look in scene.cells["look"]
    }
    assert not looks & other


def test_reference_cells_are_not_overwritten(tmp_path: Path) -> None:
    write_reference(tmp_path, ASSAY, 1)
    with pytest.raises(UsageError, match="already"):
        write_reference(tmp_path, ASSAY, 1)
    with pytest.raises(UsageError, match="0 reference frames"):
        write_reference(tmp_path / "none", ASSAY, 0)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--out", "somewhere", *words])


def test_no_options_give_the_default_assay() -> None:
    assert from_arguments(parsed()) == Assay()


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--seed", "9"], "seed", 9),
        (["--kind", "nanolive"], "kind", "nanolive"),
        (["--wells", "a1, B2"], "treated", ("B2",)),
        (["--wells", "C3"], "treated", ()),
        (["--wells", "A1,A2,A3", "--treated", "A1"], "treated", ("A1",)),
        (["--doses", "0.1,1,10"], "doses_um", (0.1, 1.0, 10.0)),
        (["--shape", "904x1224"], "shape", (904, 1224)),
        (["--stain-every", "6"], "stain_every", 6),
        (["--kill", "0.5"], "biology", replace(Assay().biology, kill_per_h=0.5)),
    ],
)
def test_options_become_settings(words: list[str], field: str, value: object) -> None:
    assert getattr(from_arguments(parsed(*words)), field) == value


def test_reference_option_counts_frames() -> None:
    assert [parsed(*words).reference for words in ([], ["--reference"], ["--reference", "3"])] == [0, 12, 3]


@pytest.mark.parametrize(
    "words",
    [
        ["--wells", "A0"],
        ["--wells", "1A"],
        ["--doses", "much"],
        ["--shape", "big"],
        ["--pieces", "0"],
        ["--pace", "-1"],
    ],
)
def test_nonsense_is_refused_by_the_parser(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed(*words)
    assert stopped.value.code == 2
    assert words[1] in capsys.readouterr().err
