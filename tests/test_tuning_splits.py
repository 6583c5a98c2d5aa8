"""How cells are dealt out: stratified, whole units, the same for the same seed; and who is kept back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import UsageError
from cellvigil_indexes.splitting import dealt, folds, held_out, train_validation, units_of, usual_unit
from cellvigil_indexes.tuning.checking import checked, macro_accuracy
from cellvigil_indexes.tuning.choose import choose
from cellvigil_indexes.tuning.grid import Grid
from cellvigil_indexes.tuning.plan import folds_plan, separate_plan, shares_plan
from tuning_cells import made_up

ONE = Grid((3, 9), (30,), (0.3,), scaling=("none",))


@st.composite
def dealable(draw):
    """Labels and units in which every class has at least 6 units."""
    classes, per_class, largest = draw(st.integers(2, 4)), draw(st.integers(6, 20)), draw(st.sampled_from([1, 1, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    owner_class = np.repeat(np.arange(classes), per_class)
    sizes = rng.integers(1, largest + 1, len(owner_class))
    order = rng.permutation(int(sizes.sum()))
    return np.repeat(owner_class, sizes)[order].astype(np.int16), np.repeat(np.arange(len(sizes)), sizes)[order]


@settings(max_examples=60, deadline=None)
@given(case=dealable(), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_ask_for_every_cell_once_keep_units_whole_and_hold_every_class(case, k, seed):
    labels, units = case
    parts = folds(labels, units, k, seed)
    assert sorted(np.concatenate([p.validation for p in parts]).tolist()) == list(range(len(labels)))
    for part in parts:
        assert sorted([*part.reference.tolist(), *part.validation.tolist()]) == list(range(len(labels)))
        assert not set(units[part.reference]) & set(units[part.validation])
        assert set(labels[part.reference]) == set(labels[part.validation]) == set(labels)
    again = folds(labels, units, k, seed)
    assert [p.validation.tolist() for p in again] == [p.validation.tolist() for p in parts]


@settings(max_examples=60, deadline=None)
@given(case=dealable(), share=st.floats(0.02, 0.5), seed=st.integers(0, 99))
def test_a_validation_side_and_a_test_side_keep_units_whole_and_leave_every_class_its_references(case, share, seed):
    labels, units = case
    split = train_validation(labels, units, share, seed)
    assert not set(units[split.reference]) & set(units[split.validation])
    assert set(labels[split.reference]) == set(labels[split.validation]) == set(labels)
    kept_back = held_out(labels, units, share, seed)
    outside = np.setdiff1d(np.arange(len(labels)), kept_back)
    assert not set(units[outside]) & set(units[kept_back])
    for class_id in np.unique(labels):
        assert len(np.unique(units[outside][labels[outside] == class_id])) >= 2


@pytest.mark.parametrize("largest", [1, 5])
def test_classes_are_dealt_in_their_shares(largest):
    rng = np.random.default_rng(0)
    units = np.sort(rng.integers(0, 3000 // largest, 3000))
    if largest == 1:
        units = np.arange(3000)
    labels = np.array([0, 0, 0, 1, 2])[units % 5].astype(np.int16)
    part = dealt(labels, units, [0.9, 0.09, 0.01], seed=3)
    for class_id in range(3):
        found = np.bincount(part[labels == class_id], minlength=3) / np.count_nonzero(labels == class_id)
        np.testing.assert_allclose(found, [0.9, 0.09, 0.01], atol=0.006)


def test_another_seed_deals_otherwise():
    labels = np.repeat([0, 1], 50).astype(np.int16)
    parts = {tuple(dealt(labels, np.arange(100), [0.8, 0.2], seed).tolist()) for seed in range(5)}
    assert len(parts) == 5


def test_units_are_groups_or_cells():
    groups = np.array([7, 7, 2, 9], dtype=np.int32)
    assert units_of(groups, "group").tolist() == [1, 1, 0, 2]
    assert units_of(groups, "cell").tolist() == [0, 1, 2, 3]
    assert (usual_unit(groups), usual_unit(groups[1:])) == ("group", "cell")
    with pytest.raises(UsageError, match="cannot be split by 'plate'"):
        units_of(groups, "plate")


@pytest.mark.parametrize(
    ("labels", "units", "k", "said"),
    [
        ([0] * 9 + [1] * 3, range(12), 5, "class dead has 3 cells, too few for 5 folds"),
        ([0] * 9 + [1] * 3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9], 2, "class dead has 1 group of cells"),
        ([0, 1], range(2), 1, "1 folds are no folds"),
    ],
)
def test_too_few_to_be_dealt(labels, units, k, said):
    with pytest.raises(UsageError, match=said):
        folds(np.array(labels, dtype=np.int16), np.array(units), k, 0, ("live", "dead"))


def test_a_class_of_one_group_has_no_two_sides():
    labels, units = np.array([0] * 6 + [1] * 3, dtype=np.int16), np.array([0, 0, 1, 1, 2, 2, 3, 3, 3])
    with pytest.raises(UsageError, match=r"class dead has 1 group of cells.*--split-by cell"):
        train_validation(labels, units, 0.2, 0, ("live", "dead"))


def rows_seen(plan):
    """All rows that choices look at, a set for each honest look."""
    common = [{*s.reference.tolist(), *s.validation.tolist()} for s in plan.splits]
    return [
        set().union(*([{*s.reference.tolist(), *s.validation.tolist()} for s in held.choose_on] or common))
        for held in plan.held
    ]


@pytest.mark.parametrize("by", ["cell", "group"])
def test_the_test_share_takes_no_part_in_the_choice(by):
    bank = made_up(600, groups=150)
    plan = shares_plan(bank, by, seeds=3, shares=(0.8, 0.1, 0.1))
    assert len(plan.splits) == 3
    (seen,), (held,) = rows_seen(plan), plan.held
    asked = set(held.score_on.validation.tolist())
    assert len(asked) == pytest.approx(60, abs=12)
    assert not seen & asked
    assert seen | asked == set(range(600))
    assert set(held.score_on.reference.tolist()) == seen
    if by == "group":
        assert not set(bank.groups[list(asked)]) & set(bank.groups[list(seen)])


@pytest.mark.parametrize("by", ["cell", "group"])
def test_nested_folds_choose_for_each_outer_fold_without_it(by):
    bank = made_up(200, 3, groups=60)
    plan = folds_plan(bank, by, seeds=2, k=4)
    assert (len(plan.splits), len(plan.held)) == (8, 4)
    for seen, held in zip(rows_seen(plan), plan.held, strict=True):
        asked = set(held.score_on.validation.tolist())
        assert not seen & asked
        assert seen == set(held.score_on.reference.tolist())
        for inner in held.choose_on:
            units = units_of(bank.groups, by)
            assert not set(units[inner.reference]) & set(units[inner.validation])
    assert sorted(row for held in plan.held for row in held.score_on.validation.tolist()) == list(range(200))


def test_folds_adapt_to_the_smallest_class_unless_told():
    bank = made_up(40)
    smallest = int(bank.class_counts.min())
    assert smallest < 5
    assert folds_plan(bank, "cell", 1).about["folds"] == smallest
    with pytest.raises(UsageError, match=r"class a has .* too few for 5 folds"):
        folds_plan(bank, "cell", 1, 5)


def test_separate_validation_cells_never_answer():
    bank = made_up(200, 3)
    plan = separate_plan(bank, 150, "cell")
    own, others = set(range(150)), set(range(150, 200))
    for split in (*plan.splits, *(held.score_on for held in plan.held)):
        assert set(split.reference.tolist()) == own
        assert set(split.validation.tolist()) <= others
    for held in plan.held:
        assert not set(held.choose_on[0].validation.tolist()) & set(held.score_on.validation.tolist())


def test_the_honest_figure_is_what_the_choice_of_the_rest_scores():
    bank = made_up(120, 3)
    plan = folds_plan(bank, "cell", 1, 3)
    tuned = choose(bank, ONE, plan.splits)
    found = checked(bank, ONE, plan, tuned)
    wanted = []
    for held in plan.held:
        inner = choose(bank, ONE, held.choose_on)
        wanted.append(macro_accuracy(bank, held.score_on, inner.encoders, inner.settings))
    assert list(found.scores) == wanted
    assert found.cells == 120
    assert found.sd == pytest.approx(np.std(wanted, ddof=1))


def test_the_choice_among_noise_looks_better_than_it_is():
    """Nothing to be learned: the best of many trials is above chance where it was chosen, not where it was not."""
    best, honest = [], []
    for seed in range(3):
        bank = made_up(120, 2, (4, 4, 4), seed=seed, apart=0.0)
        plan = folds_plan(bank, "cell", 1, 4)
        tuned = choose(bank, Grid((2, 3, 5), (5, 30), (0.1, 0.5)), plan.splits)
        best.append(tuned.best.mean)
        honest.append(checked(bank, ONE, plan, tuned).mean)
    assert np.mean(best) > 0.53
    assert np.mean(best) > np.mean(honest)
    assert np.mean(honest) == pytest.approx(0.5, abs=0.08)


def test_ctrl_c_while_checking_keeps_the_parts_that_are_done():
    bank = made_up(120, 3)
    plan = folds_plan(bank, "cell", 1, 3)
    tuned = choose(bank, ONE, plan.splits)

    def tell(part):
        if part == 1:
            raise KeyboardInterrupt

    found = checked(bank, ONE, plan, tuned, tell)
    assert (len(found.scores), found.planned) == (1, 3)
    assert found.scores == checked(bank, ONE, plan, tuned).scores[:1]


@pytest.mark.parametrize("shares", [(0.9, 0.2, 0.1), (1.0, 0.0, 0.0), (1.1, 0.1, -0.2)])
def test_shares_that_are_none(shares):
    with pytest.raises(UsageError, match="must add up to 1"):
        shares_plan(made_up(), "cell", 1, shares)
