"""When has a file come to rest? When its size and date were equal over several scans of the folder.

Pure: listings and times go in, settled files come out. Times are seconds on our own monotonic clock, never the file
server's; a file's date is compared for equality only. Settled is not yet whole: `sources.complete` looks inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cellvigil.data import FileStat


@dataclass(slots=True)
class _Watched:
    """One file as it was last listed."""

    stat: FileStat
    first: float  # when the file was first listed, in whatever version
    since: float  # when this version was first listed
    scans: int  # in how many scans it was listed so
    told: bool


class Settler:
    """Tells of each version (size and date) of a file once, when `scans` scans in a row listed it so.

    The scans must also span more than `span_s` seconds: events may hasten a scan, but not settle a file by
    three scans in one instant. A changed file is told of anew; one that is gone is forgotten, and new if it comes
    back. Memory is that of the last listing.
    """

    def __init__(self, scans: int, *, span_s: float = 0.0) -> None:
        if scans < 2:
            raise ValueError(f"a file can be compared over 2 scans or more, not {scans}")
        self._scans = scans
        self._span_s = span_s
        self._watched: dict[str, _Watched] = {}

    def update(self, listing: Iterable[FileStat], now: float) -> tuple[FileStat, ...]:
        """Take one scan's listing; return the files that are settled since, in the listing's order."""
        watched: dict[str, _Watched] = {}
        settled = []
        for stat in listing:
            entry = self._watched.get(stat.path)
            if entry is None or entry.stat != stat:
                # A version that was told of had its time; what is written after it is seen for the first time.
                entry = _Watched(stat, now if entry is None or entry.told else entry.first, now, 0, told=False)
            entry.scans += 1
            if not entry.told and entry.scans >= self._scans and now - entry.since > self._span_s:
                entry.told = True
                settled.append(entry.stat)
            watched[stat.path] = entry
        self._watched = watched
        return tuple(settled)

    def first_sight(self, path: str) -> float | None:
        """When a file of the last listing was first listed, also in an earlier version; None if it was not listed."""
        entry = self._watched.get(path)
        return None if entry is None else entry.first

    @property
    def unsettled(self) -> int:
        """Files of the last listing that are not settled yet."""
        return sum(not entry.told for entry in self._watched.values())

    def __len__(self) -> int:
        return len(self._watched)
