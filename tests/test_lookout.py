"""A source's lookout: its thread, its pace, and what it makes of files that break their reader."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cellvigil.data import FileStat
from cellvigil.service import lookout as room
from cellvigil.service.lookout import Lookout, rest_s
from cellvigil.service.looks import Look
from cellvigil.sources.gen5 import Gen5
from source_files import LIMITS, make_source, write_gen5

NAME = "A1_01_1_1_Bright Field_001.tif"


def lookout_of(root: Path, known: Callable[[FileStat], bool] = lambda _: False, **rules: Any) -> Lookout:
    source = make_source(root, **{"scan_interval_s": 0.02, **rules})
    return Lookout(source, Gen5(source, LIMITS), known)


def within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.005)
    return False


def seen(lookout: Lookout, looks: list[Look], enough: Callable[[list[Look]], bool]) -> bool:
    """Fetch into `looks` until there is enough in them; False after 20 s."""

    def fetched() -> bool:
        looks.extend(lookout.fetch(0))
        return enough(looks)

    return within(20, fetched)


@contextlib.contextmanager
def running(lookout: Lookout, wake: Callable[[], None] = lambda: None, **options: bool) -> Iterator[None]:
    """The lookout at work."""
    lookout.start(wake, **options)
    try:
        yield
    finally:
        lookout.stop()
        assert lookout.join(20)


@pytest.mark.parametrize(
    ("took", "interval", "rest"),
    [
        (0.0, 2.0, 2.0),
        (0.4, 2.0, 2.0),
        (2.0, 2.0, 8.0),  # a fifth of the time: 2 of 10 s
        (100.0, 2.0, 60.0),  # but once a minute at least
        (100.0, 600.0, 600.0),
    ],
)
def test_a_look_that_takes_long_is_made_less_often(took: float, interval: float, rest: float) -> None:
    assert rest_s(took, interval, interval) == rest


@pytest.mark.parametrize(("took", "rest"), [(0.0, 0.5), (1.0, 4.0)])
def test_an_event_hastens_a_look_but_not_beyond_its_share_of_the_time(took: float, rest: float) -> None:
    assert rest_s(took, 0.5, 2.0) == rest


def test_what_settled_arrives_once_from_a_thread_of_its_own(tmp_path: Path) -> None:
    write_gen5(tmp_path / NAME)
    lookout, looks = lookout_of(tmp_path), list[Look]()
    woken = threading.Event()
    with running(lookout, woken.set):
        assert seen(lookout, looks, lambda looks: any(look.arrivals for look in looks))
        write_gen5(tmp_path / NAME.replace("001", "002"))
        assert seen(lookout, looks, lambda looks: sum(len(k.arrivals) for k in looks) == 2)
    assert woken.is_set()
    assert [arrival.stat.path for look in looks for arrival in look.arrivals] == [NAME, NAME.replace("001", "002")]


def test_an_event_brings_the_next_look_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_HASTE", 1e-6)
    lookout, looks = lookout_of(tmp_path, scan_interval_s=3600.0), list[Look]()
    with running(lookout):
        assert seen(lookout, looks, bool)
        assert seen(lookout, looks, lambda looks: (tmp_path / NAME).write_bytes(b"x") and len(looks) > 1)


def test_a_look_that_hangs_is_told_of_and_left_behind_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_HANGS_S", 0.05)
    free, real = threading.Event(), os.scandir

    def scandir(folder: Any) -> Any:
        if os.fsdecode(folder).startswith(str(tmp_path)):
            free.wait(60)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    lookout = lookout_of(tmp_path)
    lookout.start(lambda: None)
    assert within(20, lambda: lookout.hangs)
    assert not lookout.idle  # nobody may call the folder quiet now
    lookout.stop()
    assert not lookout.join(0.05)
    free.set()
    assert lookout.join(20)
    assert not lookout.hangs


def test_the_time_that_a_look_hung_counts_for_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_HANGS_S", 0.05)
    monkeypatch.setattr(room, "_HANGS_INTERVALS", 0.0)
    real, slow = os.scandir, threading.Event()

    def scandir(folder: Any) -> Any:
        if slow.is_set() and os.fsdecode(folder).startswith(str(tmp_path)):
            slow.clear()
            time.sleep(0.3)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    lookout, looks = lookout_of(tmp_path), list[Look]()
    with running(lookout):
        assert seen(lookout, looks, lambda looks: len(looks) > 2)
        slow.set()
        assert seen(lookout, looks, lambda looks: any(look.unseen_s for look in looks))
    assert 0.3 <= max(look.unseen_s for look in looks) < 20


def test_what_ends_a_lookout_reaches_whoever_fetches(tmp_path: Path) -> None:
    def known(stat: FileStat) -> bool:
        raise ZeroDivisionError(stat.path)

    write_gen5(tmp_path / NAME)
    lookout = lookout_of(tmp_path, known)
    with running(lookout), pytest.raises(ZeroDivisionError, match=NAME):
        within(20, lambda: bool(lookout.fetch(0)) and False)


@dataclass(frozen=True, slots=True)
class Fragile(Gen5):
    """A format whose reader breaks on one file."""

    def finished(self, root: Path, path: str) -> None:
        if "002" in path:
            raise RecursionError("too deep")
        Gen5.finished(self, root, path)


def test_a_file_that_breaks_its_reader_is_refused_with_the_traceback(tmp_path: Path) -> None:
    write_gen5(tmp_path / NAME)
    write_gen5(tmp_path / NAME.replace("001", "002"))
    source = make_source(tmp_path)
    lookout = Lookout(source, Fragile(source, LIMITS), lambda _: False)
    looks = [lookout.look(float(3 * i)) for i in range(4)]
    (refusal,) = [refusal for look in looks for refusal in look.refusals]
    assert (refusal.error.reason, refusal.stage) == ("failed", "complete")
    assert "RecursionError: too deep" in refusal.traceback
    assert [arrival.stat.path for look in looks for arrival in look.arrivals] == [NAME]


def test_what_is_not_whole_is_asked_for_again_and_refused_in_the_end(tmp_path: Path) -> None:
    whole = write_gen5(tmp_path / NAME)
    data = whole.read_bytes()
    whole.write_bytes(data[:-50])
    lookout = lookout_of(tmp_path, scan_interval_s=1.0, frame_timeout_s=100.0)
    looks = [lookout.look(float(i)) for i in range(5)]
    assert [(look.unsettled, look.unfinished) for look in looks] == [(1, 0), (1, 0), (0, 1), (0, 1), (0, 1)]
    assert not lookout.look(101.9).refusals
    (refusal,) = lookout.look(102.1).refusals
    assert refusal.error.reason == "truncated"
    whole.write_bytes(data)
    arrived = [lookout.look(110.0 + i).arrivals for i in range(4)]
    assert [len(arrivals) for arrivals in arrived] == [0, 0, 1, 0]


def test_the_last_call_ends_the_patience_with_the_look_after_it(tmp_path: Path) -> None:
    whole = write_gen5(tmp_path / NAME)
    whole.write_bytes(whole.read_bytes()[:-50])
    lookout = lookout_of(tmp_path, scan_interval_s=1.0, frame_timeout_s=100.0)
    looks = [lookout.look(float(i)) for i in range(4)]
    lookout.last_call()
    last = lookout.look(5.0)
    assert not any(look.refusals or look.last for look in looks)
    assert last.last
    assert len(last.refusals) == 1


def test_what_nobody_read_before_it_was_deleted_is_told(tmp_path: Path) -> None:
    kept, moving, cut = (write_gen5(tmp_path / NAME.replace("001", f"00{i}")) for i in (1, 2, 3))
    cut.write_bytes(cut.read_bytes()[:-50])
    lookout = lookout_of(tmp_path, scan_interval_s=1.0)
    moving_data = moving.read_bytes()
    moving.unlink()
    for i in range(4):
        lookout.look(float(i))
    moving.write_bytes(moving_data)
    lookout.look(4.0)
    for path in (kept, moving, cut):
        path.unlink()
    write_gen5(tmp_path / NAME.replace("001", "009"))
    look = lookout.look(5.0)
    assert look.gone == {kept.name, moving.name, cut.name}
    assert look.vanished == (moving.name, cut.name)


def test_whoever_trusts_a_folder_takes_an_empty_one_for_empty(tmp_path: Path) -> None:
    path = write_gen5(tmp_path / NAME)
    lookout, looks = lookout_of(tmp_path), list[Look]()
    with running(lookout, trusting=True):
        assert seen(lookout, looks, bool)
        path.unlink()
        assert seen(lookout, looks, lambda looks: any(look.gone for look in looks))
    assert not any(look.away for look in looks)
