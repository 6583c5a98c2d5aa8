"""Retention on real stores: what goes, what stays, what readers see, and what a crash in between leaves."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import random
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from ome_zarr_models import open_ome_zarr
from prometheus_client import CollectorRegistry

from cellvigil import config
from cellvigil.errors import StoreError, StoreFull
from cellvigil.journal import read
from cellvigil.ledger import TIERS
from cellvigil.metrics import Metrics, StoreMetrics
from cellvigil.service.keeper import ANNOUNCED, NAME, Keeper, kept
from cellvigil.store import dropping, gone, retention
from cellvigil.store.dropping import drop, drop_orphans
from cellvigil.store.reader import read_ledger
from cellvigil.store.repair import check
from cellvigil.store.retention import AGE, Drop
from cellvigil.store.writer import Store, open_store
from store_records import PROFILE, SERIES, key, record
from test_store_recovery import plate_folder

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, 6, tzinfo=UTC)
OTHER = ("scope", "240301_run", "Plate 2")
TABLES = {
    "measurements": ("cells/features", "cells/calls-abababababab", PROFILE),
    "embeddings": ("cells/embedding-lite0",),
}


class Clock:
    """The time of commits, moved by hand."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def filled(path: Path, clock: Clock, *, times: int = 3, series: Any = SERIES, wells: tuple[str, ...] = ("A1", "B2")):
    """An open store with a time point a day."""
    store = open_store(path, now=clock)
    fill(store, clock, times=times, series=series, wells=wells)
    return store


def fill(store: Store, clock: Clock, *, times: int = 3, series: Any = SERIES, wells: tuple[str, ...] = ("A1", "B2")):
    for timepoint in range(times):
        for well in wells:
            store.append(record(key(well, timepoint, series=series)))
        store.publish(series)
        clock.at += DAY


def keeper_of(store: Store, **rules: Any) -> Keeper:
    settings = config.Store(retention=config.Retention(**{"warn_hours": 0, **rules}), min_free_mb=0)
    return Keeper(store, settings, StoreMetrics(CollectorRegistry()))


def chunks(path: Path, slot: int) -> set[str]:
    """The arrays that have a chunk of a slot, over all fields."""
    found = plate_folder(path).rglob(f"c.{slot}.*")
    return {one.parent.relative_to(plate_folder(path) / "A/1/0").as_posix() for one in found if "A/1/0" in str(one)}


def assert_valid(folder: Path) -> None:
    yaozarrs.validate_zarr_store(str(folder))
    open_ome_zarr(zarr.open_group(folder, mode="r"))


ARRAYS = {
    "pixels": {"0", "1"},
    "labels": {"labels/cells/0", "labels/cells/1"},
    **{tier: set(names) for tier, names in TABLES.items()},
}


@pytest.mark.parametrize("tier", TIERS)
def test_each_tier_goes_alone_and_reads_as_fill_value(tmp_path, tier):
    clock = Clock()
    store = filled(tmp_path, clock)
    keeper_of(store, **{f"{tier}_days": 2.5}).look(clock.at)
    everything = set.union(*ARRAYS.values())
    assert chunks(tmp_path, 0) == everything - ARRAYS[tier]
    assert chunks(tmp_path, 1) == chunks(tmp_path, 2) == everything
    assert store.ledger.dropped(SERIES, 0) == {tier}
    assert store.ledger.units(SERIES)[0].sizes[tier] == 0
    store.close()
    field = zarr.open_group(plate_folder(tmp_path), mode="r")["B/2/0"]
    for array in ARRAYS[tier]:
        first, later = field[array][0], field[array][1]
        assert np.isnan(first).all() if "cells/" in array and "labels" not in array else not first.any()
        assert np.nansum(later) > 0 or array == "labels/cells/1"  # single pixels: none need be left of them
    assert_valid(plate_folder(tmp_path))
    again = open_store(tmp_path)
    assert again.recovered == ()
    assert again.ledger.dropped(SERIES, 0) == {tier}
    assert again.ledger.well_times(SERIES) == store.ledger.well_times(SERIES)
    again.close()


def test_the_journal_says_so_before_a_chunk_goes(tmp_path, monkeypatch):
    clock = Clock()
    store = filled(tmp_path, clock)
    seen: list[Any] = []

    def unlink(paths: list[Path]) -> None:
        seen.append([line for line in read(plate_folder(tmp_path) / "journal.jsonl") if line["kind"] == "dropped"])
        assert all(path.exists() for path in paths)

    monkeypatch.setattr(dropping, "unlink_all", unlink)
    keeper_of(store, pixels_days=2.5).look(clock.at)
    [[line]] = seen
    assert (line["series"], line["t"], line["tiers"], line["why"]) == ([*SERIES], 0, ["pixels"], "age")
    store.close()


def test_a_pinned_plate_keeps_all(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    fill(store, clock, series=OTHER)
    rules = {"pixels_days": 1, "labels_days": 1, "counts_days": 1, "max_gb": 1e-6, "pins": ("*/Plate 1",)}
    keeper_of(store, **rules).look(clock.at + 30 * DAY)
    assert chunks(tmp_path, 0) == chunks(tmp_path, 2) == set.union(*ARRAYS.values())
    assert store.ledger.is_gone(OTHER)
    assert not store.ledger.is_gone(SERIES)
    store.close()


def test_what_comes_to_a_dropped_time_point_is_kept_in_a_slot_of_its_own(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    keeper_of(store, pixels_days=2.5).look(clock.at)
    late = store.append(record(key("C3", 0)))
    assert late.t == 3
    store.publish(SERIES, overdue=99)
    store.close()
    again = open_store(tmp_path)
    assert again.recovered == ()
    assert again.append(record(key("D4", 0))).t == 3
    again.close()
    shown = zarr.open_group(plate_folder(tmp_path), mode="r")["C/3/0/0"]
    np.testing.assert_array_equal(shown[3], record(key("C3", 0)).frame.pixels)


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", [0, 1, 3])
def test_opening_finishes_what_a_crash_cut_off(tmp_path, monkeypatch, after):
    clock = Clock()
    store = filled(tmp_path, clock)
    real, count = os.unlink, iter(range(99))

    def unlink(path: Any) -> None:
        if next(count) >= after:
            raise Cut
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(dropping.os, "unlink", unlink)
        with pytest.raises(Cut):
            keeper_of(store, pixels_days=2.5, labels_days=1.5).look(clock.at)
    left = len(list(plate_folder(tmp_path).rglob("c.0.*")))
    assert left == 16 - after
    store._store_lock.release()
    again = open_store(tmp_path)
    everything = set.union(*ARRAYS.values())
    assert chunks(tmp_path, 0) == everything - ARRAYS["pixels"] - ARRAYS["labels"]
    assert chunks(tmp_path, 1) == everything - ARRAYS["labels"]
    assert chunks(tmp_path, 2) == everything
    assert not (tmp_path / ".orphans").exists()
    again.close()
    assert_valid(plate_folder(tmp_path))


def killed(work: Callable[[], None]) -> None:
    """Run `work` in a process that ends with SIGKILL."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(3)  # it was to be killed before
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


@pytest.mark.parametrize("where", ["unlink", "rename", "rmtree"])
def test_kill_9_in_the_midst_leaves_what_the_next_opening_finishes(tmp_path, monkeypatch, where):
    clock = Clock()
    store = filled(tmp_path, clock)
    fill(store, clock, series=OTHER)
    store.close()

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        if where == "unlink":
            dropping.os.unlink = die  # type: ignore[assignment]
        elif where == "rename":
            gone._hide = die  # type: ignore[assignment]
        else:
            gone.shutil.rmtree = die  # type: ignore[assignment]
        store = open_store(tmp_path, now=clock)
        rules = {"pixels_days": 4.5} if where == "unlink" else {"counts_days": 2.9}
        keeper_of(store, **rules).look(clock.at)

    killed(work)
    store = open_store(tmp_path, now=clock)
    if where == "unlink":
        assert chunks(tmp_path, 0) == set.union(*ARRAYS.values()) - ARRAYS["pixels"]
    else:
        assert store.ledger.is_gone(SERIES)
        assert not plate_folder(tmp_path).exists()
        assert store.ledger.series() == (OTHER,)
    keeper_of(store).look(clock.at)
    store.close()
    assert list(tmp_path.glob(".dropping.*")) == []
    assert_valid(tmp_path / "scope" / "240301_run" / "Plate 2.zarr")


def test_a_plate_goes_whole_and_stays_known(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    fill(store, clock, series=OTHER)
    keeper = keeper_of(store, counts_days=2.9)
    keeper.look(clock.at)
    assert not plate_folder(tmp_path).exists()
    assert store.ledger.series() == (OTHER,)
    assert store.publish(SERIES) == 0
    store.close()
    again = open_store(tmp_path)
    assert again.ledger.is_gone(SERIES)
    assert not again.ledger.is_gone(OTHER)
    assert len(again.ledger.frames(OTHER)) == 6
    again.close()
    assert read_ledger(tmp_path).series() == (OTHER,)


def look_on(folder: str, started: Any, halt: Any, answers: Any) -> None:
    """A reader in a process of its own: every slot is a frame's own pixels, or black."""
    problems, looks = [], 0
    expected = {(w, t): record(key(w, t)).frame.pixels for w in ("A1", "B2") for t in range(12)}
    while not halt.is_set():
        group = zarr.open_group(folder, mode="r")
        for well, path in (("A1", "A/1/0"), ("B2", "B/2/0")):
            for t in range(group[path]["0"].shape[0]):
                pixels = group[path]["0"][t]
                if pixels.any() and not np.array_equal(pixels, expected[well, t]):
                    problems.append(f"{well} {t}")
        looks += 1
        started.set()
    answers.put((looks, problems))


def test_readers_see_a_frame_or_black_while_it_goes(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock, times=12)
    context = multiprocessing.get_context("spawn")
    started, halt, answers = context.Event(), context.Event(), context.Queue()
    reader = context.Process(target=look_on, args=(str(plate_folder(tmp_path)), started, halt, answers))
    reader.start()
    assert started.wait(30)
    for days in range(11, 0, -1):
        keeper_of(store, pixels_days=days, labels_days=days).look(clock.at)
    reader.join(0.5)
    halt.set()
    looks, problems = answers.get(timeout=30)
    reader.join()
    store.close()
    assert looks > 1
    assert problems == []
    assert not list(plate_folder(tmp_path).glob("A/1/0/0/c.0.*"))
    assert_valid(plate_folder(tmp_path))


def watch(keeper: Keeper, since: datetime, hours: float) -> None:
    """Look every six hours, and at the end."""
    for step in range(int(hours) // 6 + 1):
        keeper.look(since + timedelta(hours=6 * step))
    keeper.look(since + timedelta(hours=hours))


def announced(path: Path) -> list[tuple[str, str]]:
    return [(line["kind"], line["why"]) for line in read(path / ANNOUNCED)]


def test_nothing_goes_before_its_warning_has_stood_and_a_restart_does_not_begin_anew(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    rules = {"max_gb": 1e-6, "warn_hours": 24}
    at = clock.at
    watch(keeper_of(store, **rules), at, 23)
    assert store.ledger.dropped(SERIES, 0) == frozenset()
    store.close()
    store = open_store(tmp_path)
    keeper_of(store, **rules).look(at + timedelta(hours=24))
    assert store.ledger.dropped(SERIES, 0) == frozenset(TIERS)
    assert announced(tmp_path) == [("warned", "size")]
    keeper_of(store, max_gb=1000, warn_hours=24).look(at + timedelta(hours=25))
    assert announced(tmp_path) == [("warned", "size"), ("cleared", "size")]
    store.close()


@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_that_jumps_and_a_service_that_was_off_begin_the_warning_anew(tmp_path, restart):
    clock = Clock()
    store = filled(tmp_path, clock)
    keeper = keeper_of(store, pixels_days=3.5, warn_hours=24)
    keeper.look(clock.at)  # announced: due in 12 hours
    years = clock.at + timedelta(days=3650)
    if restart:
        store.close()
        store = open_store(tmp_path)
        keeper = keeper_of(store, pixels_days=3.5, warn_hours=24)
    watch(keeper, years, 23)
    assert store.ledger.dropped(SERIES, 0) == frozenset()
    assert announced(tmp_path) == [("warned", "age")] * 2
    keeper.look(clock.at + timedelta(hours=12))  # the clock is right again
    assert store.ledger.dropped(SERIES, 0) == frozenset()
    watch(keeper, clock.at + timedelta(hours=12), 23)
    assert store.ledger.dropped(SERIES, 0) == frozenset()  # it was not announced by a clock that was right
    keeper.look(clock.at + timedelta(hours=36))
    assert store.ledger.dropped(SERIES, 0) == {"pixels"}
    store.close()


def test_a_tighter_limit_is_announced_anew(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    watch(keeper_of(store, pixels_days=3.5, warn_hours=24), clock.at, 11)
    watch(keeper_of(store, pixels_days=1.5, warn_hours=24), clock.at + timedelta(hours=11), 23)
    assert store.ledger.dropped(SERIES, 0) == frozenset()
    keeper_of(store, pixels_days=1.5, warn_hours=24).look(clock.at + timedelta(hours=36))
    assert store.ledger.dropped(SERIES, 0) == {"pixels"}
    store.close()


def test_metrics_tell(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    registry = CollectorRegistry()
    settings = config.Store(retention=config.Retention(pixels_days=2.5, warn_hours=24), min_free_mb=0)
    keeper = Keeper(store, settings, StoreMetrics(registry))

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"cellvigil_{name}", labels)

    start = clock.at - timedelta(hours=13)
    keeper.look(start)
    whole = sample("store_bytes", kind="pixels")
    on_disk = sum(path.stat().st_size for level in "01" for path in tmp_path.rglob(f"{level}/c.*.0.0.0"))
    assert whole == on_disk
    assert sample("store_bytes", kind="journal") == (plate_folder(tmp_path) / "journal.jsonl").stat().st_size
    assert sample("retention_due_bytes", why="age") == pytest.approx(whole / 3, rel=0.1)
    assert sample("retention_warned_timestamp_seconds", why="age") == start.timestamp()
    assert sample("retention_warned_timestamp_seconds", why="size") is None
    assert sample("retention_dropped_units_total", tier="pixels", why="age") == 0
    assert 0 < sample("store_floor_seconds") < float("inf")
    watch(keeper, start, 24)
    assert sample("retention_dropped_units_total", tier="pixels", why="age") == 1
    assert sample("store_bytes", kind="pixels") < whole
    assert sample("store_floor_seconds") == float("inf")
    watch(keeper, start + DAY, 72)
    assert sample("retention_dropped_units_total", tier="pixels", why="age") == 3
    assert sample("store_bytes", kind="pixels") == 0
    assert sample("retention_due_bytes", why="age") == 0
    assert sample("retention_warned_timestamp_seconds", why="age") is None
    store.close()


def test_a_disk_that_fails_is_told_and_tried_again(tmp_path, monkeypatch):
    clock = Clock()
    store = filled(tmp_path, clock)
    registry = CollectorRegistry()
    settings = config.Store(retention=config.Retention(pixels_days=2.5, warn_hours=0), min_free_mb=0)
    keeper = Keeper(store, settings, StoreMetrics(registry))

    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(dropping.os, "unlink", refuse)
        keeper.look(clock.at)
    assert registry.get_sample_value("cellvigil_retention_failures_total") == 1
    keeper.look(clock.at)
    assert chunks(tmp_path, 0) == set.union(*ARRAYS.values()) - ARRAYS["pixels"]
    assert registry.get_sample_value("cellvigil_retention_failures_total") == 1
    store.close()


@pytest.mark.parametrize("good", [0, 1, 2])
def test_stopping_ends_between_units_and_what_was_begun_is_finished(tmp_path, good):
    clock = Clock()
    store = filled(tmp_path, clock)
    drops = [Drop(SERIES, slot, ("pixels",), AGE, 1) for slot in range(3)]
    asked = iter(range(99))
    begun: list[Drop] = []
    done = [one for some in drop(store, drops, begun, now=clock.at, going=lambda: next(asked) < good) for one in some]
    assert (len(done), len(begun)) == (max(0, good - 1), 0 if good == 0 else 4 - good)
    assert [len(chunks(tmp_path, one.t) & {"0", "1"}) for one in done] == [0] * len(done)
    assert [len(chunks(tmp_path, one.t) & {"0", "1"}) for one in begun] == [2] * len(begun)
    store.close()
    store = open_store(tmp_path)
    assert [len(chunks(tmp_path, one.t) & {"0", "1"}) for one in begun] == [0] * len(begun)
    store.close()


def test_orphans_go_when_they_have_lain_long_enough_but_not_a_pinned_plates(tmp_path):
    for plate in ("Plate 1", "Plate 2"):
        folder = tmp_path / ".orphans/scope/exp" / f"{plate}.zarr" / "A/1/0/0"
        folder.mkdir(parents=True)
        (folder / "c.3.0.0.0").write_bytes(b"chunk")
        os.utime(folder / "c.3.0.0.0", (0, 0))  # written long ago, moved aside just now
    now = datetime.now(UTC)
    rules = config.Retention(orphans_days=30, pins=("scope/exp/Plate 1",))
    assert drop_orphans(tmp_path, rules, now=now + 29 * DAY) == 0
    assert drop_orphans(tmp_path, rules.model_copy(update={"orphans_days": None}), now=now + 99 * DAY) == 0
    assert drop_orphans(tmp_path, rules, now=now + 31 * DAY) == 1
    assert [path.parts[-6] for path in tmp_path.rglob("c.3.*")] == ["Plate 1.zarr"]
    assert not (tmp_path / ".orphans/scope/exp/Plate 2.zarr").exists()


def test_a_plate_that_is_not_there_cannot_be_journaled(tmp_path):
    store = open_store(tmp_path)
    with pytest.raises(ValueError, match="no plate"):
        store.journal_lines(SERIES, [{"kind": "dropped"}])
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.leave(SERIES)


def test_room_is_made_while_writing_waits_for_it(tmp_path):
    clock = Clock()
    filled(tmp_path, clock).close()
    store = open_store(tmp_path, now=clock, min_free_mb=1e12)  # less room than is asked for, whatever the disk
    with pytest.raises(StoreFull):
        store.append(record(key("A1", 9)))
    keeper_of(store, free_floor_gb=1e9).look(clock.at)
    assert [store.ledger.dropped(SERIES, slot) for slot in range(3)] == [frozenset(TIERS)] * 3
    assert list(tmp_path.rglob("c.*.0")) == []
    assert len(store.ledger.frames(SERIES)) == 6
    store.close()


def test_a_deleted_plate_begins_anew_with_newer_files_only(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    newest = max(ref.mtime_ns for frame in store.ledger.frames(SERIES) for ref in frame.files)
    store.note_files(key("A1", 0), [replace(record(key("A1", 0)).frame.files[0], mtime_ns=newest + 50)])
    keeper_of(store, counts_days=2.9).look(clock.at + 9 * DAY)
    assert store.ledger.frames(SERIES) == []
    for _ in range(2):
        assert store.ledger.was_deleted(SERIES, newest + 50)
        assert not store.ledger.was_deleted(SERIES, newest + 51)
        assert not store.ledger.was_deleted(OTHER, newest)
        assert store.ledger.is_gone(SERIES)
        store.close()
        store = open_store(tmp_path, now=clock)
    assert store.append(record(key("A1", 7))).t == 0
    store.publish(SERIES)
    for _ in range(2):
        assert not store.ledger.is_gone(SERIES)
        assert store.ledger.was_deleted(SERIES, newest + 50)
        assert [frame.key for frame in store.ledger.frames(SERIES)] == [key("A1", 7)]
        assert len(store.ledger.bundles(SERIES)) == 1
        store.close()
        store = open_store(tmp_path, now=clock)
        assert store.recovered == ()
    store.close()
    assert_valid(plate_folder(tmp_path))


def test_a_frame_done_again_after_its_line_went_bad_gets_no_slot_that_was_dropped(tmp_path):
    clock = Clock()
    filled(tmp_path, clock, times=1, wells=("A1",)).close()
    store = open_store(tmp_path, now=clock)
    list(drop(store, [Drop(SERIES, 0, ("pixels",), AGE, 1)], [], now=clock.at, going=lambda: True))
    store.close()
    journal = plate_folder(tmp_path) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"counted"', b'"cOunted"'))
    store = open_store(tmp_path, now=clock)
    assert [len(report.skipped_lines) for report in store.recovered] == [1]
    assert store.append(record(key("A1", 0))).t == 1
    store.close()
    again = open_store(tmp_path)
    assert [(report.dropped, report.missing) for report in again.recovered] == [(0, 0)]
    assert again.ledger.dropped(SERIES, 1) == frozenset()
    again.close()
    assert chunks(tmp_path, 1) >= ARRAYS["pixels"]


def test_a_frame_that_comes_while_its_units_going_is_planned_is_kept(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    planned = [Drop(SERIES, slot, ("pixels",), AGE, 1) for slot in (0, 1)]
    done = store.append(record(key("C3", 0)))  # a well that was not there: it joins slot 0
    assert done.t == 0
    gone_now = [one for some in drop(store, planned, [], now=clock.at - DAY, going=lambda: True) for one in some]
    assert [one.t for one in gone_now] == [1]
    assert store.ledger.dropped(SERIES, 0) == frozenset()
    assert chunks(tmp_path, 0) >= ARRAYS["pixels"]
    store.close()


def test_a_plate_to_which_a_frame_comes_while_its_going_is_planned_stays(tmp_path):
    clock = Clock()
    store = filled(tmp_path, clock)
    planned = clock.at
    clock.at += timedelta(seconds=1)
    store.append(record(key("A1", 7)))
    assert not store.leave(SERIES, planned=planned)
    assert not store.ledger.is_gone(SERIES)
    assert store.leave(SERIES, planned=clock.at)
    store.close()


def test_a_plate_that_could_not_be_put_out_of_sight_loses_nothing_that_comes_after(tmp_path, monkeypatch):
    clock = Clock()
    store = filled(tmp_path, clock)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as stubborn:
        stubborn.setattr(Path, "rename", refuse)
        with pytest.raises(StoreError, match="out of sight"):
            store.leave(SERIES)
    assert plate_folder(tmp_path).exists()
    assert store.append(record(key("A1", 7))).t == 0  # begins the plate anew
    store.close()
    again = open_store(tmp_path)
    assert again.recovered == ()
    assert [frame.key for frame in again.ledger.frames(SERIES)] == [key("A1", 7)]
    again.close()
    assert len(list(tmp_path.glob(".dropping.*"))) == 1
    assert_valid(plate_folder(tmp_path))


def test_the_service_does_not_wait_for_a_disk_that_hangs(tmp_path, monkeypatch):
    clock = Clock()
    store = filled(tmp_path, clock)
    entered, go_on, real, left = threading.Event(), threading.Event(), os.statvfs, []

    def statvfs(path: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", statvfs)
        with kept(store, config.Store(), Metrics(CollectorRegistry()), stopping=threading.Event(), left=left):
            assert entered.wait(30)
        assert left == [NAME]
        go_on.set()
        [thread] = [thread for thread in threading.enumerate() if thread.name == NAME]
        thread.join(30)
        assert not thread.is_alive()
    store.close()


def test_a_look_that_fails_unexpectedly_is_told_and_the_next_one_goes_on(tmp_path, monkeypatch, caplog):
    clock = Clock()
    store = filled(tmp_path, clock)
    real, looks, again = retention.pressing, [], threading.Event()

    def pressing(*given: Any) -> Any:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("nobody thought of this")
        again.set()
        return real(*given)

    monkeypatch.setattr(retention, "pressing", pressing)
    monkeypatch.setattr("cellvigil.service.keeper._PACE_S", 0.01)
    monkeypatch.setattr(logging.getLogger("cellvigil"), "propagate", True)
    with kept(store, config.Store(), Metrics(CollectorRegistry()), stopping=threading.Event(), left=[]) as keeper:
        assert again.wait(30)
        assert keeper.failures._value.get() == 1
    assert "nobody thought of this" in caplog.text
    store.close()


def test_the_service_looks_at_once_and_ends_at_once(tmp_path):
    clock = Clock(datetime.now(UTC) - 9 * DAY)
    store = filled(tmp_path, clock)
    settings = config.Store(retention=config.Retention(pixels_days=2, warn_hours=0))
    left: list[str] = []
    metrics = Metrics(CollectorRegistry())
    with kept(store, settings, metrics, stopping=threading.Event(), left=left):
        until = time.monotonic() + 30
        while not metrics.registry.get_sample_value("cellvigil_store_bytes", {"kind": "labels"}):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert left == []
    assert chunks(tmp_path, 2) == set.union(*ARRAYS.values()) - ARRAYS["pixels"]
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of six megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_room_is_made_on_a_disk_that_another_program_filled_to_the_last_byte(small_disk):
    clock = Clock()
    path = small_disk / "store"
    store = filled(path, clock, times=40, wells=("A1",))
    keeper = keeper_of(store, free_floor_gb=1e-9)
    keeper.look(clock.at)
    assert (path / ".reserve").stat().st_size == 1 << 20
    with contextlib.suppress(OSError), (small_disk / "other").open("wb", buffering=0) as other:
        while other.write(bytes(1024)):
            pass
    with pytest.raises(StoreFull):
        store.append(record(key("A1", 99)))
    store.close()
    store = open_store(path, now=clock)
    assert store.recovered == ()
    (path / ".reserve").rename(small_disk / "elsewhere")
    keeper = keeper_of(store, free_floor_gb=3e-3)
    keeper.look(clock.at)
    assert not any(unit.dropped for unit in store.ledger.units(SERIES))  # not a line can be written
    (small_disk / "elsewhere").rename(path / ".reserve")
    keeper.look(clock.at)
    assert len({unit.t for unit in store.ledger.units(SERIES) if unit.dropped == set(TIERS)}) == 40
    assert store.append(record(key("A1", 99))).t == 40
    (small_disk / "other").unlink()
    keeper.look(clock.at)
    assert (path / ".reserve").exists()
    store.close()
    assert check(path).lost == ()


def write_and_drop(path: Path, told: int) -> None:
    """Commit a frame every six hours of a clock that runs ahead, and let retention go after it, without an end."""
    clock = Clock()
    store = open_store(path, now=clock)
    keeper = keeper_of(store, pixels_days=1, labels_days=1.5, measurements_days=2, counts_days=400)
    first = max((frame.key.timepoint for frame in store.ledger.frames(SERIES)), default=0)
    for timepoint in range(first, 10_000):
        clock.at = START + timepoint * timedelta(hours=6)
        for well in ("A1", "B2"):
            store.append(record(key(well, timepoint)))
            os.write(told, f"{well} {timepoint}\n".encode())
        store.publish(SERIES)
        keeper.look(clock.at)


def test_kill_9_at_random_moments_while_retention_deletes(tmp_path):
    moments = random.Random(5)
    told: list[str] = []
    for _ in range(10):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                write_and_drop(tmp_path, writing)
            finally:
                os._exit(3)
        os.close(writing)
        select.select([reading], [], [], 20)
        time.sleep(moments.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        with os.fdopen(reading) as lines:
            told += [line.strip() for line in lines if line.endswith("\n")]
        open_store(tmp_path).close()
        report = check(tmp_path)
        assert (report.lost, report.derived, report.strays, report.leftovers) == ((), 0, 0, 0)
    ledger = read_ledger(tmp_path)
    assert {f"{frame.key.well} {frame.key.timepoint}" for frame in ledger.frames(SERIES)} >= set(told)
    lines = [line for line in read(plate_folder(tmp_path) / "journal.jsonl") if line["kind"] == "frame"]
    assert len({(*line["key"], line["revision"]) for line in lines}) == len(lines)
    units = ledger.units(SERIES)
    assert sum("pixels" in unit.dropped for unit in units) > 3
    for unit in units:
        kept = {array for tier in TIERS if tier not in unit.dropped for array in ARRAYS[tier]}
        assert chunks(tmp_path, unit.t) == kept
    assert_valid(plate_folder(tmp_path))
