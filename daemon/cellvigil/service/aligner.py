"""Keeps the sources' indexes aligned to their microscopes: a thread that looks after each source's alignment.

It takes no part in a frame's way: it reads what is committed, has fits run as processes of the lowest priority, and
swaps a recipe when one is taken.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from cellvigil import config
from cellvigil.errors import CellvigilError
from cellvigil.metrics import AlignmentMetrics, Metrics
from cellvigil.service.alignment import FAILED, House, SourceAlignment
from cellvigil.service.beside import beside
from cellvigil.service.log import LOGGER
from cellvigil.service.opening import Kitchen
from cellvigil.store.writer import Store

NAME = "aligner"
"""Of its thread."""

_PACE_S = 1.0  # between two looks, at least
_LEISURE = 20.0  # a look that took a second is followed by twenty without one ...
_MOST_LEISURE_S = 30.0  # ... but no more than this
_RECALL_S = 0.4  # of a look are for calling frames again, so that live frames come first
_WAIT_S = 0.2
_PATIENCE_S = 2.0  # at the end, for the frame that is called again


class Aligner:
    """The alignments of one service. `look` is for one thread; how they stand may be asked from any."""

    def __init__(self, settings: config.Config, store: Store, kitchen: Kitchen, metrics: Metrics) -> None:
        """Takes up what earlier runs have fitted. Raises BundleError, UsageError and StoreError: see `begin`."""
        own = AlignmentMetrics(metrics.registry)
        house = House(settings, store, kitchen.recipes, kitchen.encoders, own)
        self._sources: dict[str, SourceAlignment] = {}
        self._troubles: dict[str, str] = {}
        for source in settings.sources:
            if source.align.mode == "off":
                own.show(source.name, "off", kitchen.recipes[source.name].index.sha256)
                continue
            self._sources[source.name] = SourceAlignment(source, house)
            self._sources[source.name].begin(datetime.now(UTC))

    @property
    def busy(self) -> bool:
        """Whether a fit runs or frames wait to be called again."""
        return any(one.busy for one in self._sources.values())

    def text(self, source: str) -> str:
        """How a source's alignment stands, for a person; "" where none is asked for."""
        one = self._sources.get(source)
        return "" if one is None else one.text

    def has_failed(self, source: str) -> bool:
        """Whether a source's calls are unaligned because no fit could be taken."""
        one = self._sources.get(source)
        return one is not None and one.status == FAILED

    def has_drifted(self, source: str) -> bool:
        """Whether a refit is asked for, because control wells have drifted."""
        one = self._sources.get(source)
        return one is not None and one.drifted

    def look(self, now: datetime, recall_s: float = _RECALL_S) -> None:
        """Do what is next for each source; `now` is aware, UTC. Never raises: what fails is told, and tried again."""
        for name, one in self._sources.items():
            try:
                one.look(now, recall_s)
            except (CellvigilError, OSError) as error:
                level = logging.DEBUG if self._troubles.get(name) == str(error) else logging.WARNING  # told once
                LOGGER.log(level, "alignment is put off", extra={"source": name, "why": str(error)})
                self._troubles[name] = str(error)
            else:
                self._troubles.pop(name, None)

    def settle(self, going: Callable[[], bool]) -> None:
        """Look until nothing is left to be done, fits and all: for `once`."""
        while going():
            self.look(datetime.now(UTC))
            if not self.busy or self._troubles:
                return
            for one in self._sources.values():
                one.wait(_WAIT_S)

    def close(self) -> None:
        """Stop the fits that run."""
        for one in self._sources.values():
            one.close()


@contextlib.contextmanager
def aligning(aligner: Aligner, *, stopping: threading.Event, left: list[str]) -> Iterator[Aligner]:
    """Look after the alignments while the block runs. A thread that hangs is left behind, its name in `left`."""
    stop = threading.Event()

    def run() -> None:
        pause = 0.0
        while not stop.wait(pause) and not stopping.is_set():
            began = time.thread_time()
            try:
                aligner.look(datetime.now(UTC))
            except Exception:  # noqa: BLE001 - nobody waits for this thread: it is told, and recording goes on
                LOGGER.error("alignment failed", exc_info=True)
            spent = time.thread_time() - began
            pause = _PACE_S if aligner.busy else min(_MOST_LEISURE_S, max(_PACE_S, _LEISURE * spent))
        aligner.close()

    with beside(run, NAME, stop=stop, patience_s=_PATIENCE_S, left=left):
        yield aligner
