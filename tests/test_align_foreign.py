"""Cells of a class that the reference lacks: on made domains they end apart, and where none lacks next to none does."""

from __future__ import annotations

import numpy as np
import pytest

from align_gaussians import ENCODERS, bank_of, domain
from cellvigil_indexes.aligning import foreign as rooms
from cellvigil_indexes.aligning.align import AlignSettings, align
from cellvigil_indexes.aligning.foreign import FEWEST, foreign
from cellvigil_indexes.aligning.values import ALIGNED, VoterPlan

pytest.importorskip("ot")
APART = AlignSettings(filter=False, unmatched=True)
OTHERS, LACKS = 60, 35


def voter_of(vectors) -> VoterPlan:
    return VoterPlan("all, aligned, drawn", ENCODERS, ALIGNED, 1.0, "discriminant", vectors)


def at_home(lacks: int | None, seed: int = 0):
    """References without a class, and cells that have it, on the device of the references."""
    references, labels = domain((40, 40, 40, 40), seed, apart=9.0)
    counts = tuple(LACKS if label == lacks else OTHERS for label in range(4))
    cells, truth = domain(counts, seed + 1, apart=9.0)
    known = np.ones(len(labels), dtype=bool) if lacks is None else labels != lacks
    return voter_of({name: block[known] for name, block in references.items()}), cells, truth


def doubted(truth: np.ndarray, label: int | None) -> np.ndarray:
    """Agreement of voters that differ over one class."""
    return np.where(truth == label, 0.6, 0.98)


@pytest.mark.parametrize("lacks", range(4))
def test_a_class_that_lacks_is_found_where_voters_differ_over_it(lacks):
    voter, cells, truth = at_home(lacks)
    found = foreign(cells, doubted(truth, lacks), [voter])
    mine = np.isin(np.arange(len(truth)), found.rows)
    assert mine[truth == lacks].mean() > 0.6
    assert mine[truth != lacks].mean() <= 0.03
    assert len(found.names) == len(found.rows)
    assert {name.split()[0] for name in found.names} == {"unmatched"}
    again = foreign(cells, doubted(truth, lacks), [voter])
    assert np.array_equal(again.rows, found.rows)
    assert again.names == found.names


def test_neither_doubt_nor_distance_alone_is_enough(monkeypatch):
    monkeypatch.setattr(rooms, "FAR", 1e6)
    voter, cells, truth = at_home(3)
    assert not len(foreign(cells, doubted(truth, None), [voter]).rows)
    whole, cells, truth = at_home(None)
    assert np.isin(np.flatnonzero(truth == 3), foreign(cells, doubted(truth, 3), [whole]).rows).mean() < 0.5


def test_nothing_is_found_among_few_cells_or_without_a_voter_that_can_tell():
    voter, cells, truth = at_home(3)
    agreement = doubted(truth, 3)
    assert not len(foreign(cells, agreement, []).rows)
    few = np.linspace(0, len(truth) - 1, FEWEST - 1).astype(np.int64)
    assert not len(foreign({name: block[few] for name, block in cells.items()}, agreement[few], [voter]).rows)


def test_what_seems_foreign_for_the_most_part_is_a_failed_fit(monkeypatch):
    voter, cells, truth = at_home(0)
    assert len(foreign(cells, doubted(truth, 0), [voter]).rows)
    monkeypatch.setattr(rooms, "MOST", 0.05)
    assert not len(foreign(cells, doubted(truth, 0), [voter]).rows)


def test_cells_all_alike_are_no_reason_to_fail():
    cells = {name: np.zeros((FEWEST, 8), dtype=np.float32) for name in ENCODERS}
    references = {name: np.ones((20, 8), dtype=np.float32) for name in ENCODERS}
    assert not len(foreign(cells, np.zeros(FEWEST), [voter_of(references)]).rows)


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_a_fit_of_a_target_that_lacks_no_class_is_hardly_touched(seed):
    bank = bank_of(*domain((30, 30, 30), seed), 3)
    target, truth = domain((60, 50, 40), seed + 1, moved=True)
    assert len(align(bank, target, APART).extra_labels) <= 0.03 * len(truth)


@pytest.mark.parametrize("lacks", [1, 3])
def test_they_become_a_class_of_their_own_only_if_asked_and_are_told_otherwise(lacks):
    vectors, labels = domain((40, 40, 40, 40), 0)
    known, ids = labels != lacks, np.cumsum(np.arange(4) != lacks) - 1
    references = {name: block[known] for name, block in vectors.items()}
    bank = bank_of(references, ids[labels[known]].astype(np.int16), 3)
    target, truth = domain(tuple(LACKS if label == lacks else OTHERS for label in range(4)), 1, moved=True)
    asked = align(bank, target, APART)
    apart = (target["first"][:, None] == asked.extra["first"][None]).all(axis=2).any(axis=1)
    assert apart[truth == lacks].mean() > 0.8
    assert apart[truth != lacks].mean() <= 0.03
    assert np.count_nonzero(apart) == len(asked.extra_labels) == asked.told["foreign_cells"]
    assert not any("no class of the reference" in line for line in asked.told["warnings"])
    silent = align(bank, target, AlignSettings(filter=False))
    assert silent.extra_labels == ()
    assert silent.told["foreign_cells"] == asked.told["foreign_cells"]
    assert any("no class of the reference" in line for line in silent.told["warnings"])
