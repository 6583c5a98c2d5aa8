"""`evaluate`: splits, folds, withheld classes and targets, on indexes of vectors that no encoder made."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.data import ImageRule
from cellvigil.decide import Rejection
from cellvigil.errors import UsageError
from cellvigil_indexes import baselines
from cellvigil_indexes.baselines import BASELINES
from cellvigil_indexes.cli import main
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.evaluating.answers import answers_of, certainty, joined, plain_scores
from cellvigil_indexes.evaluating.certifying import Caller, certified
from cellvigil_indexes.evaluating.evaluate import summary
from cellvigil_indexes.evaluating.holdout import dealt, plain_calls, split_in_folds, split_once, vectors_of
from cellvigil_indexes.evaluating.parts import call, part_of, rows_of
from cellvigil_indexes.evaluating.told_evaluation import told_target
from cellvigil_indexes.evaluating.withheld import withheld
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index
from index_fixtures import write_plain_index

CLASSES = ("round", "flat", "spread")


def draft(each=60, seed=0, apart=3.0, groups=30, aside=0, **settings):
    """Three clouds by two encoders of unlike size, of which the third lies far from the others."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(CLASSES) * (each + aside)) % len(CLASSES)
    centres = np.zeros((3, 6))
    centres[1, 0], centres[2, 1] = apart, 4 * apart
    vectors = (centres[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32)
    cells = [ReferenceCell(CLASSES[c], f"{i}.png", (0, 0, 9, 9), str(i % groups)) for i, c in enumerate(labels)]
    blocks = {"small": vectors[:, :3].copy(), "large": 7 * vectors[:, 3:]}
    pictures = rng.integers(0, 255, (len(labels), 64, 64, 1), dtype=np.uint8)
    everything = Collected(cells, blocks, pictures)
    kept = np.arange(len(labels)) < len(CLASSES) * each
    return Draft(
        collected=everything.rows(np.flatnonzero(kept)),
        set_aside=everything.rows(np.flatnonzero(~kept)) if aside else None,
        groups=dict.fromkeys(CLASSES, "none"),
        encoders={"small": "0" * 64, "large": "1" * 64},
        used=["small", "large"],
        image_rule=ImageRule(),
        settings=IndexSettings(**{"k_max": 30, "scaling": "unit", **settings}),
        provenance={},
    )


@pytest.fixture
def index(tmp_path):
    write_index(tmp_path / "clouds", draft())
    return open_index(tmp_path / "clouds")


def run(tmp_path, capsys, *words):
    code = main(["evaluate", *(str(word) for word in words), "--out", str(tmp_path), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_a_part_is_the_index_that_would_have_been_built_of_these_cells_alone(index, tmp_path):
    rows = np.flatnonzero(np.arange(len(index)) % 4 != 0)
    alone = replace(draft(), collected=draft().collected.rows(rows))
    write_index(tmp_path / "alone", alone)
    built, part = open_index(tmp_path / "alone"), part_of(index, rows)
    assert [e.scale for e in part.encoders] == pytest.approx([e.scale for e in built.encoders])
    np.testing.assert_allclose(part.novelty, built.novelty, rtol=1e-5)
    queries = rows_of(index, np.arange(0, len(index), 4))
    mine, theirs = call(part, queries), call(replace(built, calibration=None), queries)
    for name in ("best_ids", "k", "vote_share", "entropy", "novelty_p"):
        np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-5, err_msg=name)


def test_every_cell_is_called_once_a_seed_and_never_by_itself_or_its_group(index):
    seen = []

    def watched(whole, rows, seed):
        seen.append((rows, seed))
        return Caller(part_of(whole, rows), None)

    deals = split_in_folds(index, k=4, by="group", seeds=2)
    found = dealt(index, deals, {}, watched)
    assert [seed for _, seed in seen] == [0] * 4 + [1] * 4
    for deal, splits in zip(found, deals, strict=True):
        assert sorted(deal.rows.tolist()) == list(range(len(index)))
        np.testing.assert_array_equal(deal.answers.truth, index.labels[deal.rows])
        for split in splits:
            assert not set(index.cell_groups[split.reference]) & set(index.cell_groups[split.validation])
    assert len(found[0].answers) == len(index)


def test_a_cell_that_is_only_like_itself_is_not_called_by_itself(tmp_path):
    """Labels at random: whoever saw the cells would be right, whoever did not is right by chance."""
    random = draft(each=40, apart=0.0)
    write_index(tmp_path / "random", random)
    index = open_index(tmp_path / "random")
    (deal,) = dealt(index, split_in_folds(index, k=5, by="cell", seeds=1), baselines.named("all"))
    found = summary([deal], index.classes)
    assert 0.15 < found["balanced_accuracy"] < 0.55
    for name, scores in found["baselines"].items():
        assert 0.15 < scores["balanced_accuracy"] < 0.55, name


def test_baselines_see_the_indexs_own_distances(index):
    rows, asked = np.arange(100), np.arange(100, 180)
    fit, queries = vectors_of(index, rows, rows_of(index, asked))
    part = part_of(index, rows)
    nearest = call(part, rows_of(index, asked)).neighbours[:, 0]
    table = ((queries[:, None] - fit[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(table.argmin(axis=1), nearest)


def test_certainty_is_fitted_anew_in_every_fold(index):
    (deal,) = dealt(index, split_in_folds(index, k=3, by="cell", seeds=1), {}, certified)
    sure = certainty(deal.answers, index.classes)
    assert sure.reliability.n == len(index)
    assert sure.reliability.error < 0.1
    assert sure.probability.auroc > 0.6
    assert sure.conformal.n == len(index)
    assert sure.conformal.covered > 0.8
    (bare,) = dealt(index, split_in_folds(index, k=3, by="cell", seeds=1), {})
    plain = certainty(bare.answers, index.classes)
    assert (plain.reliability, plain.probability, plain.conformal) == (None, None, None)
    np.testing.assert_array_equal(bare.answers.best, deal.answers.best)


def test_novel_cells_are_unknown_on_the_own_device_only(tmp_path):
    write_index(tmp_path / "clouds", draft(each=120))  # fewer than 99 cells of a class cannot give a p-value below 0.01
    index = open_index(tmp_path / "clouds")
    far = {name: block + 100 for name, block in rows_of(index, np.arange(5)).items()}
    caller = certified(index, np.arange(len(index)), 0).index
    assert call(caller, far, Rejection(same_device=True)).unknown.all()
    assert not call(caller, far).unknown.any()


def test_parts_of_answers_are_joined_in_order(index):
    caller = certified(index, np.arange(100), 0)
    parts = []
    for rows in (np.arange(100, 120), np.arange(120, 180)):
        calls = call(caller.index, rows_of(index, rows))
        parts.append(answers_of(calls, index.labels[rows], None))
    whole = joined(parts)
    calls = call(caller.index, rows_of(index, np.arange(100, 180)))
    np.testing.assert_array_equal(whole.best, calls.best_ids)
    np.testing.assert_allclose(whole.papers, 1 - calls.entropy)
    assert whole.sets is None


def test_a_class_far_from_the_others_is_seen_to_be_new_when_it_is_withheld(index):
    splits = split_in_folds(index, k=3, by="cell", seeds=1)[0]
    found = withheld(index, splits)
    assert list(found) == list(CLASSES)
    assert found["spread"].auroc > 0.99
    assert found["spread"].unknown > 0.9
    assert found["spread"].known_unknown < 0.15
    assert (found["spread"].n, found["spread"].known) == (60, 120)
    assert "spread" not in found["spread"].called_as
    assert sum(found["spread"].called_as.values()) == 60
    assert found["round"].auroc < found["spread"].auroc


def test_folds_on_the_command_line(tmp_path, capsys):
    write_index(tmp_path / "clouds", draft(aside=20))
    words = ("clouds", "--folds", 3, "--seeds", 2, "--withhold")
    code, found, said = run(tmp_path, capsys, *words)
    assert code == 0, said
    assert (found["n"], found["held_out"], found["cells"], found["folds"]) == (180, 180, 180, 3)
    assert set(found["baselines"]) == set(BASELINES)
    assert found["balanced_accuracy"] > 0.85 > found["baselines"]["majority"]["balanced_accuracy"]
    assert len(found["runs"]) == 2
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 360
    assert found["per_class"]["flat"]["n"] == 60
    assert found["calibration_error"] < 0.1
    assert found["certainty"]["conformal"]["n"] == 180
    assert found["certainty"]["seeds"]["covered"]["mean"] > 0.8
    assert found["withheld"]["spread"]["auroc"] > 0.9
    assert ["--split-by group" in text for text in found["warnings"]] == [True]
    assert main(["evaluate", *map(str, words), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for part in ("in 3 folds", "NMTune", "papers' C", "first of 2 seeds", "classes a set", "withheld", "+-"):
        assert part in text


def test_a_target_is_told_with_its_baselines_and_certainties(index):
    rows, asked = np.arange(120), np.arange(120, 180)
    caller, queries = certified(index, rows, 0), rows_of(index, asked)
    answers = answers_of(call(caller.index, queries), index.labels[asked], call(caller.sets, queries).conformal_set)
    plain = plain_scores(answers.truth, plain_calls(index, rows, queries, baselines.named("5-NN")), index.classes)
    sure = certainty(answers, index.classes)
    about = {"index": "clouds", "crop_rule": "none", "median_k": 3, "not_in_index": {}, "warnings": ["look out"]}
    text = told_target(
        {
            **about,
            **answers.scores(index.classes).as_dict(),
            "baselines": {name: scores.as_dict() for name, scores in plain.items()},
            "calibration_error": sure.reliability.error,
            "certainty": sure.as_dict(),
        }
    )
    for part in ("on 60 cells", "5-NN", "balanced_accuracy", "conformal sets hold", "warning: look out"):
        assert part in text


def test_the_same_seed_gives_the_same_figures(tmp_path, capsys):
    write_index(tmp_path / "clouds", draft(each=20, apart=1.5))
    words = ("clouds", "--split", "0.3", "--seeds", 2)
    assert run(tmp_path, capsys, *words)[1] == run(tmp_path, capsys, *words)[1]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--baselines", "none"), set()),
        (("--baselines", "1-nn,nmtune"), {"1-NN", "NMTune"}),
        ((), {"1-NN", "5-NN", "20-NN", "k-NN", "linear probe", "NMTune", "majority"}),
    ],
)
def test_baselines_are_chosen(tmp_path, capsys, words, names):
    write_plain_index(tmp_path / "plain", cells=60)
    code, found, _ = run(tmp_path, capsys, "plain", "--split", "0.2", "--seeds", 1, *words)
    assert code == 0
    assert set(found["baselines"]) == names


def test_what_an_index_cannot_have_is_said_to_be_absent(tmp_path, capsys):
    write_plain_index(tmp_path / "plain", cells=20)
    code, found, _ = run(tmp_path, capsys, "plain", "--split", "0.2", "--seeds", 1, "--withhold")
    assert code == 0
    assert found["calibration_error"] is None
    assert found["certainty"]["reliability"] is None
    assert found["certainty"]["conformal"] is None
    assert found["withheld"] == {}
    assert main(["evaluate", "plain", "--split", "0.2", "--seeds", "1", "--out", str(tmp_path), "--withhold"]) == 0
    text = capsys.readouterr().out
    for part in ("no calibrated probability", "no conformal sets", "fewer than three classes"):
        assert part in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "0.2", "--folds", "3"), "just one of them"),
        ((), "--folds"),
        (("--folds", "1"), "no folds"),
        (("--folds", "40"), "too few for 40 folds"),
        (("--folds", "3", "--seeds", "0"), "--seeds"),
        (("--folds", "3", "--baselines", "svm"), "no baseline 'svm'"),
        (("--images", "cells", "--withhold"), "--split or --folds"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, capsys, words, message):
    write_plain_index(tmp_path / "plain", cells=20)
    code, found, said = run(tmp_path, capsys, "plain", *words)
    assert (code, found) == (2, None)
    assert message in said


def test_the_probe_is_left_out_with_a_word_where_scikit_learn_is_missing(monkeypatch):
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    chosen, notes = baselines.usual(100)
    assert "linear probe" not in chosen
    assert any("cellvigil[index]" in note for note in notes)


def test_slow_methods_are_left_out_of_large_indexes_unless_asked_for():
    chosen, notes = baselines.usual(450_000)
    assert set(chosen) == {"1-NN", "5-NN", "20-NN", "majority"}
    assert len(notes) == 3


def test_the_probe_says_what_to_install_when_it_is_asked_for(tmp_path, capsys, monkeypatch):
    write_plain_index(tmp_path / "plain", cells=20)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    code, _, said = run(tmp_path, capsys, "plain", "--split", "0.2", "--baselines", "linear-probe")
    assert code == 2
    assert "pip install 'cellvigil[index]'" in said


def test_too_large_groups_cannot_be_split(index):
    one = replace(index, cell_groups=np.zeros(len(index), dtype=np.int32))
    with pytest.raises(UsageError, match="cannot be split so"):
        split_once(one, share=0.2, by="group", seeds=1)
