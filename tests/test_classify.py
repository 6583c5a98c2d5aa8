"""`cellvigil classify`: single-cell images, their calls, and the reference cells behind them."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from cellvigil.bundle.index import open_index, reference_cells
from cellvigil.cli import main
from cellvigil_indexes.cli import main as index_main
from index_fixtures import PIXEL_UM, write_frames, write_singles


@pytest.fixture(scope="module")
def house(lite0, tmp_path_factory):
    """Indexes of whole pictures and of frames, and the pictures; nobody writes to it."""
    base = tmp_path_factory.mktemp("classify")
    singles, frames = write_singles(base / "cells", 8), write_frames(base / "frames", 6)
    common = (
        "--encoder",
        "efficientnet-lite0",
        "--encoders",
        lite0.parent,
        "--device",
        "cpu",
        "--out",
        base / "indexes",
    )
    rest = ("--set-aside", "0", *common)
    scale = ("--pixel-size", PIXEL_UM, "--crop-um", "20")
    assert index_main([str(w) for w in ("build", "whole", "--images", singles, *rest)]) == 0
    assert index_main([str(w) for w in ("build", "frames", "--coco", frames, *scale, *rest)]) == 0
    assert index_main([str(w) for w in ("build", "masked", "--coco", frames, *scale, "--mask", *rest)]) == 0
    return base


@pytest.fixture
def classify(house, lite0, capsys):
    def run(*words):
        where = ("--indexes", house / "indexes", "--encoders", lite0.parent, "--device", "cpu", "--json")
        code = main([str(word) for word in ("classify", *words, *where)])
        said = capsys.readouterr()
        return code, json.loads(said.out)["cells"] if said.out else None, said.err

    return run


def test_a_reference_cell_is_its_own_nearest(house, classify):
    image = house / "cells" / "dead" / "3.png"
    code, [answer], _ = classify(image, "--index", "whole", "--nearest", "3")
    assert code == 0
    first = answer["nearest"][0]
    cells = reference_cells(open_index(house / "indexes" / "whole"))
    assert (answer["label"], first["class_name"], first["distance"]) == ("dead", "dead", pytest.approx(0, abs=1e-3))
    assert cells[first["cell"]].class_name == "dead"
    assert answer["reference"] == first["cell"]
    assert len(answer["nearest"]) == 3
    distances = [each["distance"] for each in answer["nearest"]]
    assert distances == sorted(distances)


def test_every_image_is_answered_in_its_order_whatever_it_is_asked_with(house, classify):
    images = [house / "cells" / state / f"{n}.png" for state in ("live", "dead", "debris") for n in (1, 2)]
    _, together, _ = classify(*images, "--index", "whole")
    assert [answer["label"] for answer in together] == ["live", "live", "dead", "dead", "debris", "debris"]
    _, [alone], _ = classify(images[3], "--index", "whole")
    assert alone["nearest"] == together[3]["nearest"]
    assert alone["vote_share"] == together[3]["vote_share"]


def test_certainty_is_the_papers_and_shares_sum_to_one(house, classify):
    _, [answer], _ = classify(house / "cells" / "live" / "0.png", "--index", "whole")
    assert 0 <= answer["certainty"] <= 100
    assert sum(answer["vote_share"].values()) == pytest.approx(1)
    assert answer["probability"] is None or 0 <= answer["probability"] <= 1
    assert answer["possible"] is None


@pytest.mark.parametrize("index", ["frames", "masked"])
def test_a_cell_cut_from_a_frame_is_called_like_the_frame_s_own(house, classify, tmp_path, index):
    frame = cv2.imread(str(house / "frames" / "frame2.png"), cv2.IMREAD_GRAYSCALE)
    y, x = 30, 35 + 60 + 2  # the dead cell of the first row
    cv2.imwrite(str(tmp_path / "cut.png"), frame[y - 25 : y + 26, x - 25 : x + 26])
    code, [answer], _ = classify(tmp_path / "cut.png", "--index", index, "--pixel-size", PIXEL_UM)
    assert (code, answer["label"]) == (0, "dead")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--index", "frames"), "--pixel-size"),
        (("--index", "whole", "--pixel-size", "0.5"), "leave --pixel-size out"),
        (("--index", "whole", "--nearest", "0"), "--nearest"),
        (("--index", "nowhere"), "no index bundle here"),
    ],
)
def test_what_makes_no_sense_is_said(house, classify, words, told):
    code, _, err = classify(house / "cells" / "live" / "0.png", *words)
    assert code in (1, 2)
    assert told in err


def test_an_image_that_does_not_open_is_named(classify, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    code, _, err = classify(tmp_path / "broken.png", "--index", "whole")
    assert code == 1
    assert "broken.png" in err


def test_the_page_shows_every_witness_and_runs_nothing(house, classify, tmp_path):
    cv2.imwrite(str(tmp_path / "ok.png"), np.full((48, 40), 128, dtype=np.uint8))
    name = tmp_path / "a<b>&.png"
    (tmp_path / "ok.png").rename(name)
    code, [answer], _ = classify(name, "--index", "whole", "--html", tmp_path / "why.html")
    text = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert code == 0
    assert text.count("data:image/png;base64,") == 1 + len(answer["nearest"])
    assert "a&lt;b&gt;&amp;.png" in text
    assert "<b>&.png" not in text
    assert "default-src 'none'" in text


def test_a_reader_that_stops_early_is_no_error(house, lite0):
    words = [sys.executable, "-m", "cellvigil", "classify", house / "cells" / "live" / "0.png", "--index", "whole"]
    where = ["--indexes", house / "indexes", "--encoders", lite0.parent, "--device", "cpu"]
    process = subprocess.Popen([str(w) for w in (*words, *where)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in said


def test_a_picture_is_the_same_whatever_it_is_asked_with(house, lite0, classify, tmp_path, capsys):
    """With percentile intensities the index's own range holds, not that of the images in the command."""
    for state, level in (("live", 3000), ("dead", 900)):
        (tmp_path / "deep" / state).mkdir(parents=True)
        for number in range(6):
            noise = np.random.default_rng([level, number]).normal(level, 200, (48, 40))
            cv2.imwrite(str(tmp_path / "deep" / state / f"{number}.png"), noise.astype(np.uint16))
    common = ("--encoder", "efficientnet-lite0", "--encoders", lite0.parent, "--device", "cpu", "--set-aside", "0")
    words = ("build", "deep", "--images", tmp_path / "deep", *common, "--out", house / "indexes", "--force")
    assert index_main([str(word) for word in words]) == 0
    capsys.readouterr()  # what `build` said
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((48, 40), 60000, np.uint16))
    own = tmp_path / "deep" / "live" / "2.png"
    _, [alone], _ = classify(own, "--index", "deep")
    _, [beside, _other], _ = classify(own, tmp_path / "bright.png", "--index", "deep")
    assert alone == beside
    assert alone["reference"] is not None
