"""Half precision: what it changes, when it is refused, and what an index then holds."""

from __future__ import annotations

import numpy as np
import pytest

from cellvigil.bundle.index import open_index
from cellvigil.errors import UsageError
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.searching import halving
from cellvigil_indexes.searching.halving import Agreement, agreement, checked, halved, stored
from cellvigil_indexes.settings import IndexSettings
from index_fixtures import write_plain_index


def bank_of(cells=300, *, offset=0.0, group_of=10, seed=0):
    """Two states that overlap a little, far from the origin by `offset`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, cells).astype(np.int16)
    block = (rng.normal(size=(cells, 8)) + 1.5 * labels[:, None] + offset).astype(np.float32)
    return Bank(("a", "b"), {"one": block}, labels, (np.arange(cells) // group_of).astype(np.int32))


def by_hand(bank, settings, rows):
    """The calls of these cells by those of other groups, one cell at a time, and the same in half precision."""
    calls = []
    for block in (bank.embeddings["one"], bank.embeddings["one"].astype(np.float16)):
        for row in rows:
            others = np.flatnonzero(bank.groups != bank.groups[row])
            rest = Bank(bank.classes, {"one": block[others]}, bank.labels[others], bank.groups[others])
            calls.append(int(ewc(rest, {"one": block[row : row + 1].astype(np.float32)}, settings).best[0]))
    return np.mean(np.array(calls[: len(rows)]) == np.array(calls[len(rows) :]))


@pytest.mark.parametrize("offset", [0.0, 1500.0])
def test_the_share_of_calls_that_stay(offset):
    bank, settings = bank_of(100, offset=offset), IndexSettings(k_max=20, reweight=False)
    found = agreement(bank, halved(bank.embeddings), settings)
    assert (found.cells, found.left_out) == (100, "group")
    assert found.agreement == pytest.approx(by_hand(bank, settings, range(100)))
    assert (found.agreement >= 0.995) == (offset == 0.0)  # far from the origin, half precision sees steps of 1


def test_many_cells_are_sampled_the_same_way_every_time(monkeypatch):
    monkeypatch.setattr(halving, "ASKED_AT_MOST", 100)
    bank = bank_of(offset=1500.0)
    first, again = (agreement(bank, halved(bank.embeddings), IndexSettings(k_max=20)) for _ in range(2))
    assert first == again
    assert first.cells == 100
    assert 0 < first.agreement < 1


def test_a_single_group_leaves_out_each_cell_itself():
    bank = bank_of(40, group_of=40)
    assert agreement(bank, halved(bank.embeddings), IndexSettings()).left_out == "cell"


def test_only_the_encoders_in_use_count():
    bank = bank_of()
    ruined = bank_of(offset=1500.0).embeddings["one"]
    both = Bank(bank.classes, {"one": bank.embeddings["one"], "two": ruined}, bank.labels, bank.groups)
    halves = halved(both.embeddings)
    alone = agreement(both, halves, IndexSettings(), ["one"])
    assert alone == agreement(bank, halved(bank.embeddings), IndexSettings())
    assert alone.agreement > agreement(both, halves, IndexSettings(), ["two"]).agreement


def test_too_few_cells_to_try():
    bank = bank_of(3)
    with pytest.raises(UsageError, match="too few"):
        agreement(bank, halved(bank.embeddings), IndexSettings(k_min=3))


@pytest.mark.parametrize(("value", "fits"), [(65_504.0, True), (65_519.0, False), (-70_000.0, False), (0.0, True)])
def test_values_beyond_half_precision_are_refused(value, fits):
    block = np.zeros((70_000, 1), dtype=np.float32)
    block[69_000] = value
    if fits:
        half = halved({"one": block})["one"]
        assert (half.dtype, half[69_000, 0]) == (np.float16, value)
    else:
        with pytest.raises(UsageError, match=r"one.*65504"):
            halved({"one": block})


def test_too_little_agreement_is_refused_unless_forced():
    found = Agreement(0.994, 500, "group")
    with pytest.raises(UsageError, match=r"99\.40 % of 500 cells"):
        checked(found)
    assert checked(found, force=True) == {"agreement": 0.994, "cells": 500, "left_out": "group", "wanted": 0.995}
    assert checked(Agreement(0.995, 500, "group"))["agreement"] == 0.995


def test_what_is_stored_already_in_half_precision_is_not_tried_again():
    bank = bank_of()
    single, nothing = stored(bank, IndexSettings(), ["one"])
    assert (single["one"].dtype, nothing) == (np.float32, None)
    half, said = stored(bank, IndexSettings(storage="float16"), ["one"])
    assert (half["one"].dtype, said["cells"]) == (np.float16, 300)
    known = Bank(bank.classes, half, bank.labels, bank.groups)
    again, nothing = stored(known, IndexSettings(storage="float16"), ["one"])
    assert again["one"] is half["one"]
    assert nothing is None


def test_an_index_in_half_precision(tmp_path):
    single = open_index(write_plain_index(tmp_path / "single", cells=60))
    half = open_index(write_plain_index(tmp_path / "half", cells=60, storage="float16"))
    assert half.embeddings["one"].dtype == np.float16
    assert (half.folder / "embeddings_one.npy").stat().st_size == 128 + 60 * 4 * 2
    assert half.manifest["storage_check"]["agreement"] == 1.0
    assert single.manifest["storage_check"] is None
    kept = np.asarray(half.embeddings["one"], dtype=np.float32)
    assert half.norms_of("one") == pytest.approx(np.sum(kept**2, axis=1), rel=1e-6)
    assert half.novelty == pytest.approx(single.novelty, rel=0.01)
