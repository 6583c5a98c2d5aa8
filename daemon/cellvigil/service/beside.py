"""A thread beside the service's own: begun, told to stop, waited for a while, and left behind where it hangs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(
    run: Callable[[], None], name: str, *, stop: threading.Event, patience_s: float, left: list[str]
) -> Iterator[threading.Thread]:
    """Have `run` run while the block does. At its end `stop` is set, which `run` must look at.

    Where it still goes on after `patience_s` (a share that hangs), it is left behind, its name in `left`.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)  # one that hangs must not keep the process
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(patience_s)
        if thread.is_alive():
            left.append(name)
