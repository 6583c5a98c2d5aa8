"""A few threads that do one kind of work, and that nobody has to wait for.

`concurrent.futures` waits for its threads when the interpreter ends. A read from a share that is gone may never end,
and the service must: so these are daemon threads.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Job = TypeVar("Job")
Made = TypeVar("Made")


class Pool(Generic[Job, Made]):
    """`count` threads that do `work` with what is submitted, in that order."""

    def __init__(self, work: Callable[[Job], Made], count: int, *, name: str) -> None:
        self._work = work
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Made]] | None] = queue.SimpleQueue()
        self._let_go = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Future[Made]:
        """What will come of `job`."""
        future: Future[Made] = Future()
        self._jobs.put((job, future))
        return future

    def end(self, *, let_go: bool, until: float) -> list[str]:
        """End the threads, by `until` (monotonic s) at the latest; returns the names of those that still work then.

        `let_go`: what has not begun is cancelled.
        """
        self._let_go = self._let_go or let_go
        for _ in self._threads:
            self._jobs.put(None)
        return joined(self._threads, until)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            if self._let_go:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                made = self._work(job)
            except BaseException as error:  # noqa: BLE001 - as in concurrent.futures: the future's reader raises it
                future.set_exception(error)
            else:
                future.set_result(made)


def joined(threads: list[threading.Thread], until: float) -> list[str]:
    """Wait for `threads` to end, until `until` (monotonic s); returns the names of those that did not."""
    for thread in threads:
        thread.join(min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX))
    return [thread.name for thread in threads if thread.is_alive()]
