"""Reduced levels are never fsynced: whatever a power cut leaves of them, opening makes them again, to the bit."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr

from cellvigil.data import FileRef, Frame
from cellvigil.store import lock
from cellvigil.store.writer import SourcePlan, Store, open_store
from store_records import SERIES, START, key, record

DERIVED = ["1/c.2.0.0.0", "labels/cells/1/c.2.0.0"]
TORN = {"absent": None, "empty": b"", "short": -9, "zeros": b"\0" * 300, "a flipped bit": 12}
PLANS = {"scope": SourcePlan(channels=("channel-0", "channel-1"))}


def field_folder(store: Path) -> Path:
    return store / "scope" / "240301_run" / "Plate 1.zarr" / "A" / "1" / "0"


class Clock:
    """Commit times that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2024, 3, 1, 21, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def filled(path: Path, *, minutes_apart: float = 0.5) -> None:
    """Four frames of one field, committed one after another; the store is closed."""
    clock = Clock()
    store = open_store(path, now=clock)
    for timepoint in range(4):
        store.append(record(key("A1", timepoint)))
        clock.now += timedelta(minutes=minutes_apart)
    store.close()


def killed(path: Path) -> None:
    """As if the last session had not closed the store."""
    (path / lock.LOCK).write_text("1\n", encoding="ascii")


def spoil(path: Path, how: bytes | int | None) -> bytes:
    """Damage a file; returns what it held."""
    before = path.read_bytes()
    if how is None:
        path.unlink()
    elif isinstance(how, bytes):
        path.write_bytes(how)
    elif how < 0:
        path.write_bytes(before[:how])
    else:
        path.write_bytes(before[:-how] + bytes([before[-how] ^ 4]) + before[-how + 1 :])
    return before


def opened(path: Path) -> Store:
    store = open_store(path)
    store.close()
    return store


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("how", TORN.values(), ids=TORN)
def test_a_reduced_level_that_a_power_cut_tore_is_made_again_to_the_bit(tmp_path, name, how):
    filled(tmp_path)
    killed(tmp_path)
    chunk = field_folder(tmp_path) / name
    before = spoil(chunk, how)
    [report] = opened(tmp_path).recovered
    assert (report.derived, report.missing, report.orphans) == (1, 0, 0)
    assert chunk.read_bytes() == before
    assert opened(tmp_path).recovered == ()


def test_every_reduced_level_may_be_gone(tmp_path):
    filled(tmp_path)
    chunks = [path for name in ("1", "labels/cells/1") for path in (field_folder(tmp_path) / name).glob("c.*")]
    before = {path: spoil(path, None) for path in chunks}
    (field_folder(tmp_path) / "1" / "zarr.json").unlink()
    (field_folder(tmp_path) / "1").rmdir()
    [report] = opened(tmp_path).recovered  # closed cleanly: what is absent is seen all the same
    assert report.derived == len(before) == 8
    assert {path: path.read_bytes() for path in chunks} == before


def test_after_a_clean_end_nothing_is_decoded(tmp_path):
    filled(tmp_path)
    spoil(field_folder(tmp_path) / DERIVED[0], b"damaged since")
    assert opened(tmp_path).recovered == ()
    killed(tmp_path)
    assert [report.derived for report in opened(tmp_path).recovered] == [1]


def test_after_a_clean_end_and_another_start_of_the_machine_the_young_ones_are_decoded(tmp_path, monkeypatch):
    filled(tmp_path)
    spoil(field_folder(tmp_path) / DERIVED[1], b"")
    boot = tmp_path / "boot_id"
    boot.write_text("another start\n", encoding="ascii")
    monkeypatch.setattr(lock, "_BOOT", boot)
    assert [report.derived for report in opened(tmp_path).recovered] == [1]


@pytest.mark.parametrize(("minutes_apart", "looked_at"), [(0.5, 1), (1.9, 1), (2.1, 0), (60, 0)])
def test_only_what_was_committed_in_the_last_two_minutes_is_decoded(tmp_path, minutes_apart, looked_at):
    filled(tmp_path, minutes_apart=minutes_apart)
    killed(tmp_path)
    spoil(field_folder(tmp_path) / DERIVED[0], b"")  # of the last frame but one
    assert sum(report.derived for report in opened(tmp_path).recovered) == looked_at


def test_a_reduced_level_from_before_a_late_channel_is_made_again(tmp_path):
    store = open_store(tmp_path, plans=PLANS)
    first = record(channels=("channel-0",), shape=(1, 12, 18))
    store.append(first)
    older = {name: (field_folder(tmp_path) / name).read_bytes() for name in ("0/c.0.0.0.0", "1/c.0.0.0.0")}
    late = np.full((1, 12, 18), 7, dtype=np.uint16)
    files = (FileRef("late.tif", 1, 2, "e" * 64),)
    store.attach(Frame(key(), START, late, ("channel-1",), (0.322, 0.322), files))
    store.close()
    newer = (field_folder(tmp_path) / "1/c.0.0.0.0").read_bytes()
    (field_folder(tmp_path) / "1/c.0.0.0.0").write_bytes(older["1/c.0.0.0.0"])  # its rename never reached the disk
    killed(tmp_path)
    [report] = opened(tmp_path).recovered
    assert report.derived == 1
    assert (field_folder(tmp_path) / "1/c.0.0.0.0").read_bytes() == newer


def test_a_shard_may_hold_a_channel_that_no_line_names(tmp_path):
    """A crash fell between the shard's rename and the journal's line: the channel is attached again, and once."""
    store = open_store(tmp_path, plans=PLANS)
    store.append(record(channels=("channel-0",), shape=(1, 12, 18)))
    journal = tmp_path / "scope/240301_run/Plate 1.zarr/journal.jsonl"
    before = journal.read_bytes()
    late = np.full((1, 12, 18), 7, dtype=np.uint16)
    frame = Frame(key(), START, late, ("channel-1",), (0.322, 0.322), (FileRef("late.tif", 1, 2, "e" * 64),))
    store.attach(frame)
    store.close()
    journal.write_bytes(before)
    killed(tmp_path)
    store = open_store(tmp_path, plans=PLANS)
    assert store.recovered == ()
    assert store.ledger.frame(key()).channels == ("channel-0",)
    assert not store.ledger.is_done("scope", "late.tif", 1, 2)
    store.attach(frame)
    assert store.ledger.frame(key()).channels == ("channel-0", "channel-1")
    store.close()
    assert opened(tmp_path).recovered == ()
    pixels = zarr.open_group(field_folder(tmp_path), mode="r")["0"][0]
    np.testing.assert_array_equal(pixels[1], late[0])


@pytest.mark.parametrize("how", [None, b"no shard"], ids=["absent", "damaged"])
def test_without_a_whole_full_level_nothing_is_made_and_it_is_told(tmp_path, how):
    filled(tmp_path)
    spoil(field_folder(tmp_path) / "1/c.2.0.0.0", None)
    spoil(field_folder(tmp_path) / "0/c.2.0.0.0", how)
    [report] = opened(tmp_path).recovered
    assert report.derived == 0
    assert report.missing == (2 if how is None else 1)
    assert not (field_folder(tmp_path) / "1/c.2.0.0.0").exists()


def test_what_retention_dropped_or_repair_gave_up_is_not_made_again(tmp_path):
    filled(tmp_path)
    store = open_store(tmp_path)
    dropped = {"kind": "dropped", "series": list(SERIES), "t": 1, "tiers": ["pixels"], "why": "age"}
    lost = {"kind": "lost", "key": [*SERIES, "A1", "1", 2], "revision": 0, "t": 2, "why": "damaged"}
    store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"} for line in (dropped, lost)])
    for name in ("0/c.1.0.0.0", "1/c.1.0.0.0", "0/c.2.0.0.0", "1/c.2.0.0.0"):
        (field_folder(tmp_path) / name).unlink()
    store.close()
    killed(tmp_path)
    assert opened(tmp_path).recovered == ()


def test_a_full_disk_keeps_no_store_from_opening_for_a_reduced_level(tmp_path, monkeypatch):
    filled(tmp_path)
    killed(tmp_path)
    absent, torn = (field_folder(tmp_path) / name for name in DERIVED)
    before = {path: spoil(path, how) for path, how in ((absent, None), (torn, b"torn"))}

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        [report] = opened(tmp_path).recovered
    assert (report.derived, report.missing) == (0, 2)
    [report] = opened(tmp_path).recovered  # closed cleanly, but what had no room is seen to be absent
    assert report.derived == 2
    assert {path: path.read_bytes() for path in before} == before
