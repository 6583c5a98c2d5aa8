"""Hands complete frames to the flow and takes their ends back; the only writer of the quarantine list.

Runs in the service's main thread. It knows the policy of order, first frames (a series' baseline comes before its
frames), revisions and patience; the flow knows threads, the feeds know folders.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cellvigil import config, pipeline
from cellvigil.data import Baseline, Embeddings, Frame
from cellvigil.errors import BadFile, NotYet
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared, Recipe
from cellvigil.quarantine import Entry, Quarantine
from cellvigil.service.feed import Feed, Refusal, Ticket
from cellvigil.service.flow import Flow
from cellvigil.service.log import LOGGER
from cellvigil.service.work import Job, Returns
from cellvigil.sources.read import read_frame
from cellvigil.store.writer import Store

_BASELINE_SCANS = 5  # how many scans' time a new series may wait until its first frames are together


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """How a frame's way through the threads ended."""

    job: Job
    error: Exception | None = None
    refused: Refusal | None = None


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
        self.returns = Returns(done=self._note_done, again=self._note_again, refused=self._note_refused)

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
            if baseline is None and feed.peek() is ticket:
                return None  # the series' first frames are not together yet
            if baseline is None:
                continue  # its first frame was refused
            if (taken := feed.next()) is None:
                return None
            revision = self._store.ledger.revision(taken.files.key) + 1
            recipe = self._recipes[feed.source.name]
            return Job(taken.files, feed.source, feed.fmt, recipe, baseline, revision, taken.attempt, taken.queued)
        return None

    def _new_baseline(self, feed: Feed, series: tuple[str, str, str], now: float) -> Baseline | None:
        """Fix what the series' first frames say, once enough of them wait or the first has waited long enough."""
        recipe = self._recipes[feed.source.name]
        wanted = recipe.index.image_rule.intensity.frames
        tickets = feed.first_waiting(series, wanted)
        patience = _BASELINE_SCANS * feed.source.scan_interval_s
        if len(tickets) < wanted and now - min(ticket.queued for ticket in tickets) < patience:
            return None
        frames = [frame for ticket in tickets if (frame := self._first_frame(feed, ticket)) is not None]
        if not frames:
            return None
        baseline = pipeline.baseline_of(frames, recipe)
        self._store.set_baseline(series, baseline)
        names = ", ".join(f"{frame.key.well}/{frame.key.field}/t{frame.key.timepoint}" for frame in frames)
        LOGGER.info("series begins", extra={"series": "/".join(series), "baseline": baseline, "from": names})
        return baseline

    def _first_frame(self, feed: Feed, ticket: Ticket) -> Frame | None:
        """Read one of a series' first frames; one that cannot be read ends here as it would in the flow."""
        files = ticket.files
        try:
            return read_frame(files, feed.fmt, feed.source, self._limits)
        except (BadFile, NotYet) as error:
            recipe = self._recipes[feed.source.name]
            job = Job(files, feed.source, feed.fmt, recipe, Baseline((0, 1), 0), 0, ticket.attempt, ticket.queued)
            feed.claim(files.key)
            if isinstance(error, BadFile):
                self._book(_End(job, refused=Refusal(files.slices[0].stat, error, "prepare")))
            else:
                self._book(_End(job, error))
            return None

    def _book(self, end: _End) -> None:
        feed = next(feed for feed in self._feeds if feed.source.name == end.job.source.name)
        files = end.job.files
        if end.refused is not None:
            self._put_aside(feed, end.job, end.refused)
        elif isinstance(end.error, NotYet) and time.monotonic() - end.job.queued > feed.source.frame_timeout_s:
            self._put_aside(feed, end.job, Refusal(files.slices[0].stat, end.error.expired(), "prepare"))
        elif end.error is not None:
            failed = not isinstance(end.error, NotYet)
            feed.again(files, end.job.attempt + failed, end.job.queued)
        else:
            feed.done(files.key)

    def _put_aside(self, feed: Feed, job: Job, refusal: Refusal) -> None:
        """Quarantine the file that the error names, or all of the frame's; a frame that can do without it goes on."""
        files = job.files
        guilty = [item.stat for item in files.slices if item.stat.path == refusal.error.where]
        for stat in guilty or [item.stat for item in files.slices]:
            self._refuse(feed, Refusal(stat, refusal.error, refusal.stage, refusal.traceback))
        if guilty and feed.without(files, guilty[0].path, job.queued):
            return
        feed.done(files.key)
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

    def _note_done(self, job: Job) -> None:
        self._note(_End(job))

    def _note_again(self, job: Job, error: Exception) -> None:
        self._note(_End(job, error))

    def _note_refused(self, job: Job, error: BadFile, stage: str, trace: str) -> None:
        self._note(_End(job, error, Refusal(job.files.slices[0].stat, error, stage, trace)))

    def _note(self, end: _End) -> None:
        self._ends.put(end)
        self._wake()
