"""The main loop: what the folders brought is taken in, frames are handed out, their ends are taken back.

Runs in the main thread and looks at no folder itself: every source has a lookout of its own (`lookout.py`), so
that none can hold up another, nor the loop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from cellvigil.data import Embeddings
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared
from cellvigil.service.attaching import Late
from cellvigil.service.desk import Desk
from cellvigil.service.feed import Feed
from cellvigil.service.flow import Flow
from cellvigil.service.log import LOGGER
from cellvigil.service.work import Job

_BEAT_S = 15.0
_LONGEST_WAIT_S = 5.0  # whether a look hangs is asked so often at least
_CLOSE_S = 2.0  # a look that hangs on a dead share is left behind after so long: it only reads


def go_round(
    feeds: Sequence[Feed],
    desk: Desk,
    flow: Flow[Job, Prepared | Late, Embeddings],
    metrics: Metrics,
    *,
    stop: threading.Event,
    wake: threading.Event,
    until_quiet: bool,
) -> None:
    """Work until `stop` is set, the flow has failed, or (`until_quiet`) nothing more is to be done.

    Raises whatever ended a lookout: it is a bug, since a folder's own troubles end none.
    """
    beat_at = time.monotonic() + _BEAT_S
    with _lookouts(feeds, wake.set, until_quiet=until_quiet):
        while not stop.is_set() and flow.failure is None:
            wake.clear()
            for feed in feeds:
                desk.look(feed, time.monotonic())
                _tell(feed, metrics)
            desk.take_back()
            desk.hand_out(flow, time.monotonic())
            if time.monotonic() >= beat_at:
                flow.beat()
                beat_at = time.monotonic() + _BEAT_S
            if until_quiet and not flow.inside and all(feed.quiet for feed in feeds):
                changes = [feed.last_call() for feed in feeds]
                if not any(changes):
                    return
            wake.wait(min(_LONGEST_WAIT_S, max(0.0, beat_at - time.monotonic())))


@contextlib.contextmanager
def _lookouts(feeds: Sequence[Feed], wake: Callable[[], None], *, until_quiet: bool) -> Iterator[None]:
    """The feeds' lookouts, at work while the block runs. Until all is quiet, an empty folder is just that."""
    for feed in feeds:
        feed.lookout.start(wake, trusting=until_quiet)
    try:
        yield
    finally:
        for feed in feeds:
            feed.lookout.stop()
        until = time.monotonic() + _CLOSE_S
        for feed in feeds:
            if not feed.lookout.join(max(0.0, until - time.monotonic())):
                LOGGER.warning("a look at the source's folder hangs and is left", extra={"source": feed.source.name})


def _tell(feed: Feed, metrics: Metrics) -> None:
    name = feed.source.name
    metrics.source_up.labels(name).set(0 if feed.out_of_sight else 1)
    metrics.scan.labels(name).set(feed.lookout.last_took_s)
