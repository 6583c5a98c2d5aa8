"""How far the work is, told on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable


def counting(done: int, total: int, /, cached: int = 0) -> None:
    """One line that counts up on a terminal; in a log, one at the end."""
    if sys.stderr.isatty() or done == total:
        end = "\r" if sys.stderr.isatty() and done < total else "\n"
        known = f", {cached} of them before" if cached else ""
        print(f"embedded {done} of {total} cells{known}", end=end, file=sys.stderr, flush=True)


def counted(what: str) -> Callable[[int, int], None]:
    """The same for things called `what`: "fold 3 of 25"."""

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            end = "\r" if sys.stderr.isatty() and done < total else "\n"
            print(f"{what} {done} of {total}", end=end, file=sys.stderr, flush=True)

    return tell
