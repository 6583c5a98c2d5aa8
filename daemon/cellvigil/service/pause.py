"""Waiting that the end of the service may cut short, and the pause that a full disk makes. Touches one gauge.

Nothing is lost by a pause: what waits to be committed is kept and tried again, what was not taken in yet stays in the
microscope's folder.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from prometheus_client import Gauge

from cellvigil.errors import StoreFull
from cellvigil.service.log import LOGGER

Made = TypeVar("Made")

Wait = Callable[[float], None]
"""Lets so many seconds pass. Raises Stopped if the service ends meanwhile."""

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 30.0
FULL = "store_full"


class Stopped(BaseException):
    """The service ends while a thread waits: it goes no further. Nobody's error, so no `except Exception` keeps it."""


class Pause:
    """Who waits for room on a disk just now; `paused` is the gauge that says so. Any thread may use it."""

    def __init__(self, paused: Gauge) -> None:
        self._gauge = paused.labels(FULL)
        self._gauge.set(0)
        self._who: set[str] = set()
        self._lock = threading.Lock()

    @property
    def reason(self) -> str:
        """Why the service is paused; "" if it is not."""
        return FULL if self._who else ""

    def begin(self, who: str, error: StoreFull) -> None:
        """`who` waits from now on; told of in the log once, however often it tries."""
        with self._lock:
            if not self._who:
                LOGGER.error("paused: no room on the disk", extra={"for": who, "why": str(error)})
            self._who.add(who)
            self._gauge.set(1)

    def end(self, who: str) -> None:
        """`who` waits no longer."""
        with self._lock:
            if who not in self._who:
                return
            self._who.discard(who)
            if not self._who:
                self._gauge.set(0)
                LOGGER.info("there is room again: going on")

    def until_done(self, who: str, work: Callable[[], Made], wait: Wait) -> Made:
        """What `work` returns, tried again for as long as the disk is full. Raises Stopped, and what else it raises."""
        seconds = FIRST_WAIT_S
        while True:
            try:
                made = work()
            except StoreFull as error:
                self.begin(who, error)
                wait(seconds)
                seconds = min(2 * seconds, LONGEST_WAIT_S)
            except Exception:
                self.end(who)
                raise
            else:
                self.end(who)
                return made


class Debts:
    """What one thread must write that may not wait for it: done at once, or in its order as soon as there is room."""

    def __init__(self, pause: Pause, who: str) -> None:
        self._pause = pause
        self._who = who
        self._owed: deque[Callable[[], None]] = deque()
        self._again_at = 0.0  # monotonic seconds

    def write(self, work: Callable[[], None]) -> None:
        """Do `work`, now or when `pay` finds room. What it raises but for StoreFull, this raises."""
        self._owed.append(work)
        self.pay()

    def pay(self) -> None:
        """Write what is owed, as far as there is room; asks the disk every few seconds at most."""
        if not self._owed or time.monotonic() < self._again_at:
            return
        while self._owed:
            try:
                self._owed[0]()
            except StoreFull as error:
                self._pause.begin(self._who, error)
                self._again_at = time.monotonic() + FIRST_WAIT_S
                return
            self._owed.popleft()
        self._pause.end(self._who)
