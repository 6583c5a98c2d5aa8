"""How far a search is and how long it will yet take, told on a stream: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

_WIDTH = 24  # characters
_EVERY_TTY = 0.2  # seconds between two drawings
_EVERY_LOG = 30.0  # seconds between two lines


@dataclass(slots=True)
class Bar:
    """One search under way; call it with (steps done, steps in all)."""

    what: str  # in words, e.g. "choosing"
    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False, default=0.0)
    _told: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._began = self.clock()

    def __call__(self, done: int, total: int) -> None:
        """Tell, if it is time to; the last step always."""
        now = self.clock()
        tty = self.stream.isatty()
        if done < total and now - self._told < (_EVERY_TTY if tty else _EVERY_LOG):
            return
        self._told = now
        left = (now - self._began) * (total - done) / done if done else 0.0
        rest = f"{_span(left)} left" if done < total else f"in {_span(now - self._began)}"
        if not tty:
            print(f"{self.what}: {done} of {total}, {rest}", file=self.stream, flush=True)
            return
        full = round(_WIDTH * done / total)
        line = f"\r{self.what} [{'#' * full}{'.' * (_WIDTH - full)}] {done}/{total}, {rest}\x1b[K"
        print(line, end="" if done < total else "\n", file=self.stream, flush=True)


def _span(seconds: float) -> str:
    """Seconds for a person: 8 s, 3 min 20 s, 1 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
