"""A disk that fails on purpose, at the seam where the store meets the system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CALLS = ("open", "write", "fsync", "rename", "mkdir")


ANY = 10**9


class Disk:
    """Lets the first `good` calls of one kind pass, and then fails as told, so many times; counts them."""

    def __init__(self, call: str, good: int, error: int, *, times: int = ANY) -> None:
        self.call, self.good, self.error, self.times, self.count = call, good, error, times, 0

    @contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        real: Callable[..., object] = getattr(os, self.call)

        def call(*args: object, **options: object) -> object:
            self.count += 1
            if not self.good < self.count <= self.good + self.times:
                return real(*args, **options)
            if self.call == "write" and self.error == errno.ENOSPC and self.count == self.good + 1:
                return real(args[0], memoryview(args[1])[:3])  # a disk that fills up first writes short
            raise OSError(self.error, os.strerror(self.error))

        with monkeypatch.context() as patch:
            patch.setattr(os, self.call, call)
            yield


@contextmanager
def dying(call: str, good: int) -> Iterator[None]:
    """In a forked child: the process ends, as by SIGKILL, before call number `good` + 1 of this kind."""
    real, left = getattr(os, call), [good]

    def last(*args: object, **options: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(*args, **options)

    setattr(os, call, last)
    yield


def killed_at(call: str, good: int, work: Callable[[], object]) -> bool:
    """Do `work` in a child that dies before call number `good` + 1 of a kind; whether it died."""
    child = os.fork()
    if not child:
        with dying(call, good):
            work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 9):
        raise AssertionError(f"the child failed by itself: {code}")
    return code == 9
