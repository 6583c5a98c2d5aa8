"""`python -m cellvigil.service.lowly PARENT ARGS...` becomes `python ARGS...`, of lowest priority; dies with PARENT.

For work that must never be in the way of a frame, nor outlive a service that was killed. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>: the signal that this process gets when its parent is gone
_NICEST = 19
_FIRST_TO_GO = "500"


def main(argv: Sequence[str]) -> None:
    """`argv`: the parent's process id, then Python's arguments. Returns only where the parent is gone already."""
    parent = int(argv[0])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:
        os.nice(_NICEST)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # below even that: on a busy machine nice 19 still gets its turns
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError):  # where memory is short it goes before the service does
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
        os.execv(sys.executable, [sys.executable, *argv[1:]])  # noqa: S606 - our own interpreter, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
