"""One writer a store: who holds it is told, the dead are no obstacle, and a disk that cannot lock is named."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest

from cellvigil.errors import StoreError, StoreFull
from cellvigil.store.lock import LOCK, StoreLock


def in_child(work: object) -> int:
    """Fork, do `work` in the child, and return its exit status."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_second_lock_names_the_holder(tmp_path):
    held = StoreLock(tmp_path)
    with pytest.raises(StoreError, match=rf"another process \(pid {os.getpid()}\) writes this store"):
        StoreLock(tmp_path)
    held.release()
    StoreLock(tmp_path).release()


def test_what_a_killed_process_left_is_no_obstacle_and_not_a_clean_end(tmp_path):
    StoreLock(tmp_path).release(clean=True)

    def work() -> None:
        StoreLock(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == signal.SIGKILL
    assert (tmp_path / LOCK).read_text().strip().isdecimal()
    lock = StoreLock(tmp_path)
    assert not lock.settled
    lock.release()


@pytest.mark.parametrize(("clean", "settled"), [(True, True), (False, False)])
def test_a_clean_end_is_remembered(tmp_path, clean, settled):
    first = StoreLock(tmp_path)
    assert not first.settled
    first.release(clean=clean)
    first.release(clean=True)  # a second time says nothing
    second = StoreLock(tmp_path)
    assert second.settled is settled
    second.release()


@pytest.mark.parametrize("text", ["", "closed\n", "closed\nanother-start\n", "4711\n", "\xff\0" * 200])
def test_any_other_text_is_no_clean_end(tmp_path, text):
    (tmp_path / LOCK).write_text(text, encoding="latin-1")
    lock = StoreLock(tmp_path)
    assert not lock.settled
    lock.release()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EACCES, r"another process \(pid unknown\)"),  # a network file system that locks bytes
        (errno.ENOLCK, "cannot lock the store.*keep the store on a local disk"),
        (errno.EOPNOTSUPP, "cannot lock the store.*keep the store on a local disk"),
        (errno.EIO, "cannot be locked: Input/output error"),
    ],
)
def test_a_lock_that_the_file_system_refuses_is_told(tmp_path, monkeypatch, code, told):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    before = set(Path("/proc/self/fd").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(StoreError, match=told):
            StoreLock(tmp_path)
    assert set(Path("/proc/self/fd").iterdir()) == before
    StoreLock(tmp_path).release()


def test_a_folder_that_cannot_be_made_for_want_of_room_is_told_as_such(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StoreFull):
        StoreLock(tmp_path / "store")


def test_on_a_full_disk_the_lock_is_held_without_a_number(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    StoreLock(tmp_path).release(clean=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        held = StoreLock(tmp_path)
        with pytest.raises(StoreError, match="pid unknown"):
            StoreLock(tmp_path)
        held.release(clean=True)
    lock = StoreLock(tmp_path)
    assert not lock.settled
    lock.release()


def test_a_forked_child_gives_up_its_copy_and_not_its_parents_lock(tmp_path):
    held = StoreLock(tmp_path)
    assert in_child(lambda: held.release(clean=True)) == 0
    with pytest.raises(StoreError, match="another process"):
        StoreLock(tmp_path)
    assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    held.release()


def test_a_forked_child_that_lives_on_does_not_keep_a_released_lock(tmp_path):
    held = StoreLock(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        held.release()
        StoreLock(tmp_path).release()
    finally:
        os.close(writing)
        os.waitpid(child, 0)
