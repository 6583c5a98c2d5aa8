"""`cellvigil-index tune` from the command line: a new version, its manifest and table; what is refused and kept."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.data import ImageRule
from cellvigil_indexes.calling import search_over
from cellvigil_indexes.cli import main
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.commands import tune
from cellvigil_indexes.draft import Draft, draft_of
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import folds, units_of
from cellvigil_indexes.tuning.bar import Bar
from cellvigil_indexes.tuning.choose import choose
from cellvigil_indexes.tuning.grid import Grid
from cellvigil_indexes.writing import write_index
from index_fixtures import PIXEL_UM, STATES, write_frames
from tuning_cells import made_up

SMALL = ("--k-min", "2,5", "--k-max", "5,40", "--threshold", "0.3", "--seeds", "1")


def write_bank(folder: Path, bank, *, aside=None, **settings) -> Path:
    """An index of a bank's cells, and of cells that were set aside."""

    def collected(part):
        cells = [
            ReferenceCell(part.classes[label], f"{group}.png", (0, 0, 9, 9), str(group))
            for label, group in zip(part.labels, part.groups, strict=True)
        ]
        return Collected(cells, part.embeddings, np.zeros((len(part), 64, 64, 1), dtype=np.uint8))

    draft = Draft(
        collected=collected(bank),
        set_aside=None if aside is None else collected(aside),
        groups=dict.fromkeys(bank.classes, "alive"),
        encoders={name: f"{n:064x}" for n, name in enumerate(bank.embeddings)},
        used=list(bank.embeddings),
        image_rule=ImageRule(),
        settings=IndexSettings(**settings),
        provenance={"made": "up"},
    )
    write_index(folder, draft)
    return folder


@pytest.fixture
def blood(tmp_path):
    """Three encoders: one that tells, one that tells a little, one of loud noise."""
    bank = made_up(120, 3, (6, 6, 6), apart=1.5)
    noise = np.random.default_rng(5).normal(size=(120, 6)).astype(np.float32) * 50
    return write_bank(tmp_path / "blood", replace(bank, embeddings={**bank.embeddings, "e2": noise}), search="exact")


def run(capsys, *args, code=0):
    assert main(["tune", *map(str, args)]) == code
    return capsys.readouterr()


def run_json(capsys, *args):
    return json.loads(run(capsys, *args, "--json").out)


def test_the_choice_becomes_a_new_version_with_its_table(blood, capsys):
    old = open_index(blood)
    result = run_json(capsys, blood, *SMALL)
    new = open_index(blood)
    tuning = result["tuning"]
    best = tuning["best"]
    assert new.manifest["version"] == result["version"] == 2
    assert open_index(blood.with_name("blood.v1")).sha256 == old.sha256
    assert [e.name for e in new.encoders] == best["encoders"]
    assert "e2" in {e.name for e in new.spare_encoders}
    for name in ("k_min", "k_max", "threshold", "metric", "reweight", "scaling"):
        assert new.manifest[name] == best[name]
    assert new.manifest["search_wanted"] == "exact"
    assert new.manifest["tuning"] == tuning
    assert set(new.embeddings) == set(old.embeddings)
    assert tuning["trials"] == tuning["trials_planned"] == 7 * 3 * 4 * 2
    assert len(tuning["runner_ups"]) == 5
    assert tuning["split"] == {"kind": "folds", "by": "cell", "folds": 5, "seeds": 1}
    assert tuning["held_out"]["cells"] == 120
    assert 0.5 < tuning["held_out"]["mean"] <= tuning["validation"]["mean"] + 0.05


def test_the_table_holds_every_trial_and_its_first_row_is_the_choice(blood, capsys, tmp_path):
    tuning = run_json(capsys, blood, *SMALL, "--trials", tmp_path / "t.parquet")["tuning"]
    table = pq.read_table(blood / "trials.parquet")
    assert table.equals(pq.read_table(tmp_path / "t.parquet"))
    rows = table.to_pylist()
    assert len(rows) == tuning["trials"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)
    first = rows[0]
    assert (first["encoders"].split("+"), first["mean"]) == (tuning["best"]["encoders"], tuning["best"]["mean"])
    assert first["mean"] == pytest.approx(np.mean(first["scores"]))
    assert first["sd"] == pytest.approx(np.std(first["scores"], ddof=1))


def test_tuning_again_can_take_a_spare_encoder_up_again(blood, capsys):
    run(capsys, blood, *SMALL, "--encoder", "e2")
    assert [e.name for e in open_index(blood).encoders] == ["e2"]
    assert run_json(capsys, blood, *SMALL)["version"] == 3
    assert {"e0", "e1"} & {e.name for e in open_index(blood).encoders}


def test_the_text_says_which_figure_is_which(blood, capsys):
    text = run(capsys, blood, *SMALL, "--dry-run").out
    assert "optimistic, because the choice was made on these cells" in text
    assert "held out: macro accuracy" in text
    assert "expect this" in text
    assert "nothing was written" in text


def test_a_dry_run_writes_nothing_but_the_table_that_was_asked_for(blood, capsys, tmp_path):
    before = open_index(blood).sha256
    result = run_json(capsys, blood, *SMALL, "--dry-run", "--trials", tmp_path / "t.parquet")
    assert result["version"] is None
    assert open_index(blood).sha256 == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blood", "t.parquet"]


def test_published_shares_where_cells_are_many_or_where_asked(blood, capsys):
    split = run_json(capsys, blood, *SMALL, "--shares", "80/10/10", "--dry-run")["tuning"]
    assert split["split"] == {"kind": "shares", "by": "cell", "shares": [0.8, 0.1, 0.1], "seeds": 1}
    assert split["held_out"]["cells"] == pytest.approx(12, abs=2)
    assert split["validation"]["sd"] is None
    several = run_json(capsys, blood, *SMALL[:-1], "3", "--shares", "80/10/10", "--dry-run")["tuning"]
    assert len(several["validation"]["scores"]) == 3
    assert several["validation"]["sd"] == pytest.approx(np.std(several["validation"]["scores"], ddof=1), abs=1e-5)


def test_groups_are_kept_whole_where_there_are_any(tmp_path, capsys):
    folder = write_bank(tmp_path / "plates", made_up(120, 3, (4,), groups=30))
    assert run_json(capsys, folder, *SMALL, "--dry-run")["tuning"]["split"]["by"] == "group"
    assert run_json(capsys, folder, *SMALL, "--dry-run", "--split-by", "cell")["tuning"]["split"]["by"] == "cell"


def test_cells_set_aside_are_kept_and_never_looked_at(tmp_path, capsys):
    bank, aside = made_up(90, 3, (4, 4)), made_up(30, 3, (4, 4), seed=9)
    with_them = write_bank(tmp_path / "a" / "cells", bank, aside=aside)
    without = write_bank(tmp_path / "b" / "cells", bank)
    found = [run_json(capsys, folder, *SMALL)["tuning"] for folder in (with_them, without)]
    for tuning in found:
        tuning.pop("seconds")
    assert found[0] == found[1]
    after = draft_of(open_index(with_them)).set_aside
    np.testing.assert_array_equal(after.embeddings["e1"], aside.embeddings["e1"])


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_writes_the_best_so_far_and_says_so(blood, capsys, monkeypatch):
    class Pressed(Bar):
        def __call__(self, done, total):
            if done == 9:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tune, "Bar", Pressed)
    text = run(capsys, blood, *SMALL).out
    index = open_index(blood)
    tuning = index.manifest["tuning"]
    assert tuning["interrupted"]
    assert tuning["trials"] == 9 * 8 < tuning["trials_planned"]
    assert f"interrupted: {9 * 8} of {7 * 3 * 8} trials were scored" in text
    assert "trials were scored, compared on 1 of 5 splits" in text
    assert (tuning["validation"]["splits"], tuning["validation"]["splits_planned"]) == (1, 5)
    assert len(tuning["validation"]["scores"]) == 1, "and no NaN, which is no JSON"
    assert tuning["validation"]["sd"] is None
    assert "held out: no figure, it was interrupted" in text
    assert pq.read_table(index.folder / "trials.parquet").num_rows == 72


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--k-min", "9", "--k-max", "5"), "no k_min"),
        (("--k-min", "three"), "no list such as 3,10"),
        (("--metric", "cosine"), "none of l2, canberra"),
        (("--metric", "canberra", "--scale", "discriminant"), "discriminant axes have no Canberra distance"),
        (("--reweight", "maybe"), "none of on, off"),
        (("--threshold", "2"), "threshold 2.0 must lie between 0 and 1"),
        (("--folds", "1"), "1 folds are no folds"),
        (("--folds", "60"), "too few for 60 folds"),
        (("--seeds", "0"), "--seeds must be 1 or more"),
        (("--shares", "90/20/1"), "must add up to 1"),
        (("--shares", "90"), "not of the form 90/9/1"),
        (("--encoder", "e9"), "no vectors of encoder e9"),
        (("--images", "x", "--folds", "3"), "other cells are the validation cells"),
    ],
)
def test_what_is_refused_leaves_the_index_alone(blood, capsys, args, said):
    assert said in run(capsys, blood, *args, code=2).err
    assert not blood.with_name("blood.v1").exists()


def test_one_class_is_refused(tmp_path, capsys):
    bank = made_up(30, 2, (4,))
    one = replace(bank.rows(np.flatnonzero(bank.labels == 1)))
    folder = write_bank(tmp_path / "one", replace(one, classes=("b",), labels=np.zeros(len(one), dtype=np.int16)))
    assert "the cells are all of class b" in run(capsys, folder, code=2).err


def test_the_written_index_is_searched_as_the_choice_says(blood, capsys):
    run(capsys, blood, *SMALL, "--scale", "unit", "--metric", "l2")
    index = open_index(blood)
    draft = draft_of(index)
    search = search_over(draft.collected.bank(draft.classes), draft.settings, draft.used)
    assert [e.name for e in index.encoders] == list(search.names)
    assert [e.scale for e in index.encoders] == pytest.approx(list(search.scales))
    assert all(e.scale != 1 for e in index.encoders)


def test_other_labelled_cells_can_be_the_validation_cells(lite0, tmp_path, capsys):
    """Built from some frames by the real encoder, tuned on others; a class that the index lacks is counted."""
    own, others = write_frames(tmp_path / "own", 6), write_frames(tmp_path / "others", 5, seed=50)
    content = json.loads(others.read_text())
    content["annotations"][0]["category_id"] = len(STATES) + 1  # mitotic
    others.write_text(json.dumps(content))
    places = ("--encoders", lite0.parent, "--device", "cpu", "--json")
    scale = ("--pixel-size", PIXEL_UM)
    folder = tmp_path / "frames"
    build = ("build", folder, "--coco", own, *scale, "--crop-um", 20, "--encoder", lite0.name, "--set-aside", 0)
    assert main([str(word) for word in (*build, *places)]) == 0
    capsys.readouterr()
    tuning = run_json(capsys, folder, "--coco", others, *scale, *places[:-1], *SMALL)["tuning"]
    assert tuning["split"]["kind"] == "separate"
    assert tuning["split"]["cells"]["annotations"] == "labels.json"
    assert tuning["validation"]["how"] == "29 cells that are not in the index"
    assert tuning["validation"]["mean"] > 0.9
    assert tuning["held_out"]["cells"] == 29
    assert "1 cells of mitotic were left out: the index lacks that class" in tuning["notes"]
    assert len(open_index(folder)) == 36
    notes = run_json(capsys, folder, "--coco", own, *scale, *places[:-1], *SMALL, "--dry-run")["tuning"]["notes"]
    assert "36 of the validation cells are in the index themselves: the figures flatter" in notes


class Terminal:
    """A stream that says whether it is a terminal, and keeps what is printed."""

    def __init__(self, tty):
        self.tty, self.text = tty, ""

    def isatty(self):
        return self.tty

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize(
    ("tty", "wanted"),
    [
        (
            True,
            ["\rchoosing [######..................] 1/4, 3 min 00 s left", "\rchoosing [########################] 4/4"],
        ),
        (False, ["choosing: 1 of 4, 3 min 00 s left\n", "choosing: 4 of 4, in 4 min 00 s\n"]),
    ],
)
def test_time_left_is_told_as_a_bar_or_as_lines(tty, wanted):
    now = iter([0.0, 60.0, 60.1, 120.0, 240.0])
    stream = Terminal(tty)
    bar = Bar("choosing", stream, clock=lambda: next(now))
    for done in (1, 1, 2, 4):
        bar(done, 4)
    assert all(line in stream.text for line in wanted)
    assert stream.text.count("1/4" if tty else "1 of 4") == 1


def test_choose_is_told_of_every_step():
    told = []
    bank = made_up(40, 2, (3, 3))
    splits = folds(bank.labels, units_of(bank.groups, "cell"), 2, 0)
    choose(bank, Grid((3,), (9,), (0.3,)), splits, lambda done, total: told.append((done, total)))
    assert told == [(step, 18) for step in range(1, 19)]
