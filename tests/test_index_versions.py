"""Adding and dropping cells: a new version, the old one kept whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cellvigil.bundle.index import open_index, reference_cells
from cellvigil.errors import BundleError, UsageError
from cellvigil_indexes.changing import Choice, chosen, conflicts, with_cells, without_cells
from cellvigil_indexes.cli import main
from cellvigil_indexes.draft import draft_of
from cellvigil_indexes.versions import history_of, succeed, version_of
from index_fixtures import PIXEL_UM, write_frames, write_plain_index

SCALE = ("--pixel-size", str(PIXEL_UM), "--crop-um", "20")


@pytest.fixture
def plain(tmp_path):
    return open_index(write_plain_index(tmp_path / "indexes" / "plain", encoders=("one", "two")))


def test_a_draft_written_again_is_the_same_index(plain, tmp_path):
    after = succeed(plain, draft_of(plain), "nothing")
    assert after.classes == plain.classes
    assert after.groups == plain.groups
    assert [e.name for e in after.encoders] == [e.name for e in plain.encoders]
    assert reference_cells(after) == reference_cells(plain.__class__ and open_index(tmp_path / "indexes" / "plain.v1"))
    for name in ("labels", "cell_groups", "novelty", "thumbnails", "norms"):
        np.testing.assert_array_equal(getattr(after, name), getattr(open_index(tmp_path / "indexes/plain.v1"), name))
    for name, block in after.embeddings.items():
        np.testing.assert_array_equal(block, plain.embeddings[name])


def test_the_old_version_is_kept_and_both_open(plain, tmp_path):
    second = succeed(plain, draft_of(plain), "first change")
    third = succeed(second, draft_of(second), "second change")
    assert (third.name, version_of(third)) == ("plain", 3)
    assert [(e["version"], e["change"], e["kept_as"]) for e in history_of(third)] == [
        (1, "built", "plain.v1"),
        (2, "first change", "plain.v2"),
    ]
    old = open_index(tmp_path / "indexes" / "plain.v1")
    assert (old.sha256, old.name, version_of(old)) == (plain.sha256, "plain", 1)
    assert sorted(path.name for path in (tmp_path / "indexes").iterdir()) == ["plain", "plain.v1", "plain.v2"]


def test_a_kept_version_cannot_be_changed(plain, tmp_path):
    succeed(plain, draft_of(plain), "change")
    old = open_index(tmp_path / "indexes" / "plain.v1")
    with pytest.raises(BundleError, match="kept old version"):
        succeed(old, draft_of(old), "another")


def test_a_change_that_was_cut_off_is_told_and_nothing_is_lost(plain, tmp_path):
    (tmp_path / "indexes" / "plain.next").mkdir()
    with pytest.raises(BundleError, match=r"plain\.next is there already"):
        succeed(plain, draft_of(plain), "change")
    assert open_index(tmp_path / "indexes" / "plain").sha256 == plain.sha256


def test_a_failed_write_leaves_the_index_alone(plain, tmp_path):
    draft = draft_of(plain)
    broken = {name: np.full_like(block, np.nan) for name, block in draft.collected.embeddings.items()}
    with pytest.raises(UsageError, match="not finite"):
        succeed(plain, replace(draft, collected=replace(draft.collected, embeddings=broken)), "change")
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == ["plain"]
    assert open_index(tmp_path / "indexes" / "plain").sha256 == plain.sha256


def test_added_cells_come_behind_the_others(plain):
    draft = draft_of(plain)
    more = draft.collected.rows(np.array([3, 4]))
    bigger = with_cells(draft, more, None, {"mitotic": "alive"})
    assert len(bigger.collected) == len(draft.collected) + 2
    assert bigger.collected.cells[: len(draft.collected)] == list(draft.collected.cells)
    assert list(bigger.groups.items()) == [*draft.groups.items(), ("mitotic", "alive")]


def test_dropping_all_cells_of_a_class_drops_the_class(plain):
    draft = draft_of(plain)
    rows = chosen(draft.collected.cells, Choice(classes=["DEAD"]))
    smaller = without_cells(draft, rows)
    assert list(smaller.groups) == ["live"]
    assert {cell.class_name for cell in smaller.collected.cells} == {"live"}


@pytest.mark.parametrize(
    ("choice", "rows"),
    [
        (Choice(ids=[4, 2]), [2, 4]),
        (Choice(images=["1*.png"]), [1, *range(10, 20)]),
        (Choice(classes=["live"], groups=["3", "4"]), [4, 14]),
    ],
)
def test_what_is_given_together_must_all_be_true(plain, choice, rows):
    assert chosen(draft_of(plain).collected.cells, choice).tolist() == rows


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (Choice(), "which cells"),
        (Choice([], [], [], []), "which cells"),  # as the command line says it
        (Choice(ids=[20]), "no reference cell 20"),
        (Choice(classes=["zombie"]), "no class 'zombie'"),
        (Choice(images=["nothing*"]), "no reference cell is meant"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(plain, choice, told):
    with pytest.raises(UsageError, match=told):
        chosen(draft_of(plain).collected.cells, choice)


def test_nothing_may_be_left_empty(plain):
    draft = draft_of(plain)
    with pytest.raises(UsageError, match="no cell in the index"):
        without_cells(draft, np.arange(len(draft.collected)))


def test_tuning_on_other_cells_is_marked(plain):
    draft = replace(draft_of(plain), tuning={"score": 1.0})
    assert without_cells(draft, np.array([0])).tuning == {"of_version": 1, "score": 1.0}


def test_a_picture_that_is_there_under_another_class_is_a_conflict(plain):
    draft = draft_of(plain)
    fresh = draft.collected.rows(np.array([0, 1]))
    wrong = replace(fresh, cells=[replace(fresh.cells[0], class_name="dead"), fresh.cells[1]])
    assert conflicts(draft.collected.cells, wrong, np.array([0, 1])) == [
        "0.png is dead here and live in the index (cell 0)"
    ]
    assert conflicts(draft.collected.cells, wrong, np.array([-1, -1])) == []


def test_add_and_drop_as_a_person_does(lite0, tmp_path, capsys):
    def run(name, *words):
        code = main([str(word) for word in (name, *words, "--out", tmp_path / "indexes", "--json")])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    where = ("--encoders", lite0.parent, "--device", "cpu")
    first, more = write_frames(tmp_path / "first", 4), write_frames(tmp_path / "more", 2, seed=50)
    built = run(
        "build", "assay", "--coco", first, *SCALE, "--encoder", "efficientnet-lite0", "--set-aside", "0", *where
    )
    assert built[0] == 0
    code, added, _ = run("add", "assay", "--coco", more, "--pixel-size", PIXEL_UM, *where)
    assert (code, added["added"], added["cells"], added["kept_as"]) == (0, 12, 36, "assay.v1")
    code, _, err = run("add", "assay", "--coco", more, "--pixel-size", PIXEL_UM, *where)
    assert code == 2
    assert "in the index already" in err
    code, dropped, _ = run("drop", "assay", "--class", "debris", "--dry-run")
    assert (code, dropped["dropped"], dropped["cells"]) == (0, {"debris": 12}, 36)
    code, dropped, _ = run("drop", "assay", "--class", "debris")
    assert (code, dropped["cells"], dropped["dropped_classes"], dropped["kept_as"]) == (0, 24, ["debris"], "assay.v2")
    assert len(open_index(tmp_path / "indexes" / "assay.v1")) == 24


def test_what_was_checked_of_half_precision_stays_known(tmp_path):
    first = open_index(write_plain_index(tmp_path / "indexes" / "half", cells=40, storage="float16"))
    checked = first.manifest["storage_check"]
    assert checked["agreement"] >= 0.995
    second = succeed(first, draft_of(first), "changed")
    assert second.embeddings["one"].dtype == np.float16
    assert second.manifest["storage_check"] == checked


def test_an_index_with_former_versions_is_not_built_over(lite0, tmp_path, capsys):
    words = (
        "--coco",
        write_frames(tmp_path / "frames", 3),
        *SCALE,
        "--encoder",
        "efficientnet-lite0",
        "--set-aside",
        "0",
    )
    where = ("--encoders", lite0.parent, "--device", "cpu", "--out", tmp_path / "indexes", "--json")
    assert main([str(w) for w in ("build", "assay", *words, *where)]) == 0
    built = open_index(tmp_path / "indexes" / "assay")
    newest = succeed(built, draft_of(built), "changed")
    assert main([str(w) for w in ("build", "assay", *words, *where, "--force")]) == 1
    assert "assay.v1" in capsys.readouterr().err
    assert open_index(tmp_path / "indexes" / "assay").sha256 == newest.sha256
