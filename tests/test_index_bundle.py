"""An index on disk: what is written is what is read, and nothing wrong is opened."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.bundle import files
from cellvigil.bundle.index import check_encoders, index_folder, open_index, reference_cells
from cellvigil.bundle.index_manifest import check_classes, rule_as_dict, rule_from_dict
from cellvigil.data import ClaheRule, ImageRule, IntensityRule
from cellvigil.errors import BundleError
from index_fixtures import write_plain_index


@pytest.fixture
def folder(tmp_path):
    return write_plain_index(tmp_path / "plain")


def test_what_is_written_is_what_is_read(folder):
    index = open_index(folder)
    assert (index.name, len(index), index.classes) == ("plain", 20, ("live", "dead"))
    assert index.groups == {"live": "alive", "dead": "dead"}
    assert index.class_counts.tolist() == [10, 10]
    assert index.labels[:4].tolist() == [0, 1, 0, 1]
    assert index.embeddings["one"].shape == (20, 4)
    assert index.thumbnails.shape == (20, 64, 64, 1)
    assert (index.k_min, index.k_max, index.threshold, index.reweight) == (3, 100, 0.3, True)
    assert reference_cells(index)[3].image == "3.png"
    assert reference_cells(index)[3].box_px == (0, 0, 9, 9)
    assert index.manifest["counts"] == {"live": 10, "dead": 10}


def test_arrays_are_read_only_and_mapped(folder):
    index = open_index(folder)
    with pytest.raises(ValueError, match="read-only"):
        index.embeddings["one"][0, 0] = 1
    assert isinstance(index.embeddings["one"].base, np.memmap)


def test_the_same_cells_make_the_same_index(folder, tmp_path):
    assert open_index(write_plain_index(tmp_path / "again" / "plain")).sha256 == open_index(folder).sha256


def test_novelty_leaves_the_own_group_out(folder):
    index = open_index(folder)
    block = index.embeddings["one"].astype(float)
    for cell in (0, 7):
        others = index.cell_groups != index.cell_groups[cell]
        nearest = np.sort(np.linalg.norm(block[others] - block[cell], axis=1))[:3]
        assert index.novelty[cell] == pytest.approx(nearest.mean(), rel=1e-5)


def test_one_group_has_no_novelty(tmp_path):
    index = open_index(write_plain_index(tmp_path / "lone", groups=1))
    assert np.isnan(index.novelty).all()
    assert index.manifest["evaluation"] is None


def test_leaving_groups_out_gives_a_first_figure(folder):
    assert open_index(folder).manifest["evaluation"]["balanced_accuracy"] == 1.0


def test_unit_scaling_makes_encoders_equal(tmp_path):
    index = open_index(write_plain_index(tmp_path / "two", encoders=("one", "two"), scaling="unit"))
    for encoder in index.encoders:
        block = index.embeddings[encoder.name].astype(float)
        pairs = ((block[:, None] - block[None]) ** 2).sum(axis=2)
        assert encoder.scale * pairs.mean() == pytest.approx(1, rel=1e-5)


def test_an_index_is_not_replaced_unasked(folder):
    before = open_index(folder).sha256
    with pytest.raises(BundleError, match="already"):
        write_plain_index(folder, cells=10)
    assert open_index(folder).sha256 == before


def altered(name):
    def alter(folder):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return alter


def manifest(**changed):
    """Write the manifest again, hashes and all, with keys changed, or left out where the value is `...`."""

    def alter(folder):
        old = json.loads((folder / files.MANIFEST).read_text())
        new = {k: v for k, v in {**old, **changed}.items() if k != "files" and v is not ...}
        files.write_manifest(folder, new)

    return alter


def saved(name, array):
    def alter(folder):
        np.save(folder / name, array)
        manifest()(folder)

    return alter


def unlisted(folder):
    old = json.loads((folder / files.MANIFEST).read_text())
    del old["files"]["labels.npy"]
    (folder / files.MANIFEST).write_text(json.dumps(old))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (altered("embeddings_one.npy"), "embeddings_one.npy is not the file"),
        (altered("labels.npy"), "labels.npy is not the file"),
        (altered("cells.csv"), "cells.csv is not the file"),
        (lambda folder: (folder / "novelty.npy").unlink(), "novelty.npy is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (unlisted, "does not list labels.npy"),
        (manifest(kind="encoder"), "not a index|not an index"),
        (manifest(schema_version=4), "schema version 4 is not 3 or earlier.*update cellvigil"),
        (manifest(k_min=...), "k_min"),
        (manifest(image_rule={"clahe": None}), "intensity"),
        (manifest(metric="cosine"), "metric"),
        (manifest(encoders=[]), "no encoder"),
        (manifest(classes=["live", "Live"], groups={"live": "none", "Live": "none"}), "only in case"),
        (manifest(classes=["live", "Unknown"], groups={"live": "none", "Unknown": "none"}), "'Unknown'"),
        (manifest(groups={"live": "alive", "dead": "gone"}), "alive, dying, dead"),
        (saved("labels.npy", np.zeros(19, np.int16)), r"not int32 \(19,\)"),
        (saved("labels.npy", np.full(20, 2, np.int16)), "do not fit"),
        (saved("embeddings_one.npy", np.zeros((20, 4), np.float64)), "float64"),
        (saved("labels.npy", np.array([{}] * 20, dtype=object)), "labels.npy cannot be opened"),
    ],
)
def test_what_is_wrong_is_not_opened(folder, harm, message):
    harm(folder)
    with pytest.raises(BundleError, match=message):
        open_index(folder)


def encoder(sha256, name="one"):
    return types.SimpleNamespace(name=name, sha256=sha256)


def test_an_encoder_that_is_not_there_or_another_is_named(folder):
    index = open_index(folder)
    check_encoders(index, [encoder("0" * 64), encoder("f" * 64, "spare")])
    with pytest.raises(BundleError, match=r"needs encoder one \(000000000000\).*cellvigil-export run one"):
        check_encoders(index, [encoder("0" * 64, "two")])
    with pytest.raises(BundleError, match=r"one 000000000000.*there is abcabcabcabc.*build the index again"):
        check_encoders(index, [encoder("abc" * 21 + "a")])


@pytest.mark.parametrize("classes", [[], ["a", "A"], [" "], ["unknown"], ["UNKNOWN", "b"]])
def test_class_names_that_cannot_be(classes):
    with pytest.raises(BundleError):
        check_classes(classes, dict.fromkeys(classes, "none"))


def test_an_index_is_found_by_name_or_by_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert index_folder("plain", folder.parent) == folder
    assert open_index(index_folder(str(folder), tmp_path / "elsewhere")).name == "plain"
    assert index_folder("absent", tmp_path / "elsewhere") == tmp_path / "elsewhere" / "absent"


numbers = st.floats(0.01, 1000)
rules = st.builds(
    ImageRule,
    pixel_size_um=numbers,
    crop_um=numbers,
    intensity=st.builds(IntensityRule, st.sampled_from(["range", "percentiles"]), numbers, numbers, st.integers(1, 9)),
    clahe=st.none() | st.builds(ClaheRule, numbers, numbers),
    colour=st.sampled_from(["grey", "rgb"]),
    mask=st.booleans(),
    pad=st.sampled_from(["reflect", "edge"]),
    frame_normalised=st.booleans(),
)


@given(rules)
def test_an_image_rule_survives_the_manifest(rule):
    assert rule_from_dict(json.loads(json.dumps(rule_as_dict(rule)))) == rule
