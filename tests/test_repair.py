"""`cellvigil repair`: every damage is found, what can be mended is, what cannot is told and done again."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cellvigil.cli import main
from cellvigil.errors import StoreError
from cellvigil.journal import read
from cellvigil.store import shards
from cellvigil.store.dropping import unlink_all
from cellvigil.store.reader import read_ledger
from cellvigil.store.repair import check, repair
from cellvigil.store.writer import open_store
from store_records import BUNDLE, SERIES, calls_of, key, record
from test_store_recovery import assert_whole, filled, plate_folder

CALLS = f"cells/calls-{BUNDLE[:12]}"
FULL = ("0/c.1.0.0.0", "labels/cells/0/c.1.0.0", "cells/features/c.1.0.0", f"{CALLS}/c.1.0.0",
        "cells/embedding-lite0/c.1.0.0")  # fmt: skip
REDUCED = ("1/c.1.0.0.0", "labels/cells/1/c.1.0.0")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    data[-5] ^= 0x01  # the index (of a shard) or the content (of a label image)
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def one_missing(path: Path) -> None:
    path.unlink()


DAMAGES = (cut, flip, empty, fill_with_zeros, one_missing)


def state(store: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and its date."""
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def run_repair(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["repair", "--store", str(store), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("chunk", FULL)
def test_a_damaged_chunk_costs_its_frame_which_is_done_again(tmp_path, capsys, chunk, damage: Callable[[Path], None]):
    keys = filled(tmp_path)
    path = plate_folder(tmp_path) / "B/2/0" / chunk
    damage(path)
    before = state(tmp_path)
    code, found = run_repair(tmp_path, capsys, "--check")
    assert state(tmp_path) == before
    assert code == 1
    [loss] = found["lost"]
    assert (loss["frame"], loss["revision"]) == (str(key("B2", 1)), 0)
    assert loss["files"] == ["B2_1_001.tif"]
    assert chunk.rpartition("/")[0] in loss["why"]
    code, found = run_repair(tmp_path, capsys)
    assert (code, len(found["lost"])) == (1, 1)
    assert not path.exists()
    moved = [one for one in (tmp_path / ".orphans").rglob("c.1.*") if one.is_file()]
    assert [str(one).endswith(chunk) for one in moved] == [True] * (damage is not one_missing)
    code, found = run_repair(tmp_path, capsys)
    assert (code, found["derived"], len(found["lost"])) == (1, 0, 1)  # lost still, and told still
    store = open_store(tmp_path)
    assert store.ledger.is_lost(key("B2", 1), 0)
    assert not store.ledger.is_done("scope", "B2_1_001.tif", 1000, 1_700_000_000_000_000_000)
    store.append(record(key("B2", 1), revision=1))
    store.close()
    code, found = run_repair(tmp_path, capsys)
    assert (code, found["lost"]) == (0, [])
    frames = {frame.key: frame for frame in read_ledger(tmp_path).frames(SERIES)}
    assert set(frames) == set(keys)
    assert frames[key("B2", 1)].revision == 1


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("chunk", REDUCED)
def test_a_damaged_reduced_level_is_made_anew(tmp_path, capsys, chunk, damage: Callable[[Path], None]):
    keys = filled(tmp_path)
    path = plate_folder(tmp_path) / "B/2/0" / chunk
    good = path.read_bytes()
    damage(path)
    before = state(tmp_path)
    code, found = run_repair(tmp_path, capsys, "--check")
    assert state(tmp_path) == before
    assert (code, found["derived"], found["lost"]) == (0, 1, [])
    code, found = run_repair(tmp_path, capsys)
    assert (code, found["derived"], found["lost"]) == (0, 1, [])
    assert path.read_bytes() == good
    store = open_store(tmp_path)
    assert_whole(store, keys)
    store.close()


@pytest.mark.parametrize("chunk", FULL)
def test_every_flipped_bit_is_seen(tmp_path, chunk):
    filled(tmp_path)
    path = plate_folder(tmp_path) / "B/2/0" / chunk
    good = path.read_bytes()
    for place in range(0, len(good), 97):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert len(check(tmp_path).lost) == 1, place


def rewritten(store: Path, chunk: str, data: bytes) -> str:
    (plate_folder(store) / "B/2/0" / chunk).write_bytes(data)
    [loss] = check(store).lost
    return loss.why


def test_whole_chunks_that_do_not_fit_their_frame_are_found(tmp_path):
    filled(tmp_path)
    plane = np.ones((12, 18), dtype=np.uint16)
    labels = record(key("B2", 1)).cells.labels.copy()
    labels[-1, -1] = 6
    assert "lacks channel channel-1" in rewritten(tmp_path, FULL[0], shards.image_shard([plane, None]))
    assert "pixels are damaged" in rewritten(tmp_path, FULL[0], shards.image_shard([plane[1:], plane]))
    assert "plane 0 is not what was written" in rewritten(tmp_path, FULL[0], shards.image_shard([plane, plane]))
    planes = list(record(key("B2", 1)).frame.pixels)
    (plate_folder(tmp_path) / "B/2/0" / FULL[0]).write_bytes(shards.image_shard(planes))
    assert check(tmp_path).lost == ()
    assert "where 5 cells are counted" in rewritten(tmp_path, FULL[1], shards.label_chunk(labels))
    (plate_folder(tmp_path) / "B/2/0" / FULL[1]).write_bytes(shards.label_chunk(record(key("B2", 1)).cells.labels))
    assert "rows are empty" in rewritten(tmp_path, FULL[2], shards.rows_shard(np.ones((4, 8), dtype=np.float32)))
    assert "lacks rows" in rewritten(tmp_path, FULL[2], shards.rows_shard(np.ones((0, 8), dtype=np.float32)))


def test_a_whole_store_is_whole_and_nothing_is_written(tmp_path, capsys):
    keys = filled(tmp_path)
    store = open_store(tmp_path)
    store.append(record(key("A1", 3), n=0))
    store.append_calls(store.ledger.frame(keys[0]), calls_of(5, bundle="cd" * 32), ("live", "apoptotic", "debris"), {})
    store.close()
    before = state(tmp_path)
    for options in (["--check"], []):
        code, found = run_repair(tmp_path, capsys, *options)
        assert (code, found["frames"], found["plates"]) == (0, len(keys) + 1, 1)
        assert found["frames_per_second"] > 0
        assert not any(found[name] for name in ("lost", "derived", "documents", "bad_lines", "strays", "leftovers"))
    after = state(tmp_path)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {Path(name).name for name in changed} <= {".lock", ".closed"}
    (plate_folder(tmp_path) / "A/1/0/cells/calls-cdcdcdcdcdcd/c.0.0.0").unlink()
    [loss] = check(tmp_path).lost
    assert "calls-cdcdcdcdcdcd: missing" in loss.why


def test_what_retention_dropped_is_no_loss(tmp_path):
    filled(tmp_path)
    store = open_store(tmp_path)
    line = {"kind": "dropped", "series": [*SERIES], "t": 1, "why": "age", "committed_at": "2026-01-01T00:00:00Z"}
    store.journal_lines(SERIES, [{**line, "tiers": ["pixels", "measurements"]}])
    for path in store.chunk_paths(SERIES, 1, ["pixels", "measurements"]):
        path.unlink()
    store.close()
    assert check(tmp_path).lost == ()
    assert not repair(tmp_path).needs_source
    cut(plate_folder(tmp_path) / "B/2/0" / FULL[1])
    assert len(check(tmp_path).lost) == 1


def test_documents_strays_leftovers_and_bad_lines_are_told_and_mended(tmp_path, capsys):
    keys = filled(tmp_path)
    folder = plate_folder(tmp_path)
    (folder / "A/1/0/0/zarr.json").unlink()
    (folder / "A/zarr.json").write_bytes(b"{")
    shutil.copy(folder / "A/1/0/0/c.1.0.0.0", folder / "A/1/0/0/c.9.0.0.0")
    (folder / "A/1/0/0/.tmp.1.2").write_bytes(b"half")
    for name in ("c.9.0.0.0", ".tmp.1.2"):
        os.utime(folder / "A/1/0/0" / name, (time.time() - 99,) * 2)
    journal = folder / "journal.jsonl"
    rows = journal.read_bytes().split(b"\n")
    place = next(number for number, row in enumerate(rows) if b'"setting"' in row)
    rows[place] = rows[place].replace(b"setting", b"settinx")
    journal.write_bytes(b"\n".join(rows))
    expected = {"documents": 2, "strays": 1, "leftovers": 1, "lost": []}
    _, found = run_repair(tmp_path, capsys, "--check")
    assert {name: found[name] for name in expected} == expected
    assert found["bad_lines"] == [f"{folder}: line {place + 1}"]
    assert main(["repair", "--store", str(tmp_path)]) == 1  # a frame's line may have been among what cannot be read
    told = capsys.readouterr().out
    assert "2 zarr.json files written anew" in told
    assert f"line {place + 1}" in told
    code, found = run_repair(tmp_path, capsys)
    assert code == 0
    assert {name: found[name] for name in expected} == {**expected, "documents": 0, "strays": 0, "leftovers": 0}
    assert (found["orphans"], found["bad_lines"]) == (1, [f"{folder}: line {place + 1}"])
    store = open_store(tmp_path)
    assert_whole(store, keys)
    store.close()


@pytest.mark.parametrize("reduced", REDUCED)
def test_a_frame_that_is_lost_may_be_damaged_once_more(tmp_path, reduced):
    filled(tmp_path)
    field = plate_folder(tmp_path) / "A/1/0"
    for name in ("0/c.1.0.0.0", "labels/cells/0/c.1.0.0"):
        cut(field / name)
    assert len(repair(tmp_path).lost) == 1
    cut(field / reduced)
    repair(tmp_path)  # there is nothing left to make it from
    assert not (field / reduced).exists()
    assert check(tmp_path).derived == repair(tmp_path).derived == 0


def test_a_frame_that_is_done_again_after_its_line_went_bad_lacks_no_later_calls(tmp_path):
    store = open_store(tmp_path)
    for well in ("A1", "B1"):
        store.append(record(key(well)))
    known = store.ledger.frame(key("A1"))
    store.append_calls(known, calls_of(known.n_cells, bundle="77" * 32), ("live", "apoptotic", "debris"), {})
    store.close()
    journal = plate_folder(tmp_path) / "journal.jsonl"
    rows = journal.read_bytes().splitlines(keepends=True)
    place = next(number for number, row in enumerate(rows) if b'"kind":"frame"' in row)
    rows[place] = rows[place].replace(b'"counted"', b'"cOunted"')
    journal.write_bytes(b"".join(rows))
    store = open_store(tmp_path)
    assert store.append(record(key("A1"))).t == known.t
    store.close()
    assert not check(tmp_path).lost
    store = open_store(tmp_path)
    assert [report.missing for report in store.recovered] == [0]
    store.close()


def test_a_superseded_revision_that_is_lost_needs_nothing(tmp_path, capsys):
    store = open_store(tmp_path)
    store.append(record(key("A1")))
    store.append(record(key("A1"), revision=1))
    store.close()
    cut(plate_folder(tmp_path) / "A/1/0/0/c.0.0.0.0")
    code, found = run_repair(tmp_path, capsys)
    assert code == 0
    assert [loss["superseded"] for loss in found["lost"]] == [True]
    code, found = run_repair(tmp_path, capsys)
    assert (code, found["lost"]) == (0, [])


def test_the_line_comes_before_the_move_and_a_crash_between_is_made_up_for(tmp_path, monkeypatch):
    filled(tmp_path)
    path = plate_folder(tmp_path) / "B/2/0" / FULL[0]
    cut(path)

    class Cut(BaseException):
        pass

    def end(*_: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr("cellvigil.store.repair._set_aside", end)
        with pytest.raises(Cut):
            repair(tmp_path)
    assert path.exists()
    lost = [line for line in read(plate_folder(tmp_path) / "journal.jsonl") if line["kind"] == "lost"]
    assert [line["key"][3:] for line in lost] == [["B2", "1", 1]]
    assert repair(tmp_path).needs_source
    assert not path.exists()
    again = [line for line in read(plate_folder(tmp_path) / "journal.jsonl") if line["kind"] == "lost"]
    assert again == lost
    shown = zarr.open_group(plate_folder(tmp_path), mode="r")["B/2/0/0"]
    assert not shown[1].any()


def test_a_store_that_a_daemon_writes_can_be_looked_at_but_not_mended(tmp_path, capsys):
    filled(tmp_path)
    daemon = open_store(tmp_path)
    with pytest.raises(StoreError, match="another process"):
        repair(tmp_path)
    assert main(["repair", "--store", str(tmp_path)]) == 1
    assert "another process" in capsys.readouterr().err
    assert main(["repair", "--store", str(tmp_path), "--check"]) == 0
    daemon.append(record(key("A1", 7)))  # not shown to readers yet
    assert check(tmp_path).lost == ()
    daemon.close()


def test_a_folder_without_a_store_is_refused(tmp_path, capsys):
    assert main(["repair", "--store", str(tmp_path / "nowhere")]) == 2
    assert "no plate" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_look_at_a_store_that_lives_finds_no_fault(tmp_path):
    """Frames are committed and others dropped all the while; a look must not call either a loss."""
    filled(tmp_path)
    daemon = open_store(tmp_path)
    halt, slots = threading.Event(), 0

    def go_on() -> None:
        nonlocal slots
        for timepoint in itertools.count(3):
            if halt.is_set():
                return
            slots = daemon.append(record(key("A1", timepoint))).t
            daemon.publish(SERIES, overdue=timepoint)
            line = {"kind": "dropped", "series": [*SERIES], "t": slots - 3, "tiers": ["pixels", "measurements"]}
            daemon.journal_lines(SERIES, [{**line, "why": "size", "committed_at": "2026-01-01T00:00:00Z"}])
            unlink_all(daemon.chunk_paths(SERIES, slots - 3, ["pixels", "measurements"]))

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        reports = [check(tmp_path) for _ in itertools.takewhile(lambda _: slots < 15, range(1000))]
    finally:
        halt.set()
        writer.join()
        daemon.close()
    assert len(reports) > 1
    assert {(one.lost, one.derived, one.strays, one.documents, one.leftovers) for one in reports} == {((), 0, 0, 0, 0)}
    assert not repair(tmp_path).needs_source
