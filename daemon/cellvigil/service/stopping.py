"""SIGTERM and SIGINT: the wish to end, and when it came. The only place that sets signal handlers."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from cellvigil.service.log import LOGGER
from cellvigil.service.pause import Stopped


class Stopping:
    """Whether the service is to end. While it `starts`, the first wish cuts short whatever is being opened."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.wake = threading.Event()  # something happened that the main loop should look at
        self.at: float | None = None  # monotonic seconds: the first wish
        self.starts = False
        self.cut_short = False  # Stopped was raised inside whatever was being opened

    def ask(self) -> None:
        """In a signal's handler: note the wish; a second one changes nothing. Raises Stopped while the service starts.

        Takes no lock, since the main thread may hold any just now: an Event's own lock while it waits for it, or the
        log's. Setting `wake` here hung one SIGTERM in a few dozen for ever.
        """
        first = self.at is None
        if first:
            self.at = time.monotonic()
        if first and self.starts:
            self.starts, self.cut_short = False, True
            raise Stopped

    def tell(self, signal_name: str) -> None:
        """In a thread of its own: let everybody know."""
        self.stop.set()
        self.wake.set()
        LOGGER.info("stopping", extra={"signal": signal_name})

    def wait(self, seconds: float) -> None:
        """Let time pass. Raises Stopped if the service is to end meanwhile."""
        if self.stop.wait(seconds):
            raise Stopped


@contextlib.contextmanager
def signals() -> Iterator[Stopping]:
    """Listen to SIGTERM and SIGINT while the block runs.

    The earlier handlers come back afterwards, unless one came: a second one must not kill a process that is ending.
    """
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping  # only the main thread may set handlers; whoever runs us in another one stops us himself
        return
    came: queue.SimpleQueue[int] = queue.SimpleQueue()  # its `put` is made for handlers: it takes no lock

    def told(number: int, _: FrameType | None) -> None:
        came.put(number)
        stopping.ask()

    def pass_on() -> None:
        while number := came.get():
            stopping.tell(signal.Signals(number).name)

    teller = threading.Thread(target=pass_on, name="signals", daemon=True)
    teller.start()
    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    except Exception:
        # What a library made of our Stopped: onnxruntime, interrupted while it is imported, says that it does not load.
        if not stopping.cut_short:
            raise
    finally:
        for number, handler in before.items() if stopping.at is None else ():
            signal.signal(number, handler)
        came.put(0)
        teller.join()
