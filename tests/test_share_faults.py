"""The share goes away, five times in a row, in every way that shares do: nothing is lost, doubled or put aside.

Faults are injected where they happen, in the system calls of this process below the watched folder; files are real and
are read. The service around it (threads, the desk's patience) stands in the last tests.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cellvigil import config
from cellvigil.service.serve import once
from feed_lab import FeedLab
from lab import Lab
from source_files import write_gen5

FAULTS = ["ENOENT", "ESTALE", "EIO", "EBUSY", "EACCES"]
PLATE = "240301_180000_Rehearsal/240301_180005_Plate 1"
TIMEOUT = 100.0


@dataclass
class Share:
    """Makes the calls on paths below `root` fail while `code` is set."""

    root: str
    monkeypatch: pytest.MonkeyPatch
    code: int = 0
    listing: bool = True  # also the listing fails, not only what is opened
    below: str = ""  # a folder in it that alone is broken
    calls: list[str] = field(default_factory=list)  # that failed
    listed: threading.Event = field(default_factory=threading.Event)  # somebody listed a folder of it

    def __post_init__(self) -> None:
        for module, name, listing in (
            (os, "scandir", True), (os, "stat", False), (os, "open", False), (io, "open", False)
        ):  # fmt: skip
            self.monkeypatch.setattr(module, name, self._failing(getattr(module, name), name, listing))

    def _failing(self, real: Callable[..., Any], name: str, listing: bool) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            inside = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root + self.below)
            if self.code and inside and (self.listing or not listing):
                self.calls.append(name)
                raise OSError(self.code, os.strerror(self.code), os.fspath(path))
            if inside and listing:
                self.listed.set()
            return real(path, *args, **options)

        return call

    @contextlib.contextmanager
    def broken(self, code: int, *, listing: bool = True, below: str = "") -> Iterator[None]:
        self.code, self.listing, self.below = code, listing, below
        yield
        self.code = 0


@pytest.fixture
def lab(tmp_path: Path) -> FeedLab:
    channels = {"segment": "Bright Field", "required": ["GFP"]}
    return FeedLab(tmp_path, channels=channels, frame_timeout_s=TIMEOUT)


def shoot(lab: FeedLab, number: int, channel: str = "Bright Field", well: str = "A1") -> Path:
    return write_gen5(lab.folder / PLATE / f"{well}_01_1_1_{channel}_{number:03d}.tif")


def sources_log(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("cellvigil"), "propagate", True)
    caplog.set_level(logging.INFO, logger="cellvigil")
    return caplog


def _moved_away(lab: FeedLab, *, empty: bool) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def gone() -> Iterator[None]:
        elsewhere = lab.folder.with_name("unmounted")
        lab.folder.rename(elsewhere)
        if empty:
            lab.folder.mkdir()
        yield
        if empty:
            lab.folder.rmdir()
        elsewhere.rename(lab.folder)

    return gone()


@pytest.mark.parametrize("fault", [*FAULTS, "gone", "empty"])
def test_a_folder_that_is_away_costs_nothing_however_long(
    lab: FeedLab, fault: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """At every outage one frame is committed, one half there, one complete and waiting, one file still settling."""
    share = Share(str(lab.folder), monkeypatch)
    shoot(lab, 100), shoot(lab, 100, "GFP")
    for outage in range(5):
        first = 1 + 3 * outage
        shoot(lab, first)
        shoot(lab, first + 1), shoot(lab, first + 1, "GFP")
        lab.look(3)
        shoot(lab, first + 2)
        lab.look()
        backlog = lab.feed.backlog
        away = _moved_away(lab, empty=fault == "empty") if fault in {"gone", "empty"} else None
        with away or share.broken(getattr(errno, fault)):
            lab.look(4)
            lab.now += 3 * TIMEOUT
            lab.look(4)
            assert lab.feed.out_of_sight
            assert lab.feed.peek() is None  # nothing is handed out that cannot be read
            assert lab.feed.backlog == backlog
        lab.settle()
        assert not lab.feed.out_of_sight
        assert len(lab.committed) == 2 + 3 * outage  # the others wait on, as if no time had passed
        shoot(lab, first, "GFP"), shoot(lab, first + 2, "GFP")
        lab.settle()
    assert sorted(lab.times()) == [("A1", timepoint, 0) for timepoint in (*range(15), 99)]
    assert {change for _, _, change in lab.committed} == {"new"}
    assert (lab.refused, lab.stalled) == ({}, [])
    assert sources_log(log, "is away") == sources_log(log, "is back") == 5
    if away is None:
        assert "scandir" in share.calls


@pytest.mark.parametrize("fault", FAULTS)
def test_a_subfolder_that_cannot_be_listed_keeps_its_files(
    lab: FeedLab, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(str(lab.folder), monkeypatch)
    elsewhere = write_gen5(lab.folder / "240301_180000_Rehearsal/240301_180005_Plate 2/A1_01_1_1_GFP_001.tif")
    write_gen5(elsewhere.with_name("A1_01_1_1_Bright Field_001.tif"))
    lab.settle()
    lab.committed.clear()
    for outage in range(5):
        shoot(lab, outage + 1)
        lab.look(3)
        with share.broken(getattr(errno, fault), below=f"/{PLATE}"):
            lab.look(4)
            assert lab.feed.unfinished == 1
        shoot(lab, outage + 1, "GFP")
        lab.settle()
    assert lab.times() == [("A1", timepoint, 0) for timepoint in range(5)]
    assert {change for _, _, change in lab.committed} == {"new"}
    assert lab.refused == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stale_listing_names_files_that_do_not_open_for_a_while(
    lab: FeedLab, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(str(lab.folder), monkeypatch)
    for outage in range(5):
        shoot(lab, outage + 1), shoot(lab, outage + 1, "GFP")
        with share.broken(getattr(errno, fault), listing=False):
            lab.look(6)  # settled, listed, and not opened
            assert (lab.work(), lab.feed.backlog, lab.feed.unfinished) == (0, 0, 2)
        lab.look()
        with share.broken(getattr(errno, fault), listing=False):
            assert (lab.work(), lab.feed.backlog) == (0, 1)  # it was found whole, and does not open when it is read
        lab.look()
        assert lab.work() == 1
    assert lab.times() == [("A1", timepoint, 0) for timepoint in range(5)]
    assert lab.refused == {}


def test_a_file_that_did_not_open_before_an_outage_has_all_its_time_after_it(
    lab: FeedLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(str(lab.folder), monkeypatch)
    shoot(lab, 1), shoot(lab, 1, "GFP")
    with share.broken(errno.EIO, listing=False):
        lab.look(4)
        lab.now += 0.8 * TIMEOUT
        lab.look()
    with share.broken(errno.EIO):
        lab.look(2)
        lab.now += 10 * TIMEOUT
        lab.look(2)
    with share.broken(errno.EIO, listing=False):
        lab.look()
        assert lab.feed.unfinished == 2
    lab.look()
    assert (lab.work(), lab.refused) == (1, {})


def test_a_frame_whose_files_did_not_open_before_an_outage_has_all_its_time_after_it(
    lab: FeedLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(str(lab.folder), monkeypatch)
    shoot(lab, 1), shoot(lab, 1, "GFP")
    lab.look(3)
    first = lab.feed.peek()
    assert first is not None
    lab.feed.claim(first.files.key)
    assert lab.feed.failing_since(first, lab.now) == lab.now
    inside = replace(first, failing=lab.now)  # as the desk notes it, while the frame is read again
    with share.broken(errno.EIO):
        lab.look()
        lab.now += 10 * TIMEOUT
        assert lab.feed.failing_since(inside, lab.now) == lab.now
    lab.look()
    back = lab.now
    assert lab.feed.failing_since(inside, lab.now + 5) == back
    lab.feed.again(inside)
    lab.now += TIMEOUT
    with share.broken(errno.EIO):
        lab.look()
    lab.look()
    ticket = lab.feed.peek()
    assert ticket is not None
    assert ticket.failing is None
    assert lab.work() == 1


def test_a_look_under_way_keeps_a_folder_from_being_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FeedLab(tmp_path, channels={"segment": "Bright Field", "required": ["GFP"]}, scan_interval_s=0.1)
    hold, free, real = threading.Event(), threading.Event(), os.scandir

    def scandir(folder: Any) -> Any:
        if hold.is_set() and isinstance(folder, str) and folder.startswith(str(lab.folder)):
            free.wait(30)
        return real(folder)

    def until(true: Callable[[], bool]) -> bool:
        for _ in range(4000):
            lab.feed.look(time.monotonic())
            if true():
                return True
            time.sleep(0.005)
        return False

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr("cellvigil.service.lookout._HASTE", 1e-3)
    shoot(lab, 1)
    lab.feed.lookout.start(lambda: None)
    try:
        assert until(lambda: lab.feed.scans > 5 and lab.feed.quiet)
        hold.set()
        shoot(lab, 2)  # hastens the look that sees it
        assert until(lambda: not lab.feed.quiet)
        assert lab.feed.unfinished == 1  # nothing was fetched that says so
        free.set()
        assert until(lambda: lab.feed.unfinished == 2 and lab.feed.quiet)
    finally:
        free.set()
        lab.feed.lookout.stop()
        assert lab.feed.lookout.join(20)


def test_a_folder_that_was_emptied_for_good_is_no_harm_and_ends_with_the_first_new_file(lab: FeedLab) -> None:
    for path in (shoot(lab, 1), shoot(lab, 1, "GFP")):
        lab.settle()
        path.unlink()
    lab.look(20)
    assert lab.feed.out_of_sight
    shoot(lab, 2), shoot(lab, 2, "GFP")
    lab.settle()
    assert not lab.feed.out_of_sight
    assert lab.times()[-1] == ("A1", 1, 0)
    assert lab.refused == {}


# --- the whole service --------------------------------------------------------------------------------------------


@pytest.fixture
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    (tmp_path / "images").mkdir()
    indexes = request.getfixturevalue("state_indexes")
    return Lab(tmp_path, indexes, request.getfixturevalue("lite0").parent)


def _keys(whole: Lab) -> list[tuple[str, str, int, int]]:
    ledger = whole.ledger()
    frames = (frame for series in ledger.series() for frame in ledger.frames(series))
    return sorted((f.key.source, f.key.well, f.key.timepoint, f.revision) for f in frames)


def test_every_frame_is_there_once_though_every_call_failed_five_times(
    whole: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole.film(timepoints=6)
    share = Share(str(whole.images), monkeypatch)
    settings = whole.config(source={"frame_timeout_s": 2.5, "scan_interval_s": 0.05})
    done: list[dict[str, int]] = []
    service = threading.Thread(target=lambda: done.append(once(settings)))
    service.start()
    assert share.listed.wait(60)  # a folder that is away when it starts is the user's mistake, and told
    for round_ in range(5):
        for fault in FAULTS:
            share.code, share.listing = getattr(errno, fault), bool(round_ % 2)
            time.sleep(0.06)
            share.code = 0
            time.sleep(0.02)
    share.code, share.listing = errno.EIO, True
    time.sleep(3.0)  # more than the patience
    share.code = 0
    service.join(60)
    done.append(once(settings))  # what did not open when the folder had been quiet for long enough was left there
    assert _keys(whole) == [("scope", well, t, 0) for well in ("A1", "B1") for t in range(6)]
    assert (sum(ends["counted"] + ends["excluded"] for ends in done), whole.quarantined()) == (12, {})


def test_a_folder_that_hangs_holds_up_no_other(whole: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    whole.film(timepoints=3)
    dead = whole.root / "dead"
    dead.mkdir()
    write_gen5(dead / "A1_01_1_1_Bright Field_001.tif")
    settings = whole.settings()
    settings["sources"].append({**settings["sources"][0], "name": "other", "path": "dead"})
    free, real, asked = threading.Event(), os.scandir, threading.Event()

    def scandir(folder: Any) -> Any:
        if os.fsdecode(folder).startswith(str(dead)):
            asked.set()
            free.wait(60)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr("cellvigil.service.lookout._HANGS_S", 0.2)
    monkeypatch.setattr("cellvigil.service.lookout._HANGS_INTERVALS", 2.0)
    done: list[dict[str, int]] = []
    service = threading.Thread(target=lambda: done.append(once(config.parse(settings, base=whole.root))))
    service.start()
    until = time.monotonic() + 60
    while len(_keys(whole)) < 6 and time.monotonic() < until:
        time.sleep(0.05)
    assert asked.is_set()
    assert not done  # it waits for the folder that hangs, and has done all of the other one
    assert {source for source, *_ in _keys(whole)} == {"scope"}
    free.set()
    service.join(60)
    assert sum(done[0][end] for end in ("counted", "excluded")) == 7
