"""The options that say where labelled cells come from and which are taken, as a person types them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from cellvigil_indexes.cli import main
from index_fixtures import PIXEL_UM, ground, write_frames, write_singles

ENCODER = "efficientnet-lite0"


@pytest.fixture
def build(lite0, tmp_path, capsys):
    """Run `build`, also a second time if need be; (code, result, stderr)."""

    def run(name, *words):
        places = ("--out", tmp_path / "indexes", "--encoders", lite0.parent, "--device", "cpu", "--json")
        code = main([str(word) for word in ("build", name, "--encoder", ENCODER, "--set-aside", "0", *words, *places)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--store", "s"], "--store and --labels go together"),
        (["--images", "i", "--labels", "l.csv"], "--store and --labels go together"),
        (["--images", "i", "--channel", "GFP"], "--channel is for frames of a --store"),
        (["--store", "s", "--labels", "l.csv", "--cell-diameter", "20"], "omit --cell-diameter"),
        (["--images", "i", "--limit", "0"], "--limit 0 leaves no cell"),
        (["--images", "i", "--seed", "-1"], "--seed -1 is below 0"),
        (["--images", "i", "--frames", "f"], "not allowed with argument"),
        (["--frames", "absent"], "there is no such folder"),
        (["--store", "absent", "--labels", "l.csv"], "no plate in this store"),
    ],
)
def test_what_does_not_go_together_is_said(build, words, told):
    code, _, said = build("odd", *words)
    assert code == 2
    assert told in said
    assert said.count("\n") == 1


def test_frames_of_one_class_each_make_an_index(build, tmp_path):
    for place, name in enumerate(("bright", "dark")):
        folder = tmp_path / "frames" / name
        folder.mkdir(parents=True)
        for number in range(2):
            canvas = ground((160, 240), number).astype(np.float32)
            for y in (45, 110):
                for x in (45, 120, 195):
                    cv2.circle(canvas, (x, y), 10, 215 if place == 0 else 70, -1, cv2.LINE_AA)
                    cv2.circle(canvas, (x, y), 10, 40 if place == 0 else 20, 2, cv2.LINE_AA)
            cv2.imwrite(str(folder / f"{number}.png"), canvas.clip(0, 255).astype(np.uint8))
    words = ("--frames", tmp_path / "frames", "--pixel-size", PIXEL_UM, "--cell-diameter", "10", "--crop-um", "16")
    code, built, said = build("types", *words, "--limit", "8", "--states", "bright=alive,dark=dead")
    assert code == 0, said
    assert built["classes"] == {"bright": 8, "dark": 8}
    assert built["groups"] == {"bright": "alive", "dark": "dead"}
    assert built["cell_groups"] == 4
    assert built["provenance"]["cell_diameter_um"] == 10
    assert (built["provenance"]["limit"], built["provenance"]["seed"]) == (8, 0)


def test_the_cache_changes_nothing_but_the_time(build, tmp_path):
    coco = write_frames(tmp_path / "frames", 2)
    words = ("--coco", coco, "--pixel-size", PIXEL_UM, "--crop-um", "20", "--force")
    made = [build("assay", *words, *more) for more in ((), (), ("--no-cache",), ("--cache", tmp_path / "else"))]
    assert len({built["sha256"] for _, built, _ in made}) == 1
    assert "embedded 12 of 12 cells\n" in made[0][2]
    assert "12 of 12 cells, 12 of them before" in made[1][2]
    assert "before" not in made[2][2] + made[3][2]
    assert (tmp_path / "indexes" / ".cache").is_dir()
    assert (tmp_path / "else").is_dir()


def test_bad_input_is_named_and_left_out_only_when_asked(build, tmp_path):
    singles = write_singles(tmp_path / "singles", 4)
    (singles / "live" / "9.png").write_bytes(b"broken")
    code, _, said = build("some", "--images", singles)
    assert (code, "live/9.png" in said, "--skip-bad" in said) == (1, True, True)
    code, built, said = build("some", "--images", singles, "--skip-bad")
    assert code == 0, said
    assert built["classes"] == {"live": 4, "dead": 4, "debris": 4}
    assert any("left out: images that do not open: 1 (live/9.png" in warning for warning in built["warnings"])
