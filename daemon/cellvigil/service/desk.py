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

from cellvigil import config
from cellvigil.data import Baseline, Embeddings
from cellvigil.errors import BadFile, NotYet, StoreError
from cellvigil.ledger import Series
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared, Recipe
from cellvigil.quarantine import Entry, Quarantine
from cellvigil.service import telling
from cellvigil.service.attaching import Late
from cellvigil.service.beginning import Beginnings, First, Measured
from cellvigil.service.crashes import Working
from cellvigil.service.feed import Feed
from cellvigil.service.flow import Flow
from cellvigil.service.log import LOGGER
from cellvigil.service.looks import Refusal
from cellvigil.service.pause import Debts, Pause
from cellvigil.service.turns import Ticket
from cellvigil.service.work import Job
from cellvigil.store.writer import Store

_MANY = 100  # waiting frames of a series among which its first ones are looked for
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
        pause: Pause,
        working: Working,
        wake: Callable[[], None],
    ) -> None:
        self._feeds = feeds
        self._recipes = recipes
        self._limits = limits
        self._store = store
        self._quarantine = quarantine
        self._metrics = metrics
        self._ends: queue.SimpleQueue[_End] = queue.SimpleQueue()
        self._pause = pause
        self._wake = wake
        self._debts = Debts(pause, "the desk")
        self._beginnings = Beginnings(wake, working)
        self._begun: dict[Series, Baseline] = {}  # measured, and still owed to the store

    def ended(self, job: Job, error: Exception | None, stage: str) -> None:
        """Note a frame's end; called from the finishing thread."""
        self._ends.put(_End(job.source.name, job.ticket, error, stage))
        self._wake()

    def look(self, feed: Feed, now: float) -> None:
        """Let a feed look at its folder, and put aside what it refuses."""
        self._release(now)
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

    def _release(self, now: float) -> None:
        """Hand back what a person took out of quarantine since."""
        try:
            released = self._quarantine.refresh()
        except StoreError as error:
            LOGGER.warning("what was released from quarantine cannot be read", extra={"why": str(error)})
            return
        for feed in self._feeds if released else ():
            if paths := {path for source, path in released if source == feed.source.name}:
                feed.try_again(paths, now)

    def hand_out(self, flow: Flow[Job, Prepared | Late, Embeddings], now: float) -> None:
        """Fill the flow's room, one frame a source in turn."""
        busy = True
        while busy and flow.room() > 0 and flow.failure is None:
            busy = False
            for feed in self._feeds:
                if flow.room() > 0 and (job := self._job(feed, now)) is not None:
                    flow.submit(job)
                    busy = True

    def close(self) -> list[str]:
        """Book the last ends; returns the names of threads that hang and are left behind."""
        self.take_back()
        return self._beginnings.end()

    def take_back(self) -> None:
        """Book every end that the threads have noted since."""
        while True:
            try:
                end = self._ends.get_nowait()
            except queue.Empty:
                break
            self._book(end)
        self._debts.pay()
        for feed in self._feeds:
            self._metrics.backlog.labels(feed.source.name).set(feed.backlog)
            self._metrics.waiting.labels(feed.source.name).set(feed.unfinished)

    def _job(self, feed: Feed, now: float) -> Job | None:
        """The next frame of a feed, ready for the flow; None if none may go yet."""
        while (ticket := feed.peek()) is not None:
            series = ticket.files.key.series
            baseline = self._baseline(feed, series) or self._new_baseline(feed, series, now)
            if feed.peek() is not ticket:
                continue  # it was one of the first frames, and refused or gone back
            if baseline is None:
                return None  # the series' first frames are not together yet
            feed.claim(ticket.files.key)
            revision = self._store.ledger.revision(ticket.files.key) + 1
            return Job(ticket, feed.source, feed.fmt, self._recipes[feed.source.name], baseline, revision)
        return None

    def _baseline(self, feed: Feed, series: Series) -> Baseline | None:
        """What was fixed for a series; None if nothing yet, or nothing of a channel that its index looks at now."""
        known = self._store.baseline(series)
        looked_at = self._recipes[feed.source.name].index.image_rule.channels
        return known if known is not None and known.channels.keys() >= set(looked_at) else None

    def _new_baseline(self, feed: Feed, series: Series, now: float) -> Baseline | None:
        """What the series' first frames say, once enough of them wait or the first has waited long enough.

        None while they are not together, not measured, or their baseline waits for room in the store. Channels that an
        index came to look at later are measured then; what was fixed before stays.
        """
        if series in self._begun or series in self._beginnings:
            measured = self._beginnings.take(series)
            return None if measured is None else self._begin(feed, series, measured)
        recipe = self._recipes[feed.source.name]
        wanted = recipe.index.image_rule.intensity.frames
        tickets = feed.first_waiting(series, wanted)
        patience = _BASELINE_SCANS * feed.source.scan_interval_s
        if len(tickets) == wanted or now - min(ticket.queued for ticket in tickets) >= patience:
            self._beginnings.ask(series, First(tuple(tickets), feed.fmt, feed.source, recipe, self._limits))
        return None

    def _begin(self, feed: Feed, series: Series, measured: Measured) -> Baseline | None:
        """Fix what was measured; a frame that failed ends here as it would in the flow."""
        waiting = feed.first_waiting(series, _MANY) if measured.failed else []
        for ticket, error in measured.failed:
            if ticket in waiting:  # else a newer version has come: it is measured anew
                feed.claim(ticket.files.key)
                self._book(_End(feed.source.name, ticket, error, "prepare"))
        if (fresh := measured.baseline) is not None:
            known = self._store.baseline(series)
            ranges = {**fresh.channels, **(known.channels if known else {})}
            self._begun[series] = replace(known or fresh, channels=ranges)
            self._debts.write(partial(self._fix, series, measured.names))
        return self._baseline(feed, series)

    def _fix(self, series: Series, names: str) -> None:
        baseline = self._begun[series]
        self._store.set_baseline(series, baseline)
        del self._begun[series]
        telling.begun(series, baseline, names)

    def _book(self, end: _End) -> None:
        """Decide what a frame's end means.

        committed: done. BadFile: quarantine, at once. NotYet: again after the next scan, until its files have not
        opened for `frame_timeout_s`. Anything else: again `limits.read_retries` times, then quarantine as "failed".
        """
        feed = next(feed for feed in self._feeds if feed.source.name == end.source)
        ticket, error = end.ticket, end.error
        if error is None:
            feed.done(ticket.files.key)
            self._debts.write(partial(self._quarantine.taken, end.source, [x.stat for x in ticket.files.slices]))
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
        failing = feed.failing_since(ticket, now)
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
        entry = Entry(
            source=feed.source.name,
            path=stat.path,
            size=stat.size,
            mtime_ns=stat.mtime_ns,
            reason=error.reason,
            message=str(error),
            stage=refusal.stage,
            at=datetime.now(UTC),
            traceback=refusal.traceback or _chain(error),
        )
        self._debts.write(partial(self._quarantine.add, entry))
        details = {"source": feed.source.name, "path": stat.path, "reason": error.reason, "why": str(error)}
        LOGGER.warning("quarantined", extra=details)

    def _count(self, feed: Feed, outcome: str) -> None:
        self._metrics.frames.labels(feed.source.name, outcome).inc()


def _told(ticket: Ticket, error: Exception) -> dict[str, str]:
    return {"frame": str(ticket.files.key), "why": repr(error)}


def _chain(error: BadFile) -> str:
    """The traceback of an error that another one led to: a decoder's, a parser's; "" where our own check found it."""
    return "".join(traceback.format_exception(error)) if error.__cause__ is not None else ""
