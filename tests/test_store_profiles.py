"""The mean embedding of a frame's counted cells, as its record holds it: written once, verified, read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellvigil.errors import StoreError
from cellvigil.store.repair import check
from cellvigil.store.rows import read_profile
from cellvigil.store.writer import open_store
from store_records import PROFILE, SERIES, key, record


@pytest.fixture
def filled(tmp_path):
    store = open_store(tmp_path / "store")
    store.append(record(key("A1", 0)))
    store.publish(SERIES)
    store.close()
    return tmp_path / "store"


def _field(store):
    [journal] = store.rglob("journal.jsonl")
    return journal.parent / "A/1/0"


def test_it_is_the_mean_over_cells_off_the_border(filled):
    one = record(key("A1", 0))
    counted = ~one.cells.touches_edge
    assert counted.sum() > 0
    found = read_profile(_field(filled), PROFILE, 0)
    np.testing.assert_allclose(found["lite0"], one.embeddings["lite0"][counted].mean(axis=0), rtol=1e-6)


def test_a_frame_without_counted_cells_has_none(tmp_path):
    one = record(key("A1", 0))
    edged = replace(one, cells=replace(one.cells, touches_edge=np.ones(len(one.cells), dtype=bool)))
    store = open_store(tmp_path)
    store.append(edged)
    assert PROFILE not in store.ledger.frames(SERIES)[0].tables
    store.close()


def test_a_flipped_bit_is_found_and_a_missing_row_is_told(filled):
    assert not check(filled).lost
    chunk = _field(filled) / PROFILE / "c.0.0.0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 3] ^= 1
    chunk.write_bytes(bytes(data))
    assert check(filled).lost
    chunk.unlink()
    with pytest.raises(StoreError, match="missing"):
        read_profile(_field(filled), PROFILE, 0)
