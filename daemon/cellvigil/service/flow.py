"""The threads that frames pass through, and the bounded room between them. Knows nothing of files, cells or stores.

    submit -> prepare (a pool, ahead of the encoder) -> embed (one thread, batched across frames)
           -> finish (one thread, behind the encoder, all that wait in one group): calls, commit, metrics

Frames leave in the order they came. At most `depth` frames are inside at once, which bounds memory; what is outside
stays in the folder: the folder is the queue. A frame's own error travels with it to `finish`, which alone decides what
becomes of it; an error that `embed` or `finish` raises is nobody's frame but the service's, and ends the flow.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from cellvigil.service.pause import Stopped, Wait
from cellvigil.service.pool import Pool, joined

Job = TypeVar("Job")
Prepared = TypeVar("Prepared")
Embedded = TypeVar("Embedded")

_LOOK_S = 0.1  # how often a thread that waits for another looks whether the service ends
_LAST_S = 2.0  # of the time that is left for leaving, what the finishing thread gets after the encoder


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
    embed: Callable[[Sequence[tuple[Job, Prepared]]], list[Embedded | Exception]]  # an error: that frame's own
    kept: Callable[[Prepared], Prepared]  # what is needed of it once it is embedded: it may wait for a full disk
    together: Callable[[Job, Job], bool]  # may these two share a batch?
    finish: Callable[[Sequence[Passed[Job, Prepared, Embedded]], Wait], None]  # all that are ready; how to wait
    beat: Callable[[], None]  # a token came through every queue


@dataclass(frozen=True, slots=True)
class _Token:
    """Passes through every queue when nothing else does: the proof that all threads still work."""


@dataclass(frozen=True, slots=True)
class _End:
    """Passes behind the last frame; each thread ends when it has handed it on."""


class Flow(Generic[Job, Prepared, Embedded]):
    """The running threads. Made by the service's main thread, which alone may submit, beat, close and leave."""

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
        self._leaving = threading.Event()
        self._pool = Pool(stages.prepare, workers, name="prepare")
        self._prepared: queue.SimpleQueue[tuple[Job, Future[Prepared]] | _Token | _End] = queue.SimpleQueue()
        self._embedded: queue.SimpleQueue[Passed[Job, Prepared, Embedded] | _Token | _End] = queue.SimpleQueue()
        self._taken: deque[Passed[Job, Prepared, Embedded] | _Token | _End] = deque()  # out of `_embedded`, not done
        self.failure: BaseException | None = None  # what ended the flow, if anything did
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("embed", self._embed_all), ("finish", self._finish_all))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def inside(self) -> int:
        """Frames that are submitted and not finished."""
        return self._inside

    def room(self) -> int:
        """How many more may be submitted now."""
        return self._depth - self._inside

    def submit(self, job: Job) -> None:
        """Take a frame in. The caller has asked `room` first."""
        with self._lock:
            self._inside += 1
        self._prepared.put((job, self._pool.submit(job)))

    def beat(self) -> None:
        """Send a token through every queue, behind the frames that are inside."""
        self._prepared.put(_Token())

    def close(self) -> None:
        """Finish the frames that are inside, however long that takes, and end the threads."""
        self._prepared.put(_End())
        joined(self._threads, math.inf)
        self._pool.end(let_go=True, until=math.inf)

    def leave(self, until: float) -> list[str]:
        """Finish what is past the encoder, and the batch inside it; let go of the rest: it stays in the folder.

        Returns the names of the threads that still worked at `until` (monotonic s), and were left where they are.
        """
        self._leaving.set()
        self._prepared.put(_End())
        joined(self._threads[:1], until - _LAST_S)
        self._embedded.put(_End())  # behind all that came out of the encoder in time
        left = joined(self._threads, until)
        return left + self._pool.end(let_go=True, until=time.monotonic() + _LOOK_S)  # they only read

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - a thread's last word: the main thread raises it
            self.failure = self.failure or error
            self._prepared.put(_End())
            self._embedded.put(_End())
            self._on_room()

    def _embed_all(self) -> None:
        held: tuple[Job, Future[Prepared]] | _Token | _End | None = None
        while self.failure is None and not self._leaving.is_set():
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
            if isinstance(item, _Token | _End) or (
                batch and not (item[1].done() and self._stages.together(batch[0][0], item[0]))
            ):
                held = item
                break
            cells += self._collect(item, batch)
            if cells >= self._batch or self._prepared.empty():
                break
            item = self._prepared.get()
        if batch:
            self._embed(batch)
        return held

    def _collect(self, item: tuple[Job, Future[Prepared]], batch: list[tuple[Job, Prepared]]) -> int:
        """Wait for one frame's preparation; returns its cells. A frame that failed goes straight on."""
        job, future = item
        error = self._awaited(future)
        if isinstance(error, Exception):
            if batch:  # these came first and leave first
                self._embed(batch)
                batch.clear()
            self._embedded.put(Passed(job, None, None, 0.0, error))
            return 0
        prepared = future.result()
        batch.append((job, prepared))
        return self._stages.size(prepared)

    def _awaited(self, future: Future[Prepared]) -> BaseException | None:
        """The error of a frame's preparation, None if it went well. Raises Stopped if the service ends meanwhile."""
        while True:
            try:
                return future.exception(timeout=_LOOK_S)
            except TimeoutError:
                if self._leaving.is_set():
                    raise Stopped from None
            except CancelledError:
                raise Stopped from None

    def _embed(self, batch: Sequence[tuple[Job, Prepared]]) -> None:
        start = time.perf_counter()
        blocks = self._stages.embed(batch)
        spent = time.perf_counter() - start
        cells = sum(self._stages.size(prepared) for _, prepared in batch)
        for (job, prepared), block in zip(batch, blocks, strict=True):
            part = spent * self._stages.size(prepared) / cells if cells else spent / len(batch)
            ended = (None, block) if isinstance(block, Exception) else (block, None)
            self._embedded.put(Passed(job, self._stages.kept(prepared), ended[0], part, ended[1]))

    def _finish_all(self) -> None:
        while self.failure is None:
            item = self._taken.popleft() if self._taken else self._embedded.get()
            if isinstance(item, _End):
                return
            if isinstance(item, Passed):
                group = self._ready(item)
                self._stages.finish(group, self._wait)
                with self._lock:
                    self._inside -= len(group)
                self._on_room()
            self._stages.beat()

    def _ready(self, first: Passed[Job, Prepared, Embedded]) -> list[Passed[Job, Prepared, Embedded]]:
        """`first` and every frame that waits right behind it."""
        while not self._embedded.empty():
            self._taken.append(self._embedded.get())
        group = [first]
        while self._taken and isinstance(following := self._taken[0], Passed):
            group.append(following)
            self._taken.popleft()
        return group

    def _wait(self, seconds: float) -> None:
        """Let time pass in the finishing thread; tokens that come meanwhile are answered: every thread still works."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._leaving.is_set() or self.failure is not None:
                raise Stopped
            try:
                item = self._embedded.get(timeout=left)
            except queue.Empty:
                return
            if isinstance(item, _Token):
                self._stages.beat()
            else:
                self._taken.append(item)
