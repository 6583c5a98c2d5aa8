"""The disk fails, at any call and in any way: it is told, nothing committed is lost, the frame can be tried again."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaozarrs

from cellvigil.errors import StoreError
from cellvigil.store.writer import Store, open_store
from store_records import SERIES, key, record
from test_store_recovery import assert_whole, plate_folder


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: hundreds of stores are made here, and real fsyncs take time."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


CALLS = ("open", "write", "fsync", "rename", "mkdir")


class Disk:
    """Lets the first `good` calls of one kind pass, and then fails as told; counts them."""

    def __init__(self, call: str, good: int, error: int) -> None:
        self.call, self.good, self.error, self.count = call, good, error, 0

    @contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        real: Callable[..., object] = getattr(os, self.call)

        def call(*args: object, **options: object) -> object:
            self.count += 1
            if self.count <= self.good:
                return real(*args, **options)
            if self.call == "write" and self.error == errno.ENOSPC and self.count == self.good + 1:
                return real(args[0], memoryview(args[1])[:3])  # a disk that fills up first writes short
            raise OSError(self.error, os.strerror(self.error))

        with monkeypatch.context() as patch:
            patch.setattr(os, self.call, call)
            yield


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
