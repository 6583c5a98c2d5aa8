"""A plate's folder that a person copied or renamed inside the store: no cell is counted twice, and all is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cellvigil import table
from cellvigil.errors import StoreError
from cellvigil.store.reader import read_ledger
from cellvigil.store.repair import check, repair
from cellvigil.store.writer import open_store
from store_records import SERIES, key, record
from test_store_recovery import plate_folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    opened = open_store(tmp_path)
    for well in ("A1", "B1"):
        opened.append(record(key(well)))
    opened.close()
    return tmp_path


def rows(store: Path) -> int:
    counted = (batch.column("counted").to_numpy(zero_copy_only=False) for batch in table.rows(store))
    return sum(int(np.count_nonzero(some)) for some in counted)


def gauges(store: Path) -> int:
    ledger = read_ledger(store)
    return sum(sum(value.counts.values()) for series in ledger.series() for value in ledger.well_times(series))


@pytest.mark.parametrize("name", ["A copy of Plate 1.zarr", "Plate 1 copy.zarr"])
def test_a_copied_plate_is_passed_over_and_told(store: Path, name: str):
    before = gauges(store)
    copy = plate_folder(store).with_name(name)
    shutil.copytree(plate_folder(store), copy)
    assert rows(store) == gauges(store) == before > 0
    opened = open_store(store)
    assert [one.plate for one in opened.recovered if one.strange] == [copy]
    opened.append(record(key("A1", 1)))
    opened.close()
    assert rows(store) == gauges(store) > before
    frames = sum(batch.num_rows for batch in table.frame_rows(store))
    assert frames == len(read_ledger(store).frames(SERIES)) == 3
    assert not repair(store).lost
    assert not check(store).needs_source


def test_a_renamed_plate_is_read_until_its_frames_are_done_again_in_its_place(store: Path):
    before = gauges(store)
    plate_folder(store).rename(plate_folder(store).with_name("Plate 1 old.zarr"))
    assert rows(store) == gauges(store) == before
    opened = open_store(store)
    assert [one.strange for one in opened.recovered] == [True]
    for well in ("A1", "B1"):
        [ref] = record(key(well)).frame.files
        assert not opened.ledger.is_done("scope", ref.path, ref.size, ref.mtime_ns)
        assert opened.append(record(key(well))).t == 0
    opened.close()
    assert rows(store) == gauges(store) == before


def test_a_plate_whose_place_is_taken_by_another_is_refused(store: Path):
    shutil.copytree(plate_folder(store), plate_folder(store).with_name("Plate 2.zarr"))
    opened = open_store(store)
    with pytest.raises(StoreError, match="one folder"):
        opened.append(record(key(series=(*SERIES[:2], "Plate 2"))))
    opened.append(record(key("C1")))
    opened.close()
