"""Cells seen from four sides: what an image rule with `turns` means, from the encoder to the daemon's store."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil import check_capacity, normalize
from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.index import open_index, reference_cells
from cellvigil.bundle.index_manifest import rule_as_dict, rule_from_dict
from cellvigil.bundle.ruled import ruled_sha256
from cellvigil.cli import main
from cellvigil.data import Frame, ImageRule
from cellvigil.encoder import open_session
from cellvigil.errors import UsageError
from cellvigil.ruled import ruled
from cellvigil.service.serve import once
from cellvigil.store.gone import folder_of
from cellvigil.store.planes import read_mask, read_plane
from cellvigil.store.rows import read_table
from cellvigil.store.vectors import read_vectors
from cellvigil_indexes.cli import main as index_command
from channel_lab import grid_bundle, grid_means
from conftest import once_for_all
from lab import Lab, build_index

UPRIGHT, TURNED = ImageRule(), ImageRule(turns=4)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A bundle whose vectors tell what lies where in a picture."""
    return open_encoder(grid_bundle(tmp_path_factory.mktemp("encoders"), name="grid3", channels=3))


@dataclass
class Numbers:
    """An encoder in numpy."""

    bundle: EncoderBundle
    name = "grid3"
    provider = "cpu"

    def embed(self, pixels):
        assert pixels.flags.c_contiguous
        return grid_means(np.repeat(pixels, 3 // pixels.shape[3], axis=3))


def pictures(seed, cells, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (cells, 32, 32, channels), dtype=np.uint8)


# --- the encoder


@given(seed=st.integers(0, 99), cells=st.integers(0, 5), channels=st.sampled_from([1, 3]))
def test_a_vector_is_the_mean_over_four_sides(grid, seed, cells, channels):
    """Against the obvious: one cell and one quarter turn at a time."""
    pixels = pictures(seed, cells, channels)
    got = ruled(Numbers(grid), TURNED).embed(pixels)
    assert got.shape == (cells, grid.dimension)
    assert got.dtype == np.float32
    for row, picture in enumerate(pixels):
        sides = [Numbers(grid).embed(np.rot90(picture, k)[None].copy())[0] for k in range(4)]
        np.testing.assert_allclose(got[row], np.mean(sides, axis=0), rtol=1e-5, atol=1e-3)


@given(seed=st.integers(0, 99), quarters=st.integers(1, 3))
def test_how_a_cell_lies_does_not_matter(grid, seed, quarters):
    upright = pictures(seed, 4)
    turned = np.rot90(upright, quarters, axes=(1, 2))
    used = ruled(Numbers(grid), TURNED)
    np.testing.assert_allclose(used.embed(turned), used.embed(upright), rtol=1e-5, atol=1e-3)
    assert not np.allclose(Numbers(grid).embed(turned.copy()), Numbers(grid).embed(upright))


def test_a_real_encoder_tells_a_turned_cell_from_itself_and_its_mean_does_not(lite0):
    session = open_session(open_encoder(lite0), device="cpu")
    side = session.bundle.input_size
    upright = np.random.default_rng(0).integers(0, 256, (2, side, side, 1), dtype=np.uint8)
    turned = np.rot90(upright, 1, axes=(1, 2))
    used = ruled(session, TURNED)
    np.testing.assert_allclose(used.embed(turned), used.embed(upright), rtol=0, atol=1e-4)
    assert np.abs(session.embed(turned.copy()) - session.embed(upright)).max() > 0.01


def test_each_channel_is_turned_by_itself(grid):
    rule = ImageRule(colour="channels", channels=("GFP", "DAPI"), per_channel=True, turns=4)
    pixels = pictures(5, 3, 2)
    got = ruled(Numbers(grid), rule).embed(pixels)
    apart = [ruled(Numbers(grid), TURNED).embed(pixels[..., [c]]) for c in range(2)]
    np.testing.assert_array_equal(got, np.concatenate(apart, axis=1))
    with pytest.raises(UsageError, match="used on 2 channels"):
        ruled(Numbers(grid), rule).embed(pictures(5, 3, 3))


def test_pictures_that_the_encoder_does_not_take_are_refused_as_ever(grid):
    used = ruled(open_session(grid, device="cpu"), TURNED)
    with pytest.raises(UsageError, match="takes pictures"):
        used.embed(pictures(0, 2)[:, :16])


# --- the rule


def test_turned_vectors_are_of_an_encoder_of_their_own_and_old_manifests_know_nothing_of_turns(grid):
    channels = ImageRule(colour="channels", channels=("A", "B", "C"))
    rules = (UPRIGHT, TURNED, channels, replace(channels, turns=4))
    assert len({ruled_sha256(grid.sha256, rule) for rule in rules}) == len(rules)
    assert ruled_sha256(grid.sha256, UPRIGHT) == grid.sha256
    assert "turns" not in rule_as_dict(UPRIGHT)
    assert rule_as_dict(TURNED)["turns"] == 4
    for rule in rules:
        assert rule_from_dict(rule_as_dict(rule)) == rule


@pytest.mark.parametrize("turns", [0, 2, 3, 8, -4])
def test_only_quarter_turns_or_none(turns):
    with pytest.raises(ValueError, match="turns"):
        ImageRule(turns=turns)


# --- indexes and the daemon


@pytest.fixture(scope="module")
def turned_indexes(state_indexes, lite0, tmp_path_factory):
    """The index `states`, and the same with turns as `turned`; read-only by agreement."""

    def make(folder):
        (folder / "states").symlink_to(state_indexes / "states")
        return build_index(folder, lite0, "--turns", "4", name="turned")

    return once_for_all(tmp_path_factory, "turned", make)


@pytest.fixture
def two(tmp_path, turned_indexes, lite0):
    return Lab(tmp_path, turned_indexes, lite0.parent)


def test_the_daemon_turns_live_cells_as_the_index_s_own_were(two, lite0):
    """Slow twin: each stored vector is that of its cell, cut again from the store and embedded four times."""
    two.film(timepoints=2)
    assert once(two.config(source={"index": "turned"}))["counted"] == 4
    index, ledger = open_index(two.indexes / "turned"), two.ledger()
    (series,) = ledger.series()
    frame = min(ledger.frames(series), key=lambda each: each.key)
    folder = folder_of(two.store, series)
    stored = read_vectors(folder, frame, index.encoders)[lite0.name]
    rows = read_table(folder / frame.path, "cells/features", frame.t, frame.n_cells)
    centres = np.stack([rows["centroid_y_px"], rows["centroid_x_px"]], axis=1)
    plane = read_plane(folder / frame.path, frame.t, 0)
    labels = read_mask(folder / frame.path, frame.t, plane.shape)
    encoder = open_session(open_encoder(lite0), device="cpu")
    scale = (index.image_rule.pixel_size_um,) * 2
    whole = Frame(frame.key, frame.acquired_at, plane[None], ("grey",), scale, ())
    image = normalize.analysis_image(whole, "", index.image_rule, ledger.baseline(series).intensity)
    cut = normalize.crops(image, centres, index.image_rule, fit=encoder.bundle.fit, labels=labels).pixels
    sides = [encoder.embed(np.ascontiguousarray(np.rot90(cut, k, axes=(1, 2)))) for k in range(4)]
    np.testing.assert_allclose(stored, np.mean(sides, axis=0), rtol=2e-3, atol=2e-3)  # kept in half precision
    assert not np.allclose(stored, sides[0], rtol=2e-3, atol=2e-3)


def test_references_and_classified_cells_are_turned_too(lite0, tmp_path, capsys):
    """Slow twin of the reference side; and a cell of the index lies upon its own reference."""
    rng = np.random.default_rng(1)
    for number in range(6):
        path = tmp_path / "cells" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 128 * (1 + number % 2), (48, 48), dtype=np.uint8))
    where = ("--encoders", str(lite0.parent), "--device", "cpu")
    words = ("build", "turned", "--images", str(tmp_path / "cells"), "--encoder", lite0.name, "--turns", "4",
             "--set-aside", "0", "--out", str(tmp_path), *where)  # fmt: skip
    assert index_command(words) == 0
    index, encoder = open_index(tmp_path / "turned"), open_session(open_encoder(lite0), device="cpu")
    for row, cell in enumerate(reference_cells(index)):
        grey = cv2.imread(str(tmp_path / "cells" / cell.image), cv2.IMREAD_GRAYSCALE)
        upright = normalize.fit_single(grey, index.image_rule, encoder.bundle.fit)
        sides = [encoder.embed(np.rot90(upright, k)[None].copy())[0] for k in range(4)]
        np.testing.assert_allclose(index.embeddings[lite0.name][row], np.mean(sides, axis=0), rtol=0, atol=1e-4)
        assert not np.allclose(sides[0], sides[1], atol=1e-2)
    capsys.readouterr()
    first = str(tmp_path / "cells" / "dark" / "0.png")
    assert main(["classify", first, "--index", str(tmp_path / "turned"), "--json", *where]) == 0
    [answer] = json.loads(capsys.readouterr().out)["cells"]
    assert answer["nearest"][0]["image"] == "dark/0.png"
    assert answer["nearest"][0]["distance"] < 0.01 * answer["nearest"][1]["distance"]


def test_vectors_of_one_side_are_not_called_by_an_index_of_four(two):
    two.film(timepoints=2)
    once(two.config())
    said = once(two.config(source={"index": "turned"}), recall=True)
    assert (said["recalled"], said["recall_failed"]) == (0, 4)


def test_show_tells_of_it_and_check_counts_four_pictures_a_cell(two, capsys, monkeypatch):
    assert index_command(["show", "turned", "--out", str(two.indexes)]) == 0
    assert "upright and turned by quarters" in capsys.readouterr().out
    assert index_command(["show", "states", "--out", str(two.indexes)]) == 0
    assert "quarters" not in capsys.readouterr().out
    two.film(timepoints=2)
    monkeypatch.setattr(check_capacity, "seconds_per_cell", lambda encoder, batch: 0.01)
    for index, speed in (("states", "100 cells"), ("turned", "25 cells")):
        assert main(["check", "--config", str(two.config_file(source={"index": index, "interval_s": 3600.0}))]) == 0
        assert f"{speed} a second measured" in capsys.readouterr().out
