"""An encoder's own fit, from its manifest to an index's vectors and a live cell's: done, and done once."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellvigil import normalize
from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.index import open_index, reference_cells
from cellvigil.cli import main as cellvigil
from cellvigil.data import Fit, Frame, FrameKey
from cellvigil.encoder import open_session
from cellvigil.resample import fitted
from cellvigil_indexes.cli import main as cellvigil_index
from encoder_fixtures import rewritten
from index_fixtures import PIXEL_UM, write_frames

PLAIN, OWN = "efficientnet-lite0", "fitted"
FIT = Fit(224, "bicubic", shortest=256)


def with_fit(folder: Path, fit: Fit) -> Path:
    """The same network under another name, as an encoder whose checkpoint had such an image processor."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    preprocessing = {**manifest["preprocessing"], "outside_the_graph": asdict(fit)}
    rewritten(folder, name=OWN, preprocessing=preprocessing)
    return folder


@pytest.fixture(scope="module")
def encoders(lite0: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two encoders that differ only in how a picture is fitted to them."""
    folder = tmp_path_factory.mktemp("fits") / "encoders"
    shutil.copytree(lite0, folder / PLAIN)
    with_fit(shutil.copytree(lite0, folder / OWN), FIT)
    return folder


def write_cells(folder: Path, height: int = 363, width: int = 360) -> Path:
    """Ready-made coloured pictures of single cells, four a class."""
    rng = np.random.default_rng(3)
    for name, tint in (("dark", 60), ("pale", 170)):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            rough = rng.integers(0, 80, (24, 24, 3), dtype=np.uint8) + np.uint8(tint)
            picture = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / name / f"{number}.png"), picture)
    return folder


def build(encoders: Path, out: Path, name: str, *words: object) -> Path:
    both = ("--encoder", PLAIN, "--encoder", OWN, "--encoders", encoders, "--device", "cpu", "--set-aside", "0")
    with contextlib.redirect_stdout(io.StringIO()):
        assert cellvigil_index([str(word) for word in ("build", name, *words, *both, "--out", out, "--json")]) == 0
    return out / name


def square(path: Path) -> np.ndarray:
    """A picture as red, green, blue, its shorter side continued as in a mirror."""
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    more = pixels.shape[0] - pixels.shape[1]
    return np.asarray(cv2.copyMakeBorder(pixels, 0, 0, more // 2, more - more // 2, cv2.BORDER_REFLECT_101))


def test_ready_made_pictures_are_fitted_once_for_each_encoder(encoders: Path, tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells")
    index = open_index(build(encoders, tmp_path / "indexes", "whole", "--images", cells))
    pictures = [square(cells / cell.image) for cell in reference_cells(index)]
    for name, fit in ((PLAIN, Fit(224)), (OWN, FIT)):
        encoder = open_session(open_encoder(encoders / name), device="cpu")
        assert encoder.bundle.fit == fit
        wanted = encoder.embed(np.stack([fitted(picture, fit) for picture in pictures]))
        np.testing.assert_allclose(index.embeddings[name], wanted, atol=1e-4)
    assert float(np.abs(index.embeddings[PLAIN] - index.embeddings[OWN]).max()) > 0.01


def test_live_and_reference_cells_are_fitted_alike(encoders: Path, tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", 4)
    scale = ("--pixel-size", PIXEL_UM, "--crop-um", "20")
    index = open_index(build(encoders, tmp_path / "indexes", "frames", "--coco", frames, *scale))
    cell = reference_cells(index)[4]
    pixels = cv2.imread(str(frames.parent / cell.image), cv2.IMREAD_UNCHANGED)
    key = FrameKey("s", "e", "p", "A1", "1", 0)
    frame = Frame(key, None, pixels[None], ("Bright Field",), (PIXEL_UM, PIXEL_UM), ())
    rule = index.image_rule
    image = normalize.analysis_image(frame, "", rule, normalize.intensity_range([pixels], rule.intensity))
    y0, x0, y1, x1 = cell.box_px
    for name in (PLAIN, OWN):
        encoder = open_session(open_encoder(encoders / name), device="cpu")
        crop = normalize.crops(image, [((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2)], rule, fit=encoder.bundle.fit)
        np.testing.assert_allclose(encoder.embed(crop.pixels)[0], index.embeddings[name][4], atol=1e-4)


def test_a_picture_is_classified_by_the_vectors_that_it_has_as_a_reference(
    encoders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = write_cells(tmp_path / "cells")
    build(encoders, tmp_path / "indexes", "whole", "--images", cells)
    where = ("--indexes", tmp_path / "indexes", "--encoders", encoders, "--device", "cpu", "--json")
    words = ("classify", cells / "pale" / "2.png", "--index", "whole", *where)
    assert cellvigil([str(word) for word in words]) == 0
    [answer] = json.loads(capsys.readouterr().out)["cells"]
    assert (answer["label"], answer["nearest"][0]["distance"]) == ("pale", pytest.approx(0, abs=1e-3))


def test_vectors_of_another_fit_are_not_taken_from_the_cache(encoders: Path, tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells")
    mine = Path(shutil.copytree(encoders, tmp_path / "encoders"))
    before = open_index(build(mine, tmp_path / "indexes", "one", "--images", cells))
    with_fit(mine / OWN, Fit(224, "bilinear"))
    after = open_index(build(mine, tmp_path / "indexes", "two", "--images", cells))
    np.testing.assert_array_equal(before.embeddings[PLAIN], after.embeddings[PLAIN])
    encoder = open_session(open_encoder(mine / OWN), device="cpu")
    first = square(cells / reference_cells(after)[0].image)
    wanted = encoder.embed(fitted(first, Fit(224, "bilinear"))[None])[0]
    np.testing.assert_allclose(after.embeddings[OWN][0], wanted, atol=1e-4)
    assert float(np.abs(after.embeddings[OWN] - before.embeddings[OWN]).max()) > 0.01
