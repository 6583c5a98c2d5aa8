"""The record as rows: what other tools get is what the ledger counts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from cellvigil.cli import main
from cellvigil.data import FileRef
from cellvigil.errors import StoreError, UsageError
from cellvigil.ledger import Design
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.store.fit import SourcePlan
from cellvigil.store.reader import read_ledger
from cellvigil.store.repair import repair
from cellvigil.store.writer import open_store
from cellvigil.table import frame_rows, rows, write_table
from store_records import BUNDLE, SERIES, START, calls_of, key, record


@pytest.fixture
def filled(tmp_path):
    """Two plates; cells at borders, an excluded frame, a revision, a recall, and a frame without cells."""
    path = tmp_path / "store"
    store = open_store(path)
    for timepoint in range(2):
        for well in ("A1", "B2"):
            for field in ("1", "2"):
                store.append(record(key(well, timepoint, field), n=20, excluded="focus" if field == "2" else ""))
    store.append(record(key("C3", 0), n=0))
    store.append(record(key("A1", 0), n=9, revision=1))
    recalled = store.ledger.frame(key("B2", 1))
    groups = {"alive": "alive", "dead": "dead"}
    store.append_calls(recalled, calls_of(20, seed=8, bundle="77" * 32, classes=2), ("alive", "dead"), groups)
    store.append(record(key("A1", 0, series=("scope", "other", "Plate 1")), n=4))
    store.close()
    return path


def test_counted_rows_are_the_ledgers_counts(filled):
    counted: Counter[tuple[object, ...]] = Counter()
    for batch in rows(filled):
        for row in batch.to_pylist():
            if row["counted"]:
                series = (row["source"], row["experiment"], row["plate"])
                counted[(series, row["well"], row["timepoint"], row["state"])] += 1
    ledger = read_ledger(filled)
    expected = Counter(
        {
            (series, one.well, one.timepoint, state): cells
            for series in ledger.series()
            for one in ledger.well_times(series)
            for state, cells in one.counts.items()
            if cells
        }
    )
    assert counted == expected
    assert sum(expected.values()) > 30


def test_a_row_says_what_the_record_said(filled):
    one = record(key("A1", 1, "1"), n=20)
    table = [row for batch in rows(filled) for row in batch.to_pylist() if matches(row, "A1", 1, "1")]
    assert [row["cell"] for row in table] == list(range(1, 21))
    for place, row in enumerate(table):
        best = one.classes[one.calls.best_ids[place]]
        assert row["best"] == best
        assert row["state"] == ("unknown" if one.calls.unknown[place] else best)
        assert row["area_um2"] == one.cells.areas_um2[place]
        assert (row["centroid_y_px"], row["centroid_x_px"]) == tuple(one.cells.centroids_px[place])
        assert row["touches_edge"] == one.cells.touches_edge[place]
        assert row["counted"] == (not one.cells.touches_edge[place])
        assert row["vote_share"] == row[f"vote_share_{best}"] == one.calls.vote_share[place, one.calls.best_ids[place]]
        assert row["probability"] is None  # the index was not calibrated
        assert row["unknown_reason"] == (one.calls.unknown_reason[place] or None)
        sets = [row[f"in_set_{name}"] for name in one.classes]
        assert sets == one.calls.conformal_set[place].tolist()
        assert row["in_set_dead"] is None
        assert row["k"] == one.calls.k[place]
        assert [row[f"neighbour_{rank}"] for rank in range(5)] == list(one.calls.neighbours[place])
        assert row["bundle"] == BUNDLE
        assert row["acquired_at"] == one.frame.acquired_at
        assert row["current"]
        assert row["vote_share_dead"] is None  # a class of the other index


def matches(row: dict, well: str, timepoint: int, field: str) -> bool:
    return (row["experiment"], row["well"], row["timepoint"], row["field"]) == (SERIES[1], well, timepoint, field)


def test_superseded_and_excluded_cells_are_there_and_not_counted(filled):
    table = [row for batch in rows(filled) for row in batch.to_pylist()]
    revisions = {
        (row["revision"], row["current"]): row["counted"]
        for row in table
        if matches(row, "A1", 0, "1") and row["cell"] == 1
    }
    assert revisions == {(0, False): False, (1, True): True}
    assert not any(row["counted"] for row in table if row["outcome"] == "excluded")


def test_the_current_calls_are_those_of_the_last_index(filled):
    table = [row for batch in rows(filled) for row in batch.to_pylist() if matches(row, "B2", 1, "1")]
    assert {row["bundle"] for row in table} == {"77" * 32}
    assert {row["state"] for row in table} <= {"alive", "dead", "unknown"}


def test_frames_without_cells_are_seen(filled):
    table = [row for batch in frame_rows(filled) for row in batch.to_pylist()]
    assert len(table) == 11
    [empty] = [row for row in table if row["n_cells"] == 0]
    assert (empty["well"], empty["cells_live"], empty["outcome"], empty["current"]) == ("C3", 0, "counted", True)
    [recalled] = [row for row in table if matches(row, "B2", 1, "1")]
    assert recalled["cells_alive"] + recalled["cells_dead"] + recalled["cells_unknown"] == 20 - recalled["edge"]
    assert recalled["cells_live"] is None
    [excluded] = [row for row in table if matches(row, "A1", 1, "2")]
    assert (excluded["excluded"], excluded["focus"]) == ("focus", 1.0)
    assert excluded["files"] == "A1_2_001.tif"


@pytest.mark.parametrize("frames", [False, True])
def test_parquet_and_csv_hold_the_same(filled, tmp_path, frames):
    counts = {write_table(filled, tmp_path / f"out{suffix}", frames=frames) for suffix in (".parquet", ".csv")}
    parquet = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    csv = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert counts == {parquet.num_rows} == {csv.num_rows}
    assert parquet.column_names == csv.column_names
    assert parquet["well"].to_pylist() == csv["well"].to_pylist()
    assert min(parquet["acquired_at"].to_pylist()) == START
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet", "store"]
    name = "n_cells" if frames else "cell"
    np.testing.assert_array_equal(parquet[name].to_numpy(), csv[name].to_numpy())


def test_it_can_be_read_while_the_store_is_written(filled, tmp_path):
    store = open_store(filled)
    store.append(record(key("D4", 0), n=3))  # committed, not shown yet
    assert [row for batch in rows(filled) for row in batch.to_pylist() if row["well"] == "D4"]
    store.close()


def test_wrong_places_and_formats_are_told(filled, tmp_path):
    with pytest.raises(UsageError, match="xlsx"):
        write_table(filled, tmp_path / "out.xlsx")
    with pytest.raises(UsageError, match="no plate"):
        write_table(tmp_path / "elsewhere", tmp_path / "out.csv")
    with pytest.raises(StoreError, match="cannot be written"):
        write_table(filled, tmp_path / "missing" / "out.csv")


def test_rows_that_are_gone_are_told_with_their_place(filled, tmp_path):
    next(filled.rglob("cells/features/c.0.0.0")).unlink()
    with pytest.raises(StoreError, match=r"c\.0\.0\.0"):
        write_table(filled, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def drop(path, slot, tiers):
    """As retention does it."""
    store = open_store(path)
    line = {"kind": "dropped", "series": [*SERIES], "t": slot, "tiers": tiers, "why": "age"}
    store.journal_lines(SERIES, [{**line, "committed_at": "2026-01-01T00:00:00Z"}])
    for chunk in store.chunk_paths(SERIES, slot, tiers):
        chunk.unlink(missing_ok=True)
    store.close()


def test_cells_that_retention_deleted_are_left_out_and_told(filled, tmp_path, capsys):
    whole = write_table(filled, tmp_path / "all.csv")
    frames = [batch.to_pylist() for batch in frame_rows(filled)]
    drop(filled, 1, ["pixels", "embeddings"])
    assert write_table(filled, tmp_path / "all.csv") == whole
    drop(filled, 1, ["measurements"])
    assert main(["table", "--store", str(filled), "--out", str(tmp_path / "cells.csv")]) == 0
    told = capsys.readouterr().out
    assert "without the cells of 4 frames, deleted by retention" in told
    assert pyarrow.csv.read_csv(tmp_path / "cells.csv").num_rows == whole - 80
    assert [batch.to_pylist() for batch in frame_rows(filled)] == frames


def test_cells_that_go_while_they_are_read_are_left_out_too(filled):
    there = rows(filled)
    first = next(there)
    drop(filled, 1, ["measurements"])
    left: list[str] = []
    assert sum(batch.num_rows for batch in rows(filled, lambda _, why: left.append(why))) > 0
    assert left == ["dropped"] * 4
    read = [first, *there]  # begun before the deletion
    assert len(read) == len([*rows(filled)])


def test_cells_of_a_frame_that_repair_found_damaged_are_left_out_and_told(filled, tmp_path, capsys):
    (filled / "scope/240301_run/Plate 1.zarr/B/2/0/cells/features/c.1.0.0").write_bytes(b"torn")
    with pytest.raises(StoreError):
        write_table(filled, tmp_path / "cells.csv")
    repair(filled)
    assert main(["table", "--store", str(filled), "--out", str(tmp_path / "cells.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames_lost"] == 1


def test_a_damaged_frame_that_was_done_again_is_not_told_of(filled, tmp_path, capsys):
    (filled / "scope/240301_run/Plate 1.zarr/B/2/0/cells/features/c.1.0.0").write_bytes(b"torn")
    repair(filled)
    [(place, number)] = [
        (frame.key, frame.revision)
        for frame in read_ledger(filled).frames(SERIES)
        if read_ledger(filled).is_lost(frame.key, frame.revision)
    ]
    store = open_store(filled)
    store.append(record(place, n=20, revision=number + 1))
    store.close()
    assert main(["table", "--store", str(filled), "--out", str(tmp_path / "cells.csv")]) == 0
    assert "rows are damaged" not in capsys.readouterr().out


def test_a_channel_that_came_late_stands_in_its_frames_row(tmp_path):
    store = open_store(tmp_path, plans={"scope": SourcePlan(("channel-0", "channel-1"))})
    one = record(shape=(1, 12, 18), missing_channels=("channel-1",))
    store.append(one)
    late = FileRef("late.tif", 5, 5, "aa" * 32)
    store.attach(replace(one.frame, channels=("channel-1",), files=(late,)))
    store.close()
    [row] = next(frame_rows(tmp_path)).to_pylist()
    assert (row["channels"], row["missing_channels"]) == ("channel-0;channel-1", "")
    assert row["files"] == f"{one.frame.files[0].path};late.tif"


def test_rows_tell_the_arm_as_the_record_has_it(tmp_path):
    store = open_store(tmp_path / "store")
    for well in ("A1", "B2", "C3"):
        store.append(record(key(well), n=3))
    at = START + timedelta(hours=1)
    wells = {
        "A1": WellPlan("A1", "control", vehicle="DMSO"),
        "B2": WellPlan("B2", "treated", "Raptinal", 10.0, "uM", treated_at=at),
    }
    store.journal_lines(SERIES, [Design(PlatePlan(wells)).line(SERIES, at)])
    store.close()
    for batches in (rows(tmp_path / "store"), frame_rows(tmp_path / "store")):
        found = {row["well"]: row for batch in batches for row in batch.to_pylist()}
        told = {well: (row["arm"], row["role"], row["dose"], row["treated_at"]) for well, row in found.items()}
        assert told["A1"] == ("control", "control", None, None)
        assert told["B2"] == ("Raptinal 10 uM", "treated", 10.0, at)
        assert told["C3"] == (None, None, None, None)
        assert (found["B2"]["compound"], found["B2"]["dose_unit"], found["A1"]["vehicle"]) == ("Raptinal", "uM", "DMSO")
