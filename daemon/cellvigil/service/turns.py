"""The frames of one source that are complete and not committed: who waits, who rests, who is on the way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from cellvigil.data import FrameFiles, FrameKey
from cellvigil.sources.natural import natural_key

_natural = lru_cache(maxsize=8192)(natural_key)  # few wells and fields, asked for at every look


@dataclass(frozen=True, slots=True)
class Ticket:
    """A complete frame that waits for its turn."""

    files: FrameFiles
    attempt: int = 0  # how often it failed before
    queued: float = 0.0  # monotonic seconds: when it was complete
    failing: float | None = None  # monotonic seconds: since when its files do not open; None = they did not fail yet


class Turns:
    """Whose turn is next: by experiment, then time, plate, well and field; the oldest or the newest time first.

    A key is never on its way twice: a newer version of a frame waits until the one before has come to its end.
    """

    def __init__(self, *, newest_first: bool) -> None:
        self._newest_first = newest_first
        self._waiting: dict[FrameKey, Ticket] = {}
        self._order: list[FrameKey] = []  # the next one last; may hold keys that wait no longer
        self._resting: list[tuple[float, Ticket]] = []  # to be tried again, not before that time
        self._inside: dict[FrameKey, Ticket] = {}  # on their way through the flow

    def __len__(self) -> int:
        return len(self._waiting) + len(self._resting) + len(self._inside)

    def __contains__(self, key: FrameKey) -> bool:
        return key in self._waiting or key in self._inside or any(t.files.key == key for _, t in self._resting)

    def paths(self, key: FrameKey) -> set[str]:
        """The files with which a frame waits, rests or is on its way, in whatever version."""
        tickets = [self._waiting.get(key), self._inside.get(key), *(t for _, t in self._resting if t.files.key == key)]
        return {item.stat.path for ticket in tickets if ticket is not None for item in ticket.files.slices}

    def queue(self, tickets: Iterable[Ticket]) -> None:
        """Let frames wait; a newer version takes the place of one that waits or rests."""
        fresh = {ticket.files.key: ticket for ticket in tickets}
        if fresh:
            self._resting = [(until, ticket) for until, ticket in self._resting if ticket.files.key not in fresh]
            self._waiting |= fresh
            self._order = sorted(self._waiting, key=_turn, reverse=not self._newest_first)

    def peek(self) -> Ticket | None:
        """The frame whose turn is next, still waiting."""
        while self._order and self._order[-1] not in self._waiting:
            self._order.pop()
        keys = (key for key in reversed(self._order) if key in self._waiting and key not in self._inside)
        key = next(keys, None)
        return None if key is None else self._waiting[key]

    def first_waiting(self, series: tuple[str, str, str], count: int) -> list[Ticket]:
        """The next `count` frames of a series that wait, in their order, still waiting."""
        keys = (key for key in reversed(self._order) if key.series == series and key in self._waiting)
        return [self._waiting[key] for key, _ in zip(keys, range(count), strict=False)]

    def claim(self, key: FrameKey) -> None:
        """A waiting frame starts on its way."""
        self._inside[key] = self._waiting.pop(key)

    def done(self, key: FrameKey) -> Ticket | None:
        """The way of a frame ends; returns what it was on its way as."""
        return self._inside.pop(key, None)

    def rest(self, ticket: Ticket, until: float) -> None:
        """The frame goes back, and is to be tried again after `until`; unless a newer version of it waits."""
        self._inside.pop(ticket.files.key, None)
        if ticket.files.key not in self._waiting:
            self._resting.append((until, ticket))

    def rouse(self, now: float) -> None:
        """Queue what has rested."""
        due = [ticket for until, ticket in self._resting if until <= now]
        self._resting = [(until, ticket) for until, ticket in self._resting if until > now]
        self.queue(due)

    def correct(self, ticket: Ticket) -> Ticket:
        """Put what is known by now in the place of a waiting frame."""
        self._waiting[ticket.files.key] = ticket
        return ticket

    def take_out(self, wanted: Callable[[FrameFiles], bool], *, waiting: bool) -> list[Ticket]:
        """Take out those that rest, and (`waiting`) those that wait, for which `wanted` is true."""
        found = [ticket for _, ticket in self._resting if wanted(ticket.files)]
        self._resting = [(until, ticket) for until, ticket in self._resting if not wanted(ticket.files)]
        for ticket in [ticket for ticket in self._waiting.values() if waiting and wanted(ticket.files)]:
            del self._waiting[ticket.files.key]
            found.append(ticket)
        return found

    def be_patient(self) -> None:
        """Those whose files did not open have all their time again."""
        self._resting = [(until, replace(ticket, failing=None)) for until, ticket in self._resting]
        for key, ticket in self._waiting.items():
            if ticket.failing is not None:
                self._waiting[key] = replace(ticket, failing=None)


def _turn(key: FrameKey) -> tuple[object, ...]:
    return key.experiment, key.timepoint, key.plate, _natural(key.well), _natural(key.field)
