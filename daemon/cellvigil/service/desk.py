"""Hands complete frames to the flow and takes their ends back; the only writer of the quarantine list.

Runs in the service's main thread. It knows the policy of order, first frames (a series' baseline comes before its
frames), revisions and patience; the flow knows threads, the feeds know folders.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from cellvigil import config, pipeline
from cellvigil.data import Baseline, Embeddings, Frame
from cellvigil.errors import BadFile, NotYet, StoreError
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared, Recipe
from cellvigil.quarantine import Entry, Quarantine
from cellvigil.service.feed import Feed, Refusal, Ticket
from cellvigil.service.flow import Flow
from cellvigil.service.log import LOGGER
from cellvigil.service.work import Job
from cellvigil.sources.read import read_frame
from cellvigil.store.writer import Store

Made = TypeVar("Made")

_BASELINE_SCANS = 5  # how many scans' time a new series may wait until its first frames are together


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """How a frame's way ended."""

    source: str
    ticket: Ticket
    error: Exception | None  # None = committed
    stage: str


class Desk:
    """The feeds' frames, given out in turn."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        recipes: Mapping[str, Recipe],
        limits: config.Limits,
        store: Store,
        quarantine: Quarantine,
        metrics: Metrics,
        wake: Callable[[], None],
    ) -> None:
        self._feeds = feeds
        self._recipes = recipes
        self._limits = limits
        self._store = store
        self._quarantine = quarantine
        self._metrics = metrics
        self._ends: queue.SimpleQueue[_End] = queue.SimpleQueue()
        self._wake = wake

    def ended(self, job: Job, error: Exception | None, stage: str) -> None:
        """Note a frame's end; called from the finishing thread."""
        self._ends.put(_End(job.source.name, job.ticket, error, stage))
        self._wake()

    def look(self, feed: Feed, now: float) -> None:
        """Let a feed look at its folder, and put aside what it refuses."""
        seen = feed.look(now)
        for refusal in seen.refusals:
            self._refuse(feed, refusal)
            self._count(feed, "quarantined")
        for files in seen.stalled:
            lacking = ", ".join(files.missing)
            error = BadFile("incomplete", f"channel {lacking} never came", where=str(files.key))
            for item in files.slices:
                self._refuse(feed, Refusal(item.stat, error, "assemble"))
            self._count(feed, "stalled")

    def hand_out(self, flow: Flow[Job, Prepared, Embeddings], now: float) -> None:
        """Fill the flow's room, one frame a source in turn."""
        busy = True
        while busy and flow.room() > 0 and flow.failure is None:
            busy = False
            for feed in self._feeds:
                if flow.room() > 0 and (job := self._job(feed, now)) is not None:
                    flow.submit(job)
                    busy = True

    def take_back(self) -> None:
        """Book every end that the threads have noted since."""
        while True:
            try:
                end = self._ends.get_nowait()
            except queue.Empty:
                break
            self._book(end)
        for feed in self._feeds:
            self._metrics.backlog.labels(feed.source.name).set(feed.backlog)
            self._metrics.waiting.labels(feed.source.name).set(feed.unfinished)

    def _job(self, feed: Feed, now: float) -> Job | None:
        """The next frame of a feed, ready for the flow; None if none may go yet."""
        while (ticket := feed.peek()) is not None:
            series = ticket.files.key.series
            baseline = self._store.baseline(series) or self._new_baseline(feed, series, now)
            if feed.peek() is not ticket:
                continue  # it was one of the first frames, and refused or gone back
            if baseline is None:
                return None  # the series' first frames are not together yet
            feed.claim(ticket.files.key)
            revision = self._store.ledger.revision(ticket.files.key) + 1
            return Job(ticket, feed.source, feed.fmt, self._recipes[feed.source.name], baseline, revision)
        return None

    def _new_baseline(self, feed: Feed, series: tuple[str, str, str], now: float) -> Baseline | None:
        """Fix what the series' first frames say, once enough of them wait or the first has waited long enough."""
        recipe = self._recipes[feed.source.name]
        wanted = recipe.index.image_rule.intensity.frames
        tickets = feed.first_waiting(series, wanted)
        patience = _BASELINE_SCANS * feed.source.scan_interval_s
        if len(tickets) < wanted and now - min(ticket.queued for ticket in tickets) < patience:
            return None
        read = [(ticket, self._tried(feed, ticket, partial(self._read, feed, ticket))) for ticket in tickets]
        first = [(ticket, frame) for ticket, frame in read if frame is not None]
        frames = [frame for _, frame in first]
        baseline = self._measured(frames, recipe)
        if baseline is None:
            # One of them is bad: each is tried alone, and ends as it would in the flow.
            alone = [(f, self._tried(feed, t, partial(pipeline.baseline_of, [f], recipe))) for t, f in first]
            frames = [frame for frame, good in alone if good is not None]
            baseline = self._measured(frames, recipe)
        if baseline is not None:
            self._store.set_baseline(series, baseline)
            names = ", ".join(f"{frame.key.well}/{frame.key.field}/t{frame.key.timepoint}" for frame in frames)
            LOGGER.info("series begins", extra={"series": "/".join(series), "baseline": baseline, "from": names})
        return baseline

    def _measured(self, frames: Sequence[Frame], recipe: Recipe) -> Baseline | None:
        """The baseline of these frames; None if there are none, or one of them does not let itself be measured."""
        try:
            return pipeline.baseline_of(frames, recipe) if frames else None
        except Exception as error:  # noqa: BLE001 - a frame's failure must not end the service: see the caller
            LOGGER.warning("a series' first frames cannot be measured together", extra={"why": repr(error)})
            return None

    def _read(self, feed: Feed, ticket: Ticket) -> Frame:
        return read_frame(ticket.files, feed.fmt, feed.source, self._limits)

    def _tried(self, feed: Feed, ticket: Ticket, work: Callable[[], Made]) -> Made | None:
        """What `work` makes of a waiting frame; a frame that fails ends here as it would in the flow."""
        try:
            return work()
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - as in `Work.finish`
            feed.claim(ticket.files.key)
            self._book(_End(feed.source.name, ticket, error, "prepare"))
            return None

    def _book(self, end: _End) -> None:
        """Decide what a frame's end means.

        committed: done. BadFile: quarantine, at once. NotYet: again after the next scan, until its files have not
        opened for `frame_timeout_s`. Anything else: again `limits.read_retries` times, then quarantine as "failed".
        """
        feed = next(feed for feed in self._feeds if feed.source.name == end.source)
        ticket, error = end.ticket, end.error
        if error is None:
            feed.done(ticket.files.key)
        elif isinstance(error, BadFile):
            self._put_aside(feed, ticket, error, end.stage)
        elif isinstance(error, NotYet):
            self._wait(feed, ticket, error, end.stage)
        elif ticket.attempt < self._limits.read_retries:
            LOGGER.warning("frame failed, will be tried again", extra=_told(ticket, error))
            feed.again(replace(ticket, attempt=ticket.attempt + 1))
        else:
            trace = "".join(traceback.format_exception(error))
            bad = BadFile("failed", f"{type(error).__name__}: {error}", where=str(ticket.files.key))
            self._put_aside(feed, ticket, bad, end.stage, trace)

    def _wait(self, feed: Feed, ticket: Ticket, error: NotYet, stage: str) -> None:
        now = time.monotonic()
        failing = now if ticket.failing is None else ticket.failing
        if now - failing > feed.source.frame_timeout_s:
            self._put_aside(feed, ticket, error.expired(), stage)
            return
        if ticket.failing is None:
            LOGGER.info("frame not readable yet", extra=_told(ticket, error))
        feed.again(replace(ticket, failing=failing))

    def _put_aside(self, feed: Feed, ticket: Ticket, error: BadFile, stage: str, trace: str = "") -> None:
        """Quarantine the file that the error names, or all of the frame's; a frame that can do without it goes on."""
        slices = ticket.files.slices
        guilty = [item.stat for item in slices if item.stat.path == error.where]
        for stat in guilty or [item.stat for item in slices]:
            self._refuse(feed, Refusal(stat, error, stage, trace))
        if guilty and feed.without(ticket, guilty[0].path):
            return
        feed.done(ticket.files.key)
        self._count(feed, "quarantined")

    def _refuse(self, feed: Feed, refusal: Refusal) -> None:
        stat, error = refusal.stat, refusal.error
        self._quarantine.add(
            Entry(
                source=feed.source.name,
                path=stat.path,
                size=stat.size,
                mtime_ns=stat.mtime_ns,
                reason=error.reason,
                message=str(error),
                stage=refusal.stage,
                at=datetime.now(UTC),
                traceback=refusal.traceback,
            )
        )
        details = {"source": feed.source.name, "path": stat.path, "reason": error.reason, "why": str(error)}
        LOGGER.warning("quarantined", extra=details)

    def _count(self, feed: Feed, outcome: str) -> None:
        self._metrics.frames.labels(feed.source.name, outcome).inc()


def _told(ticket: Ticket, error: Exception) -> dict[str, str]:
    return {"frame": str(ticket.files.key), "why": repr(error)}
