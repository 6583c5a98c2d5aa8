"""Frames that were called before their source was aligned, called again afterwards, a few at a look.

So that a plate's values are those of one index from its beginning, and its baseline goes on. Only frames of plates
that run, and only those called by the index as it was: what an earlier alignment called keeps its calls, since the
microscope may have been another then. The rest is `cellvigil once --recall`'s.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from datetime import datetime, timedelta

from cellvigil.data import FrameKey
from cellvigil.ledger import CommittedFrame
from cellvigil.metrics import AlignmentMetrics
from cellvigil.pipeline import Recipe
from cellvigil.service.log import LOGGER
from cellvigil.service.recalling import CALLED, GONE, due, recall
from cellvigil.store.writer import Store

_RUNNING = timedelta(days=1)  # a plate without a frame for so long is over
_FRESH = timedelta(minutes=10)  # after a swap, frames that were inside may still come out, called by the index before


class CatchingUp:
    """One source's frames. Not safe for threads."""

    def __init__(self, source: str, store: Store, metrics: AlignmentMetrics) -> None:
        self._source = source
        self._store = store
        self._metrics = metrics
        self._since: datetime | None = None  # of the swap; None: nothing is looked for
        self._waiting: deque[CommittedFrame] = deque()
        self._given_up: set[tuple[FrameKey, int]] = set()

    @property
    def busy(self) -> bool:
        """Whether frames wait."""
        return bool(self._waiting)

    def begin(self, now: datetime) -> None:
        """The source was aligned now: look for what was called before."""
        self._since = now
        self._waiting.clear()

    def look(self, unaligned: str, now: datetime) -> None:
        """Find what is to be called again: current calls by index `unaligned` (its sha256)."""
        if self._since is None or self._waiting:
            return
        ledger = self._store.ledger
        for series in ledger.series():
            last = ledger.last_commit(series) if series[0] == self._source else None
            if last is None or now - last > _RUNNING:
                continue
            found = due(ledger, series, only={unaligned})
            self._waiting.extend(one for one in found if (one.key, one.revision) not in self._given_up)
        if not self._waiting and now - self._since > _FRESH:
            self._since = None

    def work(self, recipe: Recipe, seconds: float) -> None:
        """Call frames again for so long, one at least. Raises StoreFull: they wait on."""
        until, ends, worked = time.monotonic() + seconds, Counter[str](), False
        try:
            while self._waiting and not (worked and time.monotonic() >= until):
                frame, worked = self._waiting[0], True
                ends[end := recall(self._store, frame, recipe)] += 1
                if end != CALLED:
                    self._given_up.add((frame.key, frame.revision))
                self._waiting.popleft()
        finally:  # also what was done before the disk was full is told
            self._tell(ends)

    def _tell(self, ends: Counter[str]) -> None:
        about = {"source": self._source, "left": len(self._waiting)}
        if ends[CALLED]:
            self._metrics.recalled.labels(self._source).inc(ends[CALLED])
            extra = {**about, "frames": ends[CALLED]}
            LOGGER.info("alignment: frames from before it are called again", extra=extra)
        if ends[GONE]:
            what = "alignment: frames from before it keep their calls: retention has deleted their embeddings"
            LOGGER.warning(what, extra={**about, "frames": ends[GONE]})
