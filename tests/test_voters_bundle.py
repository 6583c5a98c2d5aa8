"""An aligned index on disk: what comes back, what is refused, and what every command makes of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cellvigil import decide, pipeline
from cellvigil.bundle import files
from cellvigil.bundle.index import check_encoders, open_index, reference_cells
from cellvigil.bundle.index_manifest import SCHEMA_VERSION, WITHOUT_VOTERS
from cellvigil.errors import BundleError, UsageError
from cellvigil.neighbours import open_search
from cellvigil_indexes.aligned import aligned_index, write_aligned
from cellvigil_indexes.cli import main
from index_fixtures import write_singles
from voter_cells import alignment, source, target

COMPARED = ("best_ids", "vote_share", "entropy", "k", "novelty_p", "agreement", "neighbours", "unknown")
ABOUT = {"cells": 500, "fit_cells": 400, "folder": "other_scope"}


@pytest.fixture
def home(tmp_path):
    return source(tmp_path / "indexes" / "home")


@pytest.fixture
def away(home, tmp_path):
    folder = tmp_path / "indexes" / "away"
    fit = alignment(home, extra=4)
    return write_aligned(folder, home, fit, witnesses=target(120, 7), target_provenance=ABOUT)


def called(index, vectors):
    return pipeline.called(vectors, index, open_search(index), decide.Settings.of(index))


@pytest.mark.parametrize("scaling", ["none", "unit", "discriminant"])
def test_what_is_written_calls_as_it_did_in_memory(home, tmp_path, scaling):
    fit, witnesses = alignment(home, extra=4, scaling=scaling), target(120, 7)
    before = called(aligned_index(home, fit, witnesses=witnesses), target(30))
    there = write_aligned(tmp_path / "there", home, fit, witnesses=witnesses)
    after = called(open_index(there.folder), target(30))
    for name in COMPARED:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert np.mean(after.best_ids == np.repeat([0, 1], 30)) > 0.9
    assert after.bundle_sha256 == there.sha256 != home.sha256


def test_it_holds_the_kept_cells_the_target_s_own_and_where_they_came_from(home, away):
    kept = np.flatnonzero(np.isin(home.labels, [1, 2]))
    assert away.classes == ("live", "dead", "unmatched 1")
    assert away.groups == {"live": "alive", "dead": "dead", "unmatched 1": "none"}
    assert away.class_counts.tolist() == [20, 20, 4]
    assert [encoder.name for encoder in away.encoders] == ["one", "two"]
    np.testing.assert_array_equal(away.embeddings["two"][:40], home.embeddings["two"][kept])
    cells = reference_cells(away)
    assert [cell.image for cell in cells[:40]] == [reference_cells(home)[row].image for row in kept]
    assert {(cell.class_name, cell.image, cell.group) for cell in cells[40:]} == {("unmatched 1", "target", "target")}
    assert (away.thumbnails[40:] == 127).all()


def test_a_cell_that_is_like_the_unmatched_ones_is_called_so(away):
    like = {name: block + 30 for name, block in target(5).items()}
    assert [away.classes[best] for best in called(away, like).best_ids[:5]] == ["unmatched 1"] * 5


def test_the_manifest_tells_what_was_aligned_to_what_and_how_sure(home, away):
    told = away.alignment
    assert told["of"] == {"name": "home", "sha256": home.sha256, "version": 1}
    assert told["target"] == ABOUT
    assert (told["accepted"], told["dropped"], told["unmatched"]) == (True, ["gone"], {"unmatched 1": 4})
    assert told["shares"] == {"live": 0.75, "dead": 0.25}
    assert told["told"] == {"method": "by hand", "split_half": 1.0}
    assert away.calibration.measured["novelty"]["witnesses"]["live"] == pytest.approx(120, abs=10)
    assert away.name == "away"


def test_vectors_that_two_voters_share_are_written_once(home, away):
    listed = [name for name in away.manifest["files"] if "embeddings_" in name]
    assert sorted(listed) == [
        "embeddings_one.npy", "embeddings_two.npy", "voters/1/embeddings_one.npy", "voters/2/embeddings_two.npy"
    ]  # fmt: skip


def test_an_index_without_voters_is_written_as_before_and_one_with_them_is_not(home, away):
    assert home.manifest["schema_version"] == WITHOUT_VOTERS < SCHEMA_VERSION == away.manifest["schema_version"]
    assert (home.voters, home.alignment, home.novelty_labels) == ((), None, None)


def rewritten(folder, **changes):
    """The manifest with these keys changed, in place."""
    path = folder / files.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest |= {key: change(manifest[key]) for key, change in changes.items()}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def tampered(folder):
    path = folder / "voters" / "1" / "embeddings_one.npy"
    block = np.load(path)
    block[3, 1] += 1
    np.save(path, block)


def changed(key, value):
    return lambda entries: [{**entries[0], key: value}, *entries[1:]]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (tampered, "voters/1/embeddings_one.npy is not the file"),
        (lambda folder: (folder / "voters/2/embeddings_two.npy").unlink(), "voters/2/embeddings_two.npy is missing"),
        (lambda folder: rewritten(folder, voters=changed("weight", 0.9)), "does not sum to 1"),
        (lambda folder: rewritten(folder, voters=changed("weight", -0.2)), "does not sum to 1"),
        (lambda folder: rewritten(folder, voters=changed("name", "one, aligned")), "two voters have one name"),
        (lambda folder: rewritten(folder, voters=changed("space", "outer")), "space 'outer'"),
        (lambda folder: rewritten(folder, voters=changed("embeddings", {"one": "../home/embeddings_one.npy"})),
         "does not list"),
        (lambda folder: rewritten(folder, voters=changed("encoders", [{"name": "three", "scale": 1}])),
         "lacks or garbles 'three'"),
        (lambda folder: rewritten(folder, voters=changed("embeddings", {"one": "embeddings_two.npy"})),
         "holds float32"),
        (lambda folder: rewritten(folder, voters=lambda entries: [{"name": "x"}]), "lacks or garbles"),
        (lambda folder: rewritten(folder, voters=lambda entries: 3), "lacks or garbles"),
        (lambda folder: rewritten(folder, schema_version=lambda version: version + 1), "update cellvigil"),
    ],
)  # fmt: skip
def test_what_was_changed_does_not_open(away, harm, message):
    harm(away.folder)
    with pytest.raises(BundleError, match=message):
        open_index(away.folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("novelty_labels.npy", np.zeros(3, np.int16), r"novelty.npy holds float32 \(240,\)"),
        ("novelty_labels.npy", np.full(240, 7, np.int16), "cells and labels do not fit"),
        ("voters/1/embeddings_one.npy", np.zeros((44, 2), np.float32), r"\(44, 2\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_though_their_hashes_do(away, name, array, message):
    np.save(away.folder / name, array)
    files.write_manifest(away.folder, {key: value for key, value in away.manifest.items() if key != "files"})
    with pytest.raises(BundleError, match=message):
        open_index(away.folder)


def test_every_voter_s_encoder_must_be_there(away):
    bundles = [Encoded("one", "1" * 64)]
    with pytest.raises(BundleError, match="needs encoder two"):
        check_encoders(away, bundles)
    check_encoders(away, [*bundles, Encoded("two", "2" * 64)])


class Encoded:
    """What an encoder bundle says of itself."""

    def __init__(self, name, sha256):
        self.name, self.sha256 = name, sha256


def with_first(fit, **changes):
    """The alignment with its first voter changed, and no other."""
    return replace(fit, voters=(replace(fit.voters[0], **changes),))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda fit: replace(fit, voters=()), "has no voter"),
        (lambda fit: replace(fit, rows=fit.rows + 1000), "of other cells"),
        (lambda fit: replace(fit, classes=("live",)), "keeps cells of dead but not the class"),
        (lambda fit: replace(fit, extra={"one": fit.extra["one"]}), "no vectors of two"),
        (lambda fit: with_first(fit, weight=0.0), "every weight must be above 0"),
        (lambda fit: with_first(fit, scaling="odd"), "'odd' is not known"),
        (lambda fit: with_first(fit, vectors={"one": fit.voters[0].vectors["one"][:3]}), "vectors of one are"),
        (lambda fit: with_first(fit, vectors={"one": fit.voters[0].vectors["one"] * np.nan}), "not finite"),
        (lambda fit: with_first(fit, encoders=("three",)), "holds no vectors of three"),
        (lambda fit: with_first(fit, vectors={}), "voter one, original has no vectors of one"),
    ],
)  # fmt: skip
def test_an_alignment_that_does_not_fit_is_refused_and_nothing_is_written(home, tmp_path, spoil, message):
    with pytest.raises(UsageError, match=message):
        write_aligned(tmp_path / "there", home, spoil(alignment(home, extra=2)))
    assert not (tmp_path / "there").exists()


def test_weights_that_do_not_sum_to_one_are_made_to(home):
    fit = alignment(home)
    heavier = replace(fit, voters=tuple(replace(plan, weight=plan.weight * 7) for plan in fit.voters))
    assert [v.weight for v in aligned_index(home, heavier).voters] == pytest.approx([0.2, 0.5, 0.3])


def test_an_aligned_index_is_not_aligned_again_nor_written_over_its_original(home, away):
    with pytest.raises(UsageError, match="aligned already") as told:
        aligned_index(away, alignment(home))
    assert "home" in told.value.hint
    with pytest.raises(UsageError, match="never changed in place"):
        write_aligned(home.folder, home, alignment(home), replace=True)
    with pytest.raises(BundleError, match="a bundle of this name"):
        write_aligned(away.folder, home, alignment(home))
    again = write_aligned(away.folder, home, alignment(home), replace=True)
    assert len(again.classes) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("drop", "away", "--cell", "1"),
        ("tune", "away", "--k-min", "3"),
        ("add", "away", "--images", "cells"),
        ("evaluate", "away", "--folds", "2"),
    ],
)
def test_it_is_changed_and_judged_by_its_original(away, tmp_path, capsys, words):
    write_singles(tmp_path / "cells", 2)
    full = [str(tmp_path / "cells") if word == "cells" else word for word in words]
    assert main([*full, "--out", str(away.folder.parent)]) == 2
    said = capsys.readouterr().err
    assert "away was aligned from home" in said
    assert "align it again" in said


def test_build_does_not_replace_it(away, tmp_path, lite0, capsys):
    write_singles(tmp_path / "cells", 2)
    words = ["build", "away", "--images", tmp_path / "cells", "--encoder", lite0.name, "--encoders", lite0.parent]
    assert main([str(word) for word in (*words, "--force", "--out", away.folder.parent)]) == 1
    assert "is an aligned index" in capsys.readouterr().err
    assert open_index(away.folder).sha256 == away.sha256


def test_show_tells_of_voters_classes_and_shares(away, capsys):
    assert main(["show", "away", "--out", str(away.folder.parent)]) == 0
    said = capsys.readouterr().out
    for words in ("aligned from home", "dropped: gone", "unmatched 1 (4 cells)", "live 75%", "one+two, aligned", "50%"):
        assert words in said
    assert main(["show", "away", "--json", "--out", str(away.folder.parent)]) == 0
    assert [voter["weight"] for voter in json.loads(capsys.readouterr().out)["voters"]] == pytest.approx(
        [0.2, 0.5, 0.3]
    )


def test_show_says_when_a_fit_was_not_accepted(home, tmp_path, capsys):
    write_aligned(tmp_path / "indexes" / "doubtful", home, alignment(home, accepted=False))
    assert main(["show", "doubtful", "--out", str(tmp_path / "indexes")]) == 0
    assert "NOT accepted" in capsys.readouterr().out


def test_report_draws_it(away, tmp_path, capsys):
    words = ["report", "away", "--projection", "pca", "--html", tmp_path / "away.html", "--out", away.folder.parent]
    assert main([str(word) for word in words]) == 0
    assert "unmatched 1" in (tmp_path / "away.html").read_text(encoding="utf-8")
    assert "44 of 44 cells" in capsys.readouterr().out
