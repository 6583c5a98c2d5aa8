"""The quick search against the slow, obvious one; its rule, its limits, its interruption."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil import decide
from cellvigil.data import frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import Split, folds, units_of
from cellvigil_indexes.tuning.choose import choose
from cellvigil_indexes.tuning.grid import Grid, power_set
from cellvigil_indexes.tuning.limits import edges
from cellvigil_indexes.tuning.tables import squared_l2
from cellvigil_indexes.tuning.voting import cuts_of
from tuning_cells import made_up, slow_choice

SMALL = Grid(k_min=(2, 5), k_max=(5, 40), threshold=(0.2, 0.6))


def split_in(bank, k=3, seed=0):
    return folds(bank.labels, units_of(bank.groups, "cell"), k, seed, bank.classes)


SMALLER = replace(SMALL, threshold=(0.4,))
TWO = {"cells": 70, "dimensions": (4, 6)}


@pytest.mark.parametrize(
    ("cells", "grid", "splits"),
    [
        pytest.param({"cells": 80}, SMALLER, 1, id="three encoders"),
        pytest.param(TWO, SMALL, 2, id="two splits"),
        pytest.param({**TWO, "classes": 2}, SMALLER, 1, id="two classes"),
        pytest.param({**TWO, "whole": True}, SMALL, 1, id="many equal distances"),
        pytest.param({**TWO, "twins": 30}, SMALL, 1, id="cells twice"),
        pytest.param({"dimensions": (6,)}, SMALL, 1, id="one encoder"),
        pytest.param(TWO, Grid((3, 33), (100, 1000), (0.1,)), 1, id="k above the size"),
        pytest.param(TWO, replace(SMALLER, metric=("canberra", "l2")), 1, id="canberra"),
        pytest.param({**TWO, "apart": 4.0}, SMALLER, 1, id="every trial is right"),
    ],
)
def test_every_trial_scores_as_an_index_built_for_it_would(cells, grid, splits):
    bank = made_up(**cells)
    asked = split_in(bank, 2)[:splits]
    tuned = choose(bank, grid, asked)
    (subset, chosen), scores = slow_choice(bank, grid, asked)
    assert {(t.encoders, t.settings): list(t.scores) for t in tuned.trials} == scores
    assert (tuned.encoders, tuned.settings) == (subset, chosen)
    assert tuned.planned == len(tuned.trials) == len(scores)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 5),
    cells=st.integers(20, 60),
    twins=st.integers(0, 10),
    whole=st.booleans(),
    reweight=st.booleans(),
    k_min=st.integers(2, 9),
    threshold=st.sampled_from([0.0, 0.198, 0.5, 1.0]),
)
def test_the_choice_is_the_slow_one(seed, classes, cells, twins, whole, reweight, k_min, threshold):
    bank = made_up(cells, classes, (3, 4), seed=seed, twins=twins, whole=whole)
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.permutation(cells)[: cells // 3])
    split = Split(np.setdiff1d(np.arange(cells), asked), asked)
    grid = Grid((k_min,), (k_min, 25), (threshold,), reweight=(reweight,))
    tuned = choose(bank, grid, [split])
    best, scores = slow_choice(bank, grid, [split])
    assert (tuned.encoders, tuned.settings) == best
    assert {(t.encoders, t.settings): list(t.scores) for t in tuned.trials} == scores


def test_half_precision_and_read_only_vectors_are_searched_as_they_are():
    bank = made_up()
    half = replace(bank, embeddings={n: frozen_array(b.astype(np.float16)) for n, b in bank.embeddings.items()})
    wide = replace(bank, embeddings={n: b.astype(np.float32) for n, b in half.embeddings.items()})
    splits = split_in(bank)
    assert choose(half, SMALL, splits).trials == choose(wide, SMALL, splits).trials


def test_tables_hold_what_pairs_say():
    rng = np.random.default_rng(1)
    queries, references = (rng.normal(size=(n, 301)).astype(np.float32) for n in (7, 1000))
    with ThreadPoolExecutor(2) as threads:
        table = squared_l2(queries, references, threads)
        twice = squared_l2(queries, np.concatenate([references, references]), threads)
    wanted = ((queries[:, None].astype(np.float64) - references[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(table, wanted, rtol=1e-5)
    np.testing.assert_array_equal(twice, np.hstack([table, table]))


def test_more_encoders_than_can_be_tried_exhaustively_are_searched_both_ways():
    """Nine encoders: one tells the classes apart in half of the cells, one in the others, seven are noise."""
    rng = np.random.default_rng(0)
    bank = made_up(240, 2, tuple([6] * 9), apart=0.0)
    labels = bank.labels.astype(int)
    blocks = dict(bank.embeddings)
    half = rng.random(240) < 0.5
    for name, seen in (("e3", half), ("e7", ~half)):
        blocks[name] = blocks[name] + 6 * blocks[name].std() * (labels * seen)[:, None].astype(np.float32)
    bank = replace(bank, embeddings=blocks)
    grid = Grid((5,), (20,), (0.3,), scaling=("none",))
    tuned = choose(bank, grid, split_in(bank))
    assert tuned.how == "greedy"
    assert {"e3", "e7"} <= set(tuned.encoders)
    assert len(tuned.trials) < 2**9 - 1
    again = choose(bank, grid, split_in(bank), room=3 * 240 * 240 * 4)  # hardly any table is kept
    assert again.trials == tuned.trials
    whole = choose(bank, grid, split_in(bank), exhaustive=9)
    assert whole.how == "exhaustive"
    assert whole.best.mean >= tuned.best.mean
    scored = {(t.encoders, t.settings): t.scores for t in whole.trials}
    assert all(scored[t.encoders, t.settings] == t.scores for t in tuned.trials)


def stopping_after(steps):
    def tell(done, total):
        if done == steps:
            os.kill(os.getpid(), signal.SIGINT)

    return tell


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("steps", "splits_done"), [(5, 1), (3 * 7, 1), (3 * 7 + 3, 1), (6 * 7 + 9, 2)])
def test_ctrl_c_keeps_the_best_so_far(steps, splits_done):
    bank = made_up()
    splits = split_in(bank)
    tuned = choose(bank, SMALL, splits, stopping_after(steps))
    assert tuned.interrupted
    assert tuned.splits == splits_done
    whole = choose(bank, SMALL, splits[:splits_done])
    scored = {(t.encoders, t.settings): t.scores for t in whole.trials}
    assert all(scored[t.encoders, t.settings] == t.scores[:splits_done] for t in tuned.trials)
    assert len(tuned.trials) == min(steps * len(SMALL.votes), len(whole.trials))
    if len(tuned.trials) == len(whole.trials):
        assert (tuned.encoders, tuned.settings) == (whole.encoders, whole.settings)
    else:
        assert tuned.best.scores[0] == max(scored[t.encoders, t.settings][0] for t in tuned.trials)
        assert tuned.planned == len(whole.trials)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_greedy_search_leaves_the_round_out_that_it_cut_off():
    bank = made_up(dimensions=(4, 4, 4, 4))
    grid = Grid((5,), (20,), (0.3,), reweight=(True,), scaling=("none",))
    splits = split_in(bank)
    first_round = len(bank.embeddings) * len(splits)
    tuned = choose(bank, grid, splits, stopping_after(first_round + 2), exhaustive=2)
    assert tuned.interrupted
    assert {len(t.encoders) for t in tuned.trials} == {1}


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_before_anything_was_scored_is_no_result():
    bank = made_up()

    class Pressed(dict):
        def __getitem__(self, name):
            os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(name)

    with pytest.raises(KeyboardInterrupt):
        choose(replace(bank, embeddings=Pressed(bank.embeddings)), SMALL, split_in(bank))


def with_vector(bank, value):
    block = np.array(bank.embeddings["e1"])
    block[17, 2] = value
    return replace(bank, embeddings={**bank.embeddings, "e1": block})


@pytest.mark.parametrize(
    ("bank", "said"),
    [
        (replace(made_up(), labels=np.zeros(120, dtype=np.int16)), "all of class a"),
        (with_vector(made_up(), np.nan), "e1 has vectors that are not finite, first that of cell 17"),
        (with_vector(made_up(), np.inf), "e1 has vectors that are not finite, first that of cell 17"),
        (replace(made_up(), embeddings={}), "no encoders"),
    ],
)
def test_cells_that_nothing_can_be_chosen_by(bank, said):
    with pytest.raises(UsageError, match=said):
        choose(bank, SMALL, split_in(made_up()))


@pytest.mark.parametrize(
    "values",
    [
        {"k_min": ()},
        {"k_min": (200,), "k_max": (100,)},
        {"k_min": (1,)},
        {"threshold": (0.1, 1.5)},
        {"metric": ("cosine",)},
        {"scaling": ("none", "none")},
    ],
)
def test_a_grid_that_makes_no_sense(values):
    with pytest.raises(UsageError):
        Grid(**values)


def test_no_split_and_an_empty_side_are_refused():
    bank = made_up()
    with pytest.raises(UsageError, match="nothing to validate on"):
        choose(bank, SMALL, [])
    with pytest.raises(UsageError, match="no validation cells"):
        choose(bank, SMALL, [Split(np.arange(50), np.arange(0))])


def test_depths_above_the_size_and_thin_classes_are_told():
    bank = made_up(60)
    notes = choose(bank, Grid(k_min=(3, 33), k_max=(100, 1000)), split_in(bank)).notes
    assert "k of 100, 1000 is above the 39 reference cells: all of them were asked" in notes
    assert any(note.startswith("class a has") and "fewer than k_min" in note for note in notes)


def test_validation_cells_beyond_the_room_are_left_out_by_class_and_told():
    bank = made_up()
    splits = split_in(bank)
    room = 3 * 4 * len(splits[0].reference) * 20
    tuned = choose(bank, SMALL, splits, room=room)
    assert any("of 120 validation cells were scored" in note for note in tuned.notes)
    assert tuned.trials == choose(bank, SMALL, splits, room=room).trials
    with pytest.raises(UsageError, match="do not fit"):
        choose(bank, SMALL, splits, room=room // 10)


def test_a_grid_covers_the_published_settings():
    every = {(v.k_min, v.k_max, v.threshold, v.reweight) for v in Grid().votes}
    published = {(3, 1000, 0.3, True), (3, 100, 0.6, True), (10, 1000, 0.1, True), (20, 1000, 0.2, True)}
    assert published | {(33, 1000, 0.2, False)} <= every
    assert len(power_set("abcdef")) == 63
    assert all(isinstance(Grid().settings(("l2", "none"), vote), IndexSettings) for vote in Grid().votes)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"k_min": 10, "k_max": 100, "threshold": 0.6}, ["k_max 100 is the smallest", "threshold 0.6 is the largest"]),
        ({"k_min": 3, "k_max": 300, "threshold": 0.3}, ["k_min 3 is the smallest"]),
        ({"k_min": 10, "k_max": 300, "threshold": 0.2}, []),
    ],
)
def test_a_choice_at_the_edge_of_the_grid_is_told(chosen, said):
    notes = edges(Grid(k_max=(100, 300, 1000)), IndexSettings(**chosen))
    assert [note.partition(" that")[0] for note in notes] == said


def test_cuts_hold_every_depth_a_trial_may_stop_at():
    votes = Grid().votes
    cuts = cuts_of(votes, 500)
    assert cuts[-1] == 500
    assert all(set(decide.depths(vote, 500)) <= set(cuts) for vote in votes)
