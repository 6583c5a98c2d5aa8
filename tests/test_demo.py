"""The demo's parts: its folder, its score, its pictures. `make demo` itself is run by CI."""

import cv2
import pytest

from cellvigil.cli import main
from cellvigil.demo.pictures import draw_curves, draw_frame
from cellvigil.demo.result import Result, result_of, table_lines
from cellvigil.service.serve import once
from lab import Lab


@pytest.fixture
def counted(lab: Lab) -> tuple[Lab, Result]:
    lab.film(timepoints=3)
    once(lab.config())
    return lab, result_of(lab.store, lab.root / "truth")


def test_the_score_is_read_from_the_record_and_the_truth(counted):
    lab, result = counted
    assert {(row.arm, row.timepoint) for row in result.arms} == {
        (a, t) for a in ("control", "treated") for t in range(3)
    }
    assert result.agreement.points == 6
    assert result.cells == sum(frame.n_cells for frame in lab.ledger().frames(lab.ledger().series()[0]))
    assert 0.5 < result.cells_matched.recall <= 1
    assert result.figures()["excluded_frames"] == 0
    lines = list(table_lines(result))
    assert "dying+dead" in lines[0]
    assert sum(line.lstrip().startswith(("control", "treated")) for line in lines) == 6


def test_the_pictures_are_pictures(counted, tmp_path):
    lab, result = counted
    for name, draw in (
        ("curves", lambda out: draw_curves(result, out)),
        ("frame", lambda out: draw_frame(lab.store, out)),
    ):
        draw(tmp_path / f"{name}.png")
        image = cv2.imread(str(tmp_path / f"{name}.png"))
        assert image.shape[1] > 800
        assert len({tuple(pixel) for pixel in image.reshape(-1, 3)[::97]}) > 5


def test_somebody_elses_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("three years of work")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"
    assert "--out" in capsys.readouterr().err
