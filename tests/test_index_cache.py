"""A cell is embedded once by each encoder: what was made before is found again, and only that."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil.data import ImageRule, IntensityRule
from cellvigil.encoder import Encoder, open_session
from cellvigil.errors import BadFile, UsageError
from cellvigil_indexes.inputs import leaks, pieces
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.collecting import collect
from cellvigil_indexes.inputs.folders import read_folders
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.labelled import grouped
from cellvigil_indexes.inputs.pictures import picture_rule
from index_fixtures import PIXEL_UM, STATES, write_frames, write_singles

RULE = ImageRule(pixel_size_um=PIXEL_UM, crop_um=20.0, intensity=IntensityRule("full"))


@pytest.fixture(scope="module")
def encoder(lite0):
    return open_session(open_encoder(lite0), device="cpu")


@pytest.fixture
def counted(monkeypatch):
    """How many pictures the encoder saw, and how many images were decoded."""
    seen: Counter[str] = Counter()
    embed, pixels_of = Encoder.embed, pieces.pixels_of

    def counting_embed(self, pixels):
        seen["embedded"] += len(pixels)
        return embed(self, pixels)

    def counting_pixels(image):
        seen["opened"] += 1
        return pixels_of(image)

    monkeypatch.setattr(Encoder, "embed", counting_embed)
    monkeypatch.setattr(pieces, "pixels_of", counting_pixels)
    return seen


def quiet(done, total, /, cached=0):
    pass


def gathered(images, encoder, rule=RULE, **how):
    return collect(grouped(images, None), picture_rule(rule, images, PIXEL_UM), [encoder], quiet, Gathering(**how))


@pytest.fixture
def images(tmp_path):
    return read_coco(write_frames(tmp_path / "frames", 3)).images


def test_a_second_time_nothing_is_opened_or_embedded_and_nothing_differs(images, encoder, tmp_path, counted):
    plain = gathered(images, encoder)
    first = gathered(images, encoder, cache=tmp_path / "cache")
    assert (counted["embedded"], counted["opened"]) == (36, 6)
    told = []
    again = collect(
        grouped(images, None),
        picture_rule(RULE, images, PIXEL_UM),
        [encoder],
        lambda done, total, /, cached=0: told.append((done, total, cached)),
        Gathering(cache=tmp_path / "cache"),
    )
    assert (counted["embedded"], counted["opened"]) == (36, 6)
    assert told == [(18, 18, 18)]
    for other in (first, again):
        assert list(other.cells) == list(plain.cells)
        np.testing.assert_array_equal(other.thumbnails, plain.thumbnails)
        np.testing.assert_array_equal(other.embeddings[encoder.name], plain.embeddings[encoder.name])


def test_whole_images_keep_their_box_without_being_opened(encoder, tmp_path, counted):
    images = read_folders(write_singles(tmp_path / "singles", 1)).images
    rule = replace(RULE, frame_normalised=False)
    how = picture_rule(rule, images, None)
    for _ in range(2):
        found = collect(images, how, [encoder], quiet, Gathering(cache=tmp_path / "cache"))
        assert {cell.box_px for cell in found.cells} == {(0, 0, 48, 40)}
    assert (counted["embedded"], counted["opened"]) == (3, 3)


def test_another_choice_of_cells_finds_those_that_are_there(images, encoder, tmp_path, counted):
    cache = tmp_path / "cache"
    few = gathered(images, encoder, cache=cache, limit=2)
    assert counted["embedded"] == 6
    everything = gathered(images, encoder, cache=cache)
    assert counted["embedded"] == 18
    other = gathered(images, encoder, cache=cache, limit=2, seed=7)
    assert counted["embedded"] == 18
    at = {(cell.image, cell.box_px): row for row, cell in enumerate(everything.cells)}
    for found in (few, other):
        rows = [at[(cell.image, cell.box_px)] for cell in found.cells]
        block = everything.embeddings[encoder.name][rows]
        np.testing.assert_allclose(found.embeddings[encoder.name], block, atol=1e-5)


@pytest.mark.parametrize(
    "rule", [replace(RULE, crop_um=30.0), replace(RULE, mask=True), replace(RULE, intensity=IntensityRule("range", 9))]
)
def test_another_rule_finds_nothing(images, encoder, tmp_path, counted, rule):
    rule = replace(rule, intensity=replace(rule.intensity, high=200)) if rule.intensity.kind == "range" else rule
    gathered(images, encoder, cache=tmp_path / "cache")
    found = gathered(images, encoder, cache=tmp_path / "cache", rule=rule)
    assert counted["embedded"] == 36
    np.testing.assert_array_equal(found.thumbnails, gathered(images, encoder, rule=rule).thumbnails)


def test_an_image_that_changed_is_opened_again(images, encoder, tmp_path, counted):
    gathered(images, encoder, cache=tmp_path / "cache")
    canvas = cv2.imread(str(images[1].path), cv2.IMREAD_UNCHANGED)
    canvas[30, 35] ^= 255
    cv2.imwrite(str(images[1].path), canvas)
    gathered(images, encoder, cache=tmp_path / "cache")
    assert (counted["embedded"], counted["opened"]) == (24, 4)


@pytest.mark.parametrize("harm", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: d[:200] + b"\0" * 40 + d[240:]])
def test_a_damaged_or_foreign_file_is_as_none_and_is_mended(images, encoder, tmp_path, counted, harm):
    plain = gathered(images, encoder, cache=tmp_path / "cache")
    files = sorted((tmp_path / "cache").rglob("*.npz"))
    for path in files:
        path.write_bytes(harm(path.read_bytes()))
    for _ in range(2):
        again = gathered(images, encoder, cache=tmp_path / "cache")
        np.testing.assert_array_equal(again.embeddings[encoder.name], plain.embeddings[encoder.name])
    assert counted["embedded"] == 36
    own = [path for path in files if encoder.name in path.parts]
    swapped = own[0].read_bytes()
    own[0].write_bytes(own[1].read_bytes())
    own[1].write_bytes(swapped)
    np.testing.assert_array_equal(
        gathered(images, encoder, cache=tmp_path / "cache").embeddings[encoder.name], plain.embeddings[encoder.name]
    )
    assert counted["embedded"] == 48


def test_a_folder_that_cannot_be_written_is_told_and_costs_only_time(images, encoder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    found = gathered(images, encoder, cache=tmp_path / "cache")
    assert len(found) == 18
    assert [text for text in found.warnings if text.startswith("nothing is cached")]


def test_images_that_do_not_open_are_refused_or_left_out(images, encoder, tmp_path):
    images[1].path.write_bytes(b"no image")
    with pytest.raises(BadFile, match="--skip-bad"):
        gathered(images, encoder)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = gathered(images, encoder, skip_bad=True, cache=cache)
        assert len(found) == 12
        assert found.warnings[0].startswith("left out: images that do not open: 1 (frame1.png: ")
    for image in images:
        Path(image.path).write_bytes(b"")
    with pytest.raises(BadFile):
        gathered(images, encoder)
    with pytest.raises(UsageError, match="no cell in these images; images that do not open: 3"):
        gathered(images, encoder, skip_bad=True)


def told_of(found):
    return leaks.within(found.cells, found.thumbnails)


def distinct(folder, frames):
    """Frames of six cells, no two of them alike, with their COCO file."""
    folder.mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": s} for i, s in enumerate(STATES)]}
    for number in range(frames):
        rng = np.random.default_rng(number)
        canvas = cv2.resize(rng.integers(0, 255, (8, 40), dtype=np.uint8), (400, 80))
        cv2.imwrite(str(folder / f"{number}.png"), canvas)
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": 80, "width": 400})
        for place in range(6):
            box = [30 + 60 * place, 30, 20, 20]
            content["annotations"].append({"image_id": number, "category_id": place % 3, "bbox": box})
    (folder / "labels.json").write_text(json.dumps(content))
    return read_coco(folder / "labels.json").images


def test_copies_are_dropped_before_the_choice_and_told_where_they_straddle(encoder, tmp_path):
    images = distinct(tmp_path / "distinct", 3)
    assert told_of(gathered(images, encoder)) == []
    twice = [*images, replace(images[0], name="again.png")]
    found = gathered(twice, encoder)
    assert told_of(found) == [
        "6 pairs of near-copies lie in different groups (0.png, live, and again.png, live): "
        "a split by group leaks; group them by --split-by, or --drop-duplicates"
    ]
    assert leaks.between(found.thumbnails[:6], found.thumbnails[6:]) == 6
    assert leaks.between(found.thumbnails[6:12], found.thumbnails[12:18]) == 0
    one = gathered(twice, encoder, drop_duplicates=True, limit=5)
    assert one.warnings == ("6 near-copies of other cells were left out",)
    assert Counter(cell.class_name for cell in one.cells) == {"live": 5, "dead": 5, "debris": 5}
    assert "again.png" not in {cell.image for cell in one.cells}
    wrong = replace(
        images[0],
        name="wrong.png",
        group="0.png",
        cells=tuple(replace(cell, class_name="other") for cell in images[0].cells),
    )
    told = told_of(gathered([*images, wrong], encoder, drop_duplicates=True))
    assert told == ["6 pairs of near-copies are of different classes (0.png, live, and wrong.png, other)"]
