"""The threads that frames pass through, and the bounded room between them. Knows nothing of files, cells or stores.

    submit -> prepare (a pool, ahead of the encoder) -> embed (one thread, batched across frames)
           -> finish (one thread, behind the encoder): calls, commit, metrics

Frames leave in the order they came. At most `depth` frames are inside at once, which bounds memory; what is outside
stays in the folder: the folder is the queue. A frame's own error travels with it to `finish`, which alone decides what
becomes of it; an error of `embed` or `finish` is nobody's frame but the service's, and ends the flow.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Prepared = TypeVar("Prepared")
Embedded = TypeVar("Embedded")


@dataclass(frozen=True, slots=True, eq=False)
class Passed(Generic[Job, Prepared, Embedded]):
    """A frame as it comes out: either prepared and embedded, or with the error that stopped it."""

    job: Job
    prepared: Prepared | None
    embedded: Embedded | None
    embed_seconds: float  # this frame's part of its batch
    error: Exception | None


@dataclass(frozen=True, slots=True, eq=False)
class Stages(Generic[Job, Prepared, Embedded]):
    """What is done to a frame. Each may be called from another thread; `finish` always from the same one."""

    prepare: Callable[[Job], Prepared]
    size: Callable[[Prepared], int]  # cells in a frame: fills a batch
    embed: Callable[[Sequence[tuple[Job, Prepared]]], list[Embedded]]
    together: Callable[[Job, Job], bool]  # may these two share a batch?
    finish: Callable[[Passed[Job, Prepared, Embedded]], None]
    beat: Callable[[], None]  # a token came through every queue


@dataclass(frozen=True, slots=True)
class _Token:
    """Passes through every queue when nothing else does: the proof that all threads still work."""


@dataclass(frozen=True, slots=True)
class _End:
    """Passes behind the last frame; each thread ends when it has handed it on."""


class Flow(Generic[Job, Prepared, Embedded]):
    """The running threads. Made by the service's main thread, which alone may submit, beat and close."""

    def __init__(
        self,
        stages: Stages[Job, Prepared, Embedded],
        *,
        workers: int,
        depth: int,
        batch: int,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._stages = stages
        self._batch = batch
        self._depth = depth
        self._on_room = on_room
        self._inside = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
        self._prepared: queue.SimpleQueue[tuple[Job, Future[Prepared]] | _Token | _End] = queue.SimpleQueue()
        self._embedded: queue.SimpleQueue[Passed[Job, Prepared, Embedded] | _Token | _End] = queue.SimpleQueue()
        self.failure: BaseException | None = None  # what ended the flow, if anything did
        self.busy_seconds = 0.0  # the encoder at work, between these two readings of the clock:
        self.embed_span: tuple[float, float] | None = None  # start of the first batch, end of the last
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("embed", self._embed_all), ("finish", self._finish_all))
        ]
        for thread in self._threads:
            thread.start()

    def room(self) -> int:
        """How many more frames may be submitted now."""
        return self._depth - self._inside

    @property
    def inside(self) -> int:
        """Frames that are submitted and not finished."""
        return self._inside

    def submit(self, job: Job) -> None:
        """Take a frame in. The caller has asked `room` first."""
        with self._lock:
            self._inside += 1
        self._prepared.put((job, self._pool.submit(self._stages.prepare, job)))

    def beat(self) -> None:
        """Send a token through every queue, behind the frames that are inside."""
        self._prepared.put(_Token())

    def close(self, *, drain: bool = True) -> None:
        """End the threads: after the frames that are inside (`drain`), or as soon as each has finished its one."""
        if not drain:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._prepared.put(_End())
        for thread in self._threads:
            thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a thread's last word: the main thread raises it
            self.failure = self.failure or error
            self._prepared.put(_End())
            self._embedded.put(_End())
            self._on_room()

    def _embed_all(self) -> None:
        held: tuple[Job, Future[Prepared]] | _Token | _End | None = None
        while self.failure is None:
            item = held or self._prepared.get()
            held = None
            if isinstance(item, _End):
                break
            if isinstance(item, _Token):
                self._embedded.put(item)
                continue
            held = self._embed_batch(item)
        self._embedded.put(_End())

    def _embed_batch(self, first: tuple[Job, Future[Prepared]]) -> tuple[Job, Future[Prepared]] | _Token | _End | None:
        """Embed `first` and what else is ready and fits; returns the item that was taken from the queue but did not."""
        batch: list[tuple[Job, Prepared]] = []
        cells = 0
        item: tuple[Job, Future[Prepared]] | _Token | _End = first
        held: tuple[Job, Future[Prepared]] | _Token | _End | None = None
        while True:
            if isinstance(item, _Token | _End) or (batch and not self._joins(batch[0][0], item)):
                held = item
                break
            cells += self._collect(item, batch)
            if cells >= self._batch or self._prepared.empty():
                break
            item = self._prepared.get()
        if batch:
            self._embed(batch)
        return held

    def _joins(self, first: Job, item: tuple[Job, Future[Prepared]]) -> bool:
        return item[1].done() and self._stages.together(first, item[0])

    def _collect(self, item: tuple[Job, Future[Prepared]], batch: list[tuple[Job, Prepared]]) -> int:
        """Wait for one frame's preparation; returns its cells. A frame that failed goes straight on."""
        job, future = item
        error = future.exception()
        if isinstance(error, Exception):
            # Batched frames came first and leave first.
            if batch:
                self._embed(batch)
                batch.clear()
            self._embedded.put(Passed(job, None, None, 0.0, error))
            return 0
        prepared = future.result()
        batch.append((job, prepared))
        return self._stages.size(prepared)

    def _embed(self, batch: Sequence[tuple[Job, Prepared]]) -> None:
        start = time.perf_counter()
        blocks = self._stages.embed(batch)
        end = time.perf_counter()
        spent = end - start
        self.busy_seconds += spent
        self.embed_span = (self.embed_span[0] if self.embed_span else start, end)
        cells = sum(self._stages.size(prepared) for _, prepared in batch)
        for (job, prepared), block in zip(batch, blocks, strict=True):
            part = spent * self._stages.size(prepared) / cells if cells else spent / len(batch)
            self._embedded.put(Passed(job, prepared, block, part, None))

    def _finish_all(self) -> None:
        while self.failure is None:
            item = self._embedded.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Token):
                self._stages.beat()
                continue
            self._stages.finish(item)
            self._stages.beat()
            with self._lock:
                self._inside -= 1
            self._on_room()
