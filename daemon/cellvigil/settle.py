"""When has a file come to rest? When its size and date were equal over several scans of the folder.

Pure: listings and times go in, settled files come out. Times are seconds on our own monotonic clock, never the file
server's; a file's date is compared for equality only. Settled is not yet whole: `sources.complete` looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellvigil.data import FileStat


@dataclass(slots=True)
class _Watched:
    """A file that is not settled."""

    first: float  # when the file was first listed, in whatever version
    since: float  # when this version was first listed
    scans: int = 0  # in how many scans it was listed so


class Settler:
    """Tells of each version (size and date) of a file once, when `scans` scans in a row listed it so.

    The scans must also span more than `span_s` seconds: events may hasten a scan, but not settle a file by
    three scans in one instant. A changed file is told of anew; one that is gone is forgotten, and new if it comes
    back. Memory is the last listing (kept, not copied) and what is not settled.
    """

    def __init__(self, scans: int, *, span_s: float = 0.0) -> None:
        if scans < 2:
            raise ValueError(f"a file can be compared over 2 scans or more, not {scans}")
        self._scans = scans
        self._span_s = span_s
        self._listing: Mapping[str, FileStat] = {}
        self._moving: dict[str, _Watched] = {}
        self._settled_now: dict[str, _Watched] = {}  # by the last update

    def update(self, listing: Mapping[str, FileStat], now: float) -> tuple[FileStat, ...]:
        """Take one scan's listing, by path; return the files that are settled since, in order of path.

        The listing is kept and must not be changed afterwards.
        """
        before, moving = self._listing, self._moving
        self._settled_now = {}
        for path in [path for path in moving if path not in listing]:
            del moving[path]
        for path, stat in listing.items():
            known = before.get(path)
            if known is stat or known == stat:
                watched = moving.get(path)
                if watched is None:
                    continue  # told of
            else:
                # A version that was told of had its time; what is written after it is seen for the first time.
                earlier = moving.get(path)
                watched = moving[path] = _Watched(earlier.first if earlier else now, now)
            watched.scans += 1
            if watched.scans >= self._scans and now - watched.since > self._span_s:
                self._settled_now[path] = moving.pop(path)
        self._listing = listing
        return tuple(listing[path] for path in sorted(self._settled_now))

    def forget(self, path: str, now: float) -> None:
        """Let a listed file settle anew, as if it had just been written."""
        if path in self._listing:
            self._moving[path] = _Watched(now, now)

    def out_of_sight(self, seconds: float) -> None:
        """The folder could not be seen for so long: that time does not count for any file."""
        for watched in self._moving.values():
            watched.first += seconds
            watched.since += seconds

    def first_sight(self, path: str) -> float | None:
        """When a file was first listed, also in an earlier version; None if it settled before the last update."""
        watched = self._moving.get(path) or self._settled_now.get(path)
        return None if watched is None else watched.first

    def is_moving(self, path: str) -> bool:
        """Whether a file was in the last listing and is not settled."""
        return path in self._moving

    @property
    def unsettled(self) -> int:
        """Files of the last listing that are not settled yet."""
        return len(self._moving)

    def __len__(self) -> int:
        return len(self._listing)
