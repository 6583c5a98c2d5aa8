"""The list of bad files, and how one is added. `CASES` says what each is for, and what must become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

READS = "reads"
"""An odd file that is an image all the same."""

UNSEEN = "unseen"
"""What a listing leaves out."""


@dataclass(frozen=True)
class Bad:
    """One bad file."""

    source: str  # gen5, nanolive, ometiff or plain
    name: str  # relative to the source's folder
    write: Callable[[Path], object]  # given the full path; its folder is there
    expected: frozenset[str]  # quarantine reasons, READS or UNSEEN


CASES: dict[str, Bad] = {}
_SUFFIX = {"gen5": ".tif", "nanolive": ".tif", "ometiff": ".ome.tif", "plain": ".tif"}


def add(
    case: str,
    source: str,
    make: bytes | Callable[[], bytes] | None,
    *expected: str,
    name: str = "",
    suffix: str = "",
    write: Callable[[Path], object] | None = None,
) -> None:
    """One more case. `make` gives its bytes, or `write` does it all; the name fits the source unless one is given."""
    number = len(CASES)
    usual = f"A1_02_1_1_Bright Field_{number:03d}" if source == "gen5" else f"A1_t{number:03d}"

    def put(path: Path) -> None:
        path.write_bytes(make() if callable(make) else make or b"")

    where = name or usual + (suffix or _SUFFIX[source])
    CASES[case] = Bad(source, where, write or put, frozenset(expected))
