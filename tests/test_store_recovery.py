"""After a crash: what was told is there, once and whole; what was not is moved aside; nobody has to do anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr

from cellvigil.data import Baseline, FrameKey
from cellvigil.errors import StoreError
from cellvigil.journal import read, seal
from cellvigil.store.reader import read_ledger
from cellvigil.store.rows import read_table
from cellvigil.store.writer import Filing, Store, open_store
from store_records import PROFILE, SERIES, calls_of, key, record

HERE = Path(__file__).parent


def plate_folder(store: Path) -> Path:
    return store / "scope" / "240301_run" / "Plate 1.zarr"


def filled(path: Path, *, times: int = 3, wells: tuple[str, ...] = ("A1", "B2")) -> list[FrameKey]:
    keys = [key(well, timepoint) for timepoint in range(times) for well in wells]
    store = open_store(path)
    for one in keys:
        store.append(record(one))
    store.close()
    return keys


def assert_whole(store: Store, keys: list[FrameKey]) -> None:
    """Every one of `keys` is committed once, and its pixels, labels and rows are those of its own record."""
    lines = read(plate_folder(store.path) / "journal.jsonl")
    committed = [(*line["key"], line["revision"]) for line in lines if line["kind"] == "frame"]
    assert len(committed) == len(set(committed))
    slots = [(line["path"], line["t"]) for line in lines if line["kind"] == "frame"]
    assert len(slots) == len(set(slots))
    frames = {frame.key: frame for frame in store.ledger.frames(SERIES)}
    assert set(keys) <= set(frames)
    group = zarr.open_group(plate_folder(store.path), mode="r")
    for one, frame in frames.items():
        expected = record(one, revision=frame.revision)
        field = group[frame.path]
        np.testing.assert_array_equal(field["0"][frame.t], expected.frame.pixels)
        np.testing.assert_array_equal(field["labels/cells/0"][frame.t], expected.cells.labels)
        np.testing.assert_array_equal(field["cells/features"][frame.t][:5, 6], expected.cells.areas_um2)


def reopened(path: Path) -> Store:
    """The store as it is after recovery, everything shown, and a second opening that finds nothing to mend."""
    store = open_store(path)
    store.publish(SERIES, overdue=10**9)
    store.close()
    yaozarrs.validate_zarr_store(str(plate_folder(path)))
    again = open_store(path)
    assert again.recovered == ()
    again.close()
    return store


def test_kill_9_at_random_moments_loses_doubles_and_tears_nothing(tmp_path):
    path = os.pathsep.join([str(HERE), *sys.path])
    command = [sys.executable, "-W", "error", str(HERE / "store_killer.py"), str(tmp_path / "store"), "12", "7"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in json.loads(done.stdout)]
    assert len(told) >= 12
    store = reopened(tmp_path / "store")
    assert_whole(store, [key(well, int(timepoint)) for well, timepoint in told])


def test_a_torn_last_line_undoes_one_frame_which_is_done_again(tmp_path):
    keys = filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    store = open_store(tmp_path)
    [report] = store.recovered
    assert report.cut_bytes > 100
    assert report.orphans == 8
    assert store.ledger.revision(keys[-1]) == -1
    assert not store.ledger.is_done("scope", "B2_1_002.tif", 1000, 1_700_000_000_000_000_000)
    moved = [path for path in (tmp_path / ".orphans").rglob("*") if path.is_file()]
    assert len(moved) == 9  # the chunks, and the bytes that were cut off
    assert store.append(record(keys[-1])).t == 2
    store.close()
    assert_whole(reopened(tmp_path), keys)


def test_a_bad_line_in_the_middle_costs_one_frame_and_is_told(tmp_path):
    keys = filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    rows = journal.read_bytes().split(b"\n")
    place = next(number for number, row in enumerate(rows) if b'"B2","1",1]' in row)
    rows[place] = rows[place][:50] + b"#" + rows[place][51:]
    journal.write_bytes(b"\n".join(rows))
    store = open_store(tmp_path)
    [report] = store.recovered
    assert report.skipped_lines == (place + 1,)
    assert report.orphans == 8
    assert len(store.ledger.frames(SERIES)) == len(keys) - 1
    store.append(record(key("B2", 1)))
    store.close()
    again = open_store(tmp_path)  # the bad line stays, and is told again
    assert [report.skipped_lines for report in again.recovered] == [(place + 1,)]
    again.close()
    assert_whole(again, keys)


@pytest.mark.parametrize("kind", ["plate", "geometry", "table", "bundle", "setting"])
def test_a_plate_outlives_the_loss_of_any_line_that_describes_it(tmp_path, kind):
    keys = filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    rows = journal.read_bytes().split(b"\n")
    marked = f'"kind":"{kind}"'.encode()
    journal.write_bytes(b"\n".join(row.replace(marked, b"lost") if marked in row else row for row in rows))
    store = open_store(tmp_path)
    assert store.ledger.revision(keys[0]) == 0
    store.append(record(key("A1", 3)))
    store.append(record(key("B2", 3)))
    assert store.publish(SERIES) == 4
    store.close()
    assert_whole(open_and_close(tmp_path), [*keys, key("A1", 3)])
    yaozarrs.validate_zarr_store(str(plate_folder(tmp_path)))


def open_and_close(path: Path) -> Store:
    store = open_store(path)
    store.close()
    return store


def test_chunks_without_a_journal_line_are_moved_and_never_removed(tmp_path):
    keys = filled(tmp_path)
    plate = plate_folder(tmp_path)
    strays = {
        "A/1/0/0/c.3.0.0.0": b"a chunk that was renamed but never journaled",
        "A/1/0/cells/features/c.3.0.0": b"its rows",
        "A/1/7/0/c.0.0.0.0": b"a field whose first frame never committed",
        "Q/9/0/labels/cells/0/c.0.0.0": b"a well whose first frame never committed",
    }
    for name, content in strays.items():
        (plate / name).parent.mkdir(parents=True, exist_ok=True)
        (plate / name).write_bytes(content)
    store = open_store(tmp_path)
    assert [report.orphans for report in store.recovered] == [4]
    for name, content in strays.items():
        assert not (plate / name).exists()
        assert (tmp_path / ".orphans" / plate.relative_to(tmp_path) / name).read_bytes() == content
    store.append(record(key("A1", 3)))
    store.append(record(key("Q9", 3)))
    store.close()
    assert_whole(reopened(tmp_path), [*keys, key("A1", 3), key("Q9", 3)])


def test_two_crashes_at_one_place_keep_both_orphans(tmp_path):
    filled(tmp_path)
    stray = plate_folder(tmp_path) / "A/1/0/0/c.9.0.0.0"
    for content in (b"first", b"second"):
        stray.write_bytes(content)
        open_and_close(tmp_path)
    kept = {path.read_bytes() for path in (tmp_path / ".orphans").rglob("c.9.0.0.0*")}
    assert kept == {b"first", b"second"}


def test_unfinished_files_are_removed(tmp_path):
    keys = filled(tmp_path)
    plate = plate_folder(tmp_path)
    for name in ("A/1/0/0/.tmp.1.2", "A/1/0/.tmp.1.3", "A/1/.tmp.9.9", ".tmp.4.4", "A/1/0/cells/features/.tmp.7.7"):
        (plate / name).write_bytes(b"half")
    store = open_store(tmp_path)
    assert [report.temporaries for report in store.recovered] == [5]
    store.close()
    assert not list(plate.rglob(".tmp.*"))
    assert_whole(reopened(tmp_path), keys)


@pytest.mark.parametrize(
    "name",
    ["zarr.json", "A/zarr.json", "A/1/zarr.json", "A/1/0/zarr.json", "B/2/0/1/zarr.json", "B/2/0/cells/zarr.json"],
)
@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 300, None], ids=["empty", "other", "zeros", "gone"])
def test_a_lost_document_is_made_again_from_the_journal(tmp_path, name, content):
    filled(tmp_path)
    path = plate_folder(tmp_path) / name
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    store = open_store(tmp_path)
    assert [report.documents for report in store.recovered] == [1]
    store.close()
    assert path.read_bytes() == before


def test_a_crash_while_a_round_is_shown_leaves_every_array_alike(tmp_path):
    filled(tmp_path)
    plate = plate_folder(tmp_path)
    shown = json.loads((plate / "A/1/0/0/zarr.json").read_text())
    shown["shape"][0] = 2  # as if this array's rename had not come to pass
    (plate / "A/1/0/0/zarr.json").write_text(json.dumps(shown))
    open_and_close(tmp_path)
    documents = [json.loads(path.read_text()) for path in plate.rglob("zarr.json")]
    assert {document["shape"][0] for document in documents if document["node_type"] == "array"} == {3}


def test_a_plate_with_a_baseline_and_no_frame_opens(tmp_path):
    store = open_store(tmp_path)
    baseline = Baseline((0.0, 1.0), 1.0)
    store.set_baseline(SERIES, baseline)
    store.close()
    again = open_store(tmp_path)
    assert again.recovered == ()
    assert again.baseline(SERIES) == baseline
    again.append(record())
    again.close()
    yaozarrs.validate_zarr_store(str(plate_folder(tmp_path)))


def test_a_crash_right_after_a_plate_was_begun_is_no_obstacle(tmp_path):
    plate_folder(tmp_path).mkdir(parents=True)
    (plate_folder(tmp_path) / "journal.jsonl").write_bytes(b'{"seq":1,"kind":"pl')
    store = open_store(tmp_path)
    assert store.append(record()).t == 0
    store.close()
    assert_whole(reopened(tmp_path), [key()])


def test_a_journal_that_cannot_be_read_is_told_with_its_place(tmp_path):
    filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    journal.unlink()
    journal.mkdir()
    with pytest.raises(StoreError, match=r"journal\.jsonl"):
        open_store(tmp_path)
    journal.rmdir()
    open_store(tmp_path).close()  # the lock was given back


def test_a_plate_of_a_later_format_is_not_touched(tmp_path):
    filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    rows = journal.read_bytes().split(b"\n")
    rows[0] = seal({"seq": 1, "kind": "plate", "format": 2, "series": list(SERIES)})[:-1]
    journal.write_bytes(b"\n".join(rows))
    before = journal.read_bytes()
    with pytest.raises(StoreError, match="format 2"):
        open_store(tmp_path)
    assert journal.read_bytes() == before


@pytest.mark.parametrize("name", ["0/c.1.0.0.0", "labels/cells/0/c.1.0.0", "cells/features/c.1.0.0"])
def test_a_chunk_that_the_journal_names_and_that_is_gone_is_told_and_never_fatal(tmp_path, name):
    keys = filled(tmp_path)
    (plate_folder(tmp_path) / "A/1/0" / name).unlink()
    for _ in range(2):  # until somebody repairs it
        [report] = open_and_close(tmp_path).recovered
        assert (report.missing, report.orphans, report.derived, report.documents) == (1, 0, 0, 0)
    store = open_store(tmp_path)
    assert {frame.key for frame in store.ledger.frames(SERIES)} == set(keys)
    store.append(record(key("A1", 3)))
    store.close()


def test_a_frame_without_cells_has_no_rows_to_miss(tmp_path):
    store = open_store(tmp_path)
    store.append(record(key("A1"), n=0))
    store.append(record(key("A1", 1)))
    store.close()
    assert open_and_close(tmp_path).recovered == ()


def test_calls_that_were_added_later_are_missed_too(tmp_path):
    filled(tmp_path, times=1)
    store = open_store(tmp_path)
    frame = store.ledger.frame(key())
    store.append_calls(frame, calls_of(5, bundle="12" * 32, classes=2), ("a", "b"), {"a": "alive"})
    store.close()
    assert open_and_close(tmp_path).recovered == ()
    (plate_folder(tmp_path) / "A/1/0/cells/calls-121212121212/c.0.0.0").unlink()
    assert [report.missing for report in open_and_close(tmp_path).recovered] == [1]


def drop(path: Path, tiers: list[str], slot: int) -> None:
    store = open_store(path)
    line = {"kind": "dropped", "series": list(SERIES), "t": slot, "tiers": tiers, "why": "age"}
    store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"}])
    store.close()


@pytest.mark.parametrize(
    ("tiers", "folders"),
    [
        (["pixels"], {"0", "1"}),
        (["labels", "embeddings"], {"labels/cells/0", "labels/cells/1", "cells/embedding-lite0"}),
        (["measurements"], {"cells/features", "cells/calls-abababababab", PROFILE}),
    ],
)
def test_a_dropping_that_a_crash_broke_off_is_finished(tmp_path, tiers, folders):
    filled(tmp_path)
    before = set(plate_folder(tmp_path).rglob("c.*"))
    drop(tmp_path, tiers, 1)
    (plate_folder(tmp_path) / "A/1/0" / sorted(folders)[0] / "zarr.json").unlink()
    [report] = open_and_close(tmp_path).recovered
    assert (report.dropped, report.orphans, report.missing, report.derived) == (2 * len(folders), 0, 0, 0)
    gone = before - set(plate_folder(tmp_path).rglob("c.*"))
    fields = [plate_folder(tmp_path) / well for well in ("A/1/0", "B/2/0")]
    assert {path.parent for path in gone} == {field / name for field in fields for name in folders}
    assert {path.name.split(".")[1] for path in gone} == {"1"}
    assert open_and_close(tmp_path).recovered == ()


def test_rows_that_retention_deleted_are_told_as_such_and_others_as_missing(tmp_path):
    filled(tmp_path)
    drop(tmp_path, ["measurements"], 1)
    open_and_close(tmp_path)
    dropped = read_ledger(tmp_path).dropped(SERIES, 1)
    field = plate_folder(tmp_path) / "A/1/0"
    with pytest.raises(StoreError, match="retention deleted the rows of slot 1"):
        read_table(field, "cells/features", 1, 5, dropped=dropped)
    (field / "cells/features/c.2.0.0").write_bytes(b"no shard")
    with pytest.raises(StoreError, match="damaged"):
        read_table(field, "cells/features", 2, 5)
    (field / "cells/features/c.2.0.0").unlink()
    with pytest.raises(StoreError, match=r"missing.*cellvigil repair"):
        read_table(field, "cells/features", 2, 5)


def test_a_torn_group_keeps_the_frames_whose_lines_are_whole(tmp_path):
    filled(tmp_path, times=1)
    store = open_store(tmp_path)
    keys = [key(well, timepoint) for timepoint in (1, 2) for well in ("A1", "B2")]
    store.append_all([Filing(record(one)) for one in keys])
    store.close()
    journal = plate_folder(tmp_path) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-100])
    store = open_store(tmp_path)
    [report] = store.recovered
    assert report.skipped_lines == ()
    assert (report.orphans, report.missing) == (8, 0)
    assert [store.ledger.revision(one) for one in keys] == [0, 0, 0, -1]
    store.append(record(keys[-1]))
    store.close()
    assert_whole(reopened(tmp_path), keys)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 5000, b"\0" * 100 + b'{"seq":99,"ki'], ids=["one", "page", "and text"])
def test_zeros_at_the_journals_end_are_cut(tmp_path, tail):
    keys = filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    before = journal.read_bytes()
    journal.write_bytes(before + tail)
    [report] = open_and_close(tmp_path).recovered
    assert (report.cut_bytes, report.skipped_lines, report.orphans) == (len(tail), (), 0)
    assert journal.read_bytes() == before
    assert_whole(reopened(tmp_path), keys)


def test_a_plate_folder_without_a_journal_or_with_an_empty_one_is_begun_anew(tmp_path):
    plate_folder(tmp_path).mkdir(parents=True)
    assert open_and_close(tmp_path).recovered == ()
    (plate_folder(tmp_path) / "journal.jsonl").touch()
    store = open_store(tmp_path)
    assert store.recovered == ()
    store.append(record())
    store.close()
    assert_whole(reopened(tmp_path), [key()])


def test_two_lines_for_one_slot_of_a_field_are_told(tmp_path):
    filled(tmp_path)
    journal = plate_folder(tmp_path) / "journal.jsonl"
    lines = read(journal)
    frame = next(line for line in lines if line["kind"] == "frame")
    journal.write_bytes(journal.read_bytes() + seal({**frame, "seq": 1000, "revision": 1}))
    assert [report.doubled for report in open_and_close(tmp_path).recovered] == [1]


def test_a_deleted_plate_is_gone_for_readers_and_for_the_next_session(tmp_path):
    filled(tmp_path)
    store = open_store(tmp_path)
    store.leave(SERIES)
    store.close()
    assert read_ledger(tmp_path).is_gone(SERIES)
    again = open_store(tmp_path)
    assert again.ledger.is_gone(SERIES)
    assert again.ledger.series() == ()
    again.close()


def test_a_folder_with_an_unfinished_name_is_removed(tmp_path):
    keys = filled(tmp_path)
    (plate_folder(tmp_path) / "A/1/.tmp.9.9/deep").mkdir(parents=True)
    assert [report.temporaries for report in open_and_close(tmp_path).recovered] == [1]
    assert_whole(reopened(tmp_path), keys)


def test_readers_beside_a_writer_see_whole_frames_or_none(tmp_path):
    """A second process commits groups while this one reads journals and rows."""
    writer = """
import sys
from pathlib import Path
from cellvigil.store.writer import Filing, open_store
from store_records import SERIES, key, record
store = open_store(Path(sys.argv[1]))
for timepoint in range(12):
    store.append_all([Filing(record(key(well, timepoint))) for well in ("A1", "B2", "C3")])
    store.publish(SERIES)
store.close()
"""
    paths = os.pathsep.join([str(HERE), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    seen = set()
    with subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)], env=environment) as process:
        while process.poll() is None:
            for frame in read_ledger(tmp_path).frames(SERIES):
                rows = read_table(plate_folder(tmp_path) / frame.path, "cells/features", frame.t, frame.n_cells)
                np.testing.assert_array_equal(rows["area_um2"], record(frame.key).cells.areas_um2)
                seen.add(frame.key)
    assert process.returncode == 0
    assert len(read_ledger(tmp_path).frames(SERIES)) == 36
    assert seen
