"""Processes forked off a parent that has imported everything: a service starts in a tenth of the time.

The parent must have no thread when it forks (`no_threads` says so), so everything that starts one (an encoder session,
rendering, exporting) is done in a child.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cellvigil.errors import CellvigilError

Made = TypeVar("Made")

_PR_SET_PDEATHSIG = 1


def no_threads() -> None:
    """Raises RuntimeError if this process has more than one thread: a fork would copy their locks, and not them."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(f"{threads} threads in the process that forks")


@dataclass(slots=True)
class Child:
    """A process of ours."""

    pid: int
    log: Path
    code: int | None = None  # exit code, or minus the signal; None while it runs

    def running(self) -> bool:
        """Whether it still runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.running():
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Its exit code; aborted if it takes longer than `seconds` (-6; where it hung stands in its log then)."""
        until = time.monotonic() + seconds
        while self.running() and time.monotonic() < until:
            time.sleep(0.005)
        if self.running():
            os.kill(self.pid, signal.SIGABRT)  # faulthandler tells of every thread
            until = time.monotonic() + 5
            while self.running() and time.monotonic() < until:
                time.sleep(0.01)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL; returns the exit code."""
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code if self.code is not None else -signal.SIGKILL


def die_with_the_parent() -> None:
    """In a child: SIGKILL when the process that forked it ends, however it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def fork(work: Callable[[], object], log: Path) -> Child:
    """Run `work` in a child; its output and errors go to `log`. A CellvigilError ends it as it ends the command."""
    no_threads()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log)
    code = 70  # whatever escapes below
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        die_with_the_parent()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable()
        work()
        code = 0
    except CellvigilError as error:
        print(f"cellvigil: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:  # noqa: BLE001 - the child's last word
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_child(work: Callable[[], Made], seconds: float = 3600.0) -> Made:
    """What `work` gives, done in a child: zarr, onnxruntime and others start threads. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder, "answer"), Path(folder, "log")
        if fork(lambda: answer.write_bytes(pickle.dumps(work())), log).wait(seconds):
            raise RuntimeError(log.read_text(encoding="utf-8"))
        made: Made = pickle.loads(answer.read_bytes())
        return made
