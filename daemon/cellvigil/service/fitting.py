"""A fit that is under way: `cellvigil-index align` as a process of its own, of the lowest priority, on one thread.

Touches that process only, the one that it started, and its log.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PATIENCE_S = 1.0  # at the end, for a process that was told to stop
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_TAIL = 4096  # bytes of the log that its last line is looked for in


class Fitting:
    """One running fit."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    def begin(cls, arguments: Sequence[str], log: Path) -> Fitting:
        """Start `python -m cellvigil_indexes ARGUMENTS`; what it has to say goes to `log`. Raises OSError."""
        low = [sys.executable, "-m", "cellvigil.service.lowly", str(os.getpid()), "-m", "cellvigil_indexes"]
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own module, our own arguments, no shell
                [*low, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **dict.fromkeys(_THREADS, "1")},
            )
        return cls(process, log)

    def poll(self) -> int | None:
        """Its exit code; None while it works."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Let it work for so long, or until it ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def why(self) -> str:
        """The last line that it wrote: of a fit that failed, the reason."""
        try:
            lines = self._log.read_bytes()[-_TAIL:].decode("utf-8", "replace").split("\n")
        except OSError as error:
            return f"its log cannot be read: {error.strerror}"
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
