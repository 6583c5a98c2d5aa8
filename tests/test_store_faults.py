"""The disk fails, at any call and in any way: it is told, nothing committed is lost, the frame can be tried again."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaozarrs

from cellvigil.data import Baseline, FileRef, Frame, Record
from cellvigil.errors import StoreError, StoreFull
from cellvigil.store.fit import SourcePlan
from cellvigil.store.writer import Filing, Store, open_store
from failing_disk import ANY, CALLS, Disk
from store_records import SERIES, START, calls_of, key, record
from test_store_recovery import assert_whole, plate_folder


def attempt(store: Store, disk: Disk, monkeypatch: pytest.MonkeyPatch, **what: object) -> bool:
    """Whether the frame was committed on the failing disk."""
    failure: StoreError | None = None
    with disk.failing(monkeypatch):
        try:
            store.append(record(**what))
        except StoreError as error:
            failure = error
    if failure is not None:
        assert isinstance(failure.__cause__, OSError)
        assert os.strerror(disk.error) in str(failure)
    return failure is None


def everything_there(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, what: dict) -> None:
    """After the fault: the frame goes in at once, or after the restart that the error asked for."""
    try:
        store.append(record(**what))
    except StoreError:
        with pytest.raises(StoreError, match="start again"):
            store.append(record(**what))
        store.close()
        store = open_store(path)
        store.append(record(**what))
    store.append(record(key("A1", 2)))
    store.publish(SERIES, overdue=10)
    store.close()
    again = open_store(path)
    again.close()
    assert_whole(again, [frame.key for frame in store.ledger.frames(SERIES)])
    yaozarrs.validate_zarr_store(str(plate_folder(path)))
    temporaries = list(path.rglob(".tmp.*"))
    assert temporaries == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open", errno.EROFS),
        ("write", errno.ENOSPC),
        ("write", errno.EIO),
        ("fsync", errno.EIO),
        ("rename", errno.ENOSPC),
    ],
)
def test_any_call_of_a_commit_may_fail(memory, monkeypatch, call, error):
    good, done = 0, False
    while not done:
        path = memory / str(good)
        store = open_store(path)
        store.append(record(key("A1", 0)))
        what = {"frame_key": key("A1", 1)}
        disk = Disk(call, good, error)
        done = attempt(store, disk, monkeypatch, **what)
        committed_before = [frame.key for frame in store.ledger.frames(SERIES)]
        assert key("A1", 0) in committed_before
        everything_there(store, path, monkeypatch, what)
        good += 2 if call == "open" else 1
    assert good > 5  # the loop met every call of its kind (every second opening), and then one too many


@pytest.mark.parametrize("call", CALLS)
def test_calls_that_begin_a_plate_may_fail(memory, monkeypatch, call):
    good, done = 0, False
    while not done:
        path = memory / str(good)
        store = open_store(path)
        what = {"frame_key": key("A1", 0)}
        done = attempt(store, Disk(call, good, errno.EACCES), monkeypatch, **what)
        everything_there(store, path, monkeypatch, what)
        good += 7 if call != "mkdir" else 2
    assert good > 5


@pytest.mark.parametrize("good", [0, 1, 4, 9])
@pytest.mark.parametrize("call", ["open", "write", "rename"])
def test_showing_a_round_may_fail_and_is_made_up_for(tmp_path, monkeypatch, call, good):
    store = open_store(tmp_path)
    for well in ("A1", "B2"):
        store.append(record(key(well)))
    with Disk(call, good, errno.ENOSPC).failing(monkeypatch), pytest.raises(StoreError, match="No space left"):
        store.publish(SERIES)
    assert store.publish(SERIES) == 1
    store.close()
    again = open_store(tmp_path)
    assert again.recovered == ()
    again.close()
    assert_whole(again, [key("A1"), key("B2")])


def test_a_listing_that_fails_does_not_undo_its_frame(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    store.append(record(key("A1")))
    real = os.rename

    def rename(source: str | Path, target: str | Path) -> None:
        if Path(target) == plate_folder(tmp_path) / "zarr.json":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        assert store.append(record(key("B2"))).t == 0
        with pytest.raises(StoreError, match="Input/output error"):
            store.publish(SERIES)
    assert store.publish(SERIES) == 1
    store.close()
    assert_whole(store, [key("A1"), key("B2")])


def test_a_file_size_limit_of_the_system_is_told_and_survived(tmp_path):
    store = open_store(tmp_path)
    store.append(record(key("A1", 0), shape=(1, 200, 200)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="free some space"):
            store.append(record(key("A1", 1), shape=(1, 200, 200)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.rglob(".tmp.*"))
    assert store.append(record(key("A1", 1), shape=(1, 200, 200))).t == 1
    store.close()


PLANS = {"scope": SourcePlan(channels=("Bright Field", "GFP"))}


def plain(well: str, timepoint: int = 0) -> Record:
    """A frame that lacks the channel that may come later."""
    return record(key(well, timepoint), n=3, shape=(1, 5, 6), channels=("Bright Field",), dimension=2)


def late_channel(well: str) -> Frame:
    """That channel."""
    one = record(key(well), shape=(1, 5, 6), channels=("GFP",)).frame
    return replace(one, files=(FileRef(f"{well}_gfp.tif", 5, 6, "77" * 32),))


def call_again(store: Store) -> None:
    frame = store.ledger.frame(key("A1"))
    store.append_calls(frame, calls_of(3, bundle="12" * 32, classes=2), ("a", "b"), {"a": "alive"})


def drop_pixels(store: Store) -> None:
    line = {"kind": "dropped", "series": list(SERIES), "t": 0, "tiers": ["pixels"], "why": "age"}
    store.journal_lines(SERIES, [{**line, "committed_at": "2024-03-02T00:00:00Z"}])
    for path in store.chunk_paths(SERIES, 0, ["pixels"]):
        path.unlink(missing_ok=True)


WRITES: dict[str, Callable[[Store], object]] = {
    "a new plate": lambda store: store.append(plain("A1")),
    "a frame": lambda store: store.append(plain("A1", 1)),
    "a group": lambda store: store.append_all([Filing(plain(well, time)) for time in (1, 2) for well in ("A1", "B2")]),
    "a channel": lambda store: store.attach(late_channel("A1")),
    "calls": call_again,
    "files": lambda store: store.note_files(key("A1"), [FileRef("A1_1_000.tif", 1000, 9, "0" * 64)]),
    "a baseline": lambda store: store.set_baseline(SERIES, Baseline((1.0, 2.0), 3.0)),
    "a dropping": drop_pixels,
    "a publishing": lambda store: store.publish(SERIES),
}
NEEDS = {"files": ("open", "write", "fsync"), "a baseline": ("open", "write", "fsync"),
         "a dropping": ("open", "write", "fsync"), "a publishing": ("open", "write", "rename")}  # fmt: skip


def prepared(path: Path, what: str) -> Store:
    store = open_store(path, plans=PLANS)
    if what != "a new plate":
        store.append_all([Filing(plain("A1")), Filing(plain("C3"))])
    return store


def remembered(store: Store) -> tuple[object, ...]:
    """What a store says of itself; a store that is opened anew must say the same."""
    ledger = store.ledger
    frames = [replace(frame, committed_at=START) for frame in ledger.frames(SERIES)]
    files = [ledger.is_done("scope", ref.path, ref.size, ref.mtime_ns) for frame in frames for ref in frame.files]
    units = [(unit.t, dict(unit.sizes), unit.dropped) for unit in ledger.units(SERIES)]
    bundles = [bundle.sha256 for bundle in ledger.bundles(SERIES)]
    return frames, files, units, bundles, ledger.calls(key("A1"), 0), ledger.baseline(SERIES), store.channels(SERIES)


@pytest.mark.parametrize(("what", "call"), [(what, call) for what in WRITES for call in NEEDS.get(what, CALLS)])
def test_a_full_disk_is_told_as_such_and_the_same_call_works_once_there_is_room(memory, monkeypatch, what, call):
    """Whichever call it strikes, whatever is written: nothing is applied by half, and nothing is left lying about."""
    with contextlib.closing(prepared(memory / "expected", what)) as store:
        WRITES[what](store)
        expected = remembered(store)
    good, full, times_full = 0, True, 0
    while full:
        path = memory / str(good)
        store = prepared(path, what)
        before, files = remembered(store)[:3], chunk_files(path)
        # What takes no room is not refused: an fsync after the one that found no room for what was written before.
        disk = Disk(call, good, errno.ENOSPC, times=1 if call == "fsync" else ANY)
        full = is_full_for(partial(WRITES[what], store), disk, monkeypatch)
        times_full += full
        if full:
            assert remembered(store)[:3] == before
            assert chunk_files(path) == files or what == "a channel"  # whose shard may be replaced already
        WRITES[what](store)
        assert remembered(store) == expected
        store.close()
        assert not list(path.rglob(".tmp.*"))
        with contextlib.closing(open_store(path, plans=PLANS)) as again:
            assert again.recovered == ()
            assert remembered(again) == expected
        good += 3 if call == "open" else 1
    assert times_full or call == "mkdir"  # only a plate and its arrays need folders


def is_full_for(work: Callable[[], object], disk: Disk, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether `work` said that the disk is full; no other error is right on this disk."""
    with disk.failing(monkeypatch):
        try:
            work()
        except StoreFull:
            return True
    return False


def chunk_files(path: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in path.rglob("c.*") if one.is_file()}


@pytest.mark.parametrize("what", [name for name in WRITES if name not in ("a dropping", "a publishing")])
def test_below_the_room_that_is_asked_for_nothing_is_written(memory, what):
    prepared(memory / "store", what).close()
    before = {path: path.read_bytes() for path in (memory / "store").rglob("*") if path.is_file()}
    with contextlib.closing(open_store(memory / "store", plans=PLANS, min_free_mb=1e9)) as store:
        for _ in range(2):
            with pytest.raises(StoreFull, match=r"MB free, store.min_free_mb asks for 1e\+09"):
                WRITES[what](store)
    after = {path: path.read_bytes() for path in (memory / "store").rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path for path in before if before[path] != after[path] and path.name != ".lock"] == []
    with contextlib.closing(open_store(memory / "store", plans=PLANS, min_free_mb=1e-3)) as store:
        WRITES[what](store)


def test_room_is_made_with_too_little_room(memory):
    """Deleting is how room comes back, and showing what is committed costs none."""
    prepared(memory / "store", "a dropping").close()
    with contextlib.closing(open_store(memory / "store", min_free_mb=1e9)) as store:
        drop_pixels(store)
        assert store.publish(SERIES, overdue=9) == 1
        assert store.append(plain("A1")).line == {}  # it is there: nothing is written


def test_a_disk_that_does_not_say_how_full_it_is(memory, monkeypatch):
    with contextlib.closing(open_store(memory / "store", min_free_mb=1.0)) as store:
        with Disk("statvfs", 0, errno.EIO).failing(monkeypatch), pytest.raises(StoreError, match="Input/output"):
            store.append(plain("A1"))
        assert store.append(plain("A1")).t == 0
