"""One watched folder: from listings to the frames that wait for their turn. Runs in the service's main thread only.

Reads the folder, asks the ledger and the quarantine list what is known already, and remembers which frames are on
their way. The folder is the queue: what is forgotten here (a restart) is found there again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cellvigil import config, watch
from cellvigil.assemble import Assembler
from cellvigil.data import FileStat, FrameFiles, FrameKey, Sighting
from cellvigil.errors import BadFile, NotYet, UsageError
from cellvigil.ledger import Ledger
from cellvigil.quarantine import Quarantine
from cellvigil.service.log import LOGGER
from cellvigil.settle import Settler
from cellvigil.sources.intake import take
from cellvigil.sources.natural import natural_key
from cellvigil.sources.protocol import SourceFormat

_SPAN = 0.9  # share of the scans' nominal distance that they must really be apart: events may hasten a scan


@dataclass(frozen=True, slots=True)
class Ticket:
    """A complete frame that waits for its turn."""

    files: FrameFiles
    attempt: int = 0  # how often it failed before
    queued: float = 0.0  # monotonic seconds: when it was complete
    failing: float | None = None  # monotonic seconds: since when its files do not open; None = they did not fail yet


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file to be put into quarantine."""

    stat: FileStat
    error: BadFile
    stage: str
    traceback: str = ""


@dataclass(slots=True)
class Seen:
    """What one look at the folder brought that somebody must be told of."""

    refusals: list[Refusal] = field(default_factory=list)
    stalled: list[FrameFiles] = field(default_factory=list)


class Feed:
    """The frames of one source, from the folder to the flow."""

    def __init__(
        self,
        source: config.Source,
        fmt: SourceFormat,
        ledger: Ledger,
        quarantine: Quarantine,
    ) -> None:
        self.source = source
        self.fmt = fmt
        self._ledger = ledger
        self._quarantine = quarantine
        self._settler = Settler(source.settle_scans, span_s=_SPAN * (source.settle_scans - 1) * source.scan_interval_s)
        self._assembler = Assembler(source, first_number=fmt.first_number, known=self._given_out())
        self._unfinished: dict[str, tuple[FileStat, float]] = {}  # settled, not whole; since when (monotonic)
        self._waiting: dict[FrameKey, Ticket] = {}
        self._order: list[FrameKey] = []  # of `_waiting`, the next one last
        self._resting: list[tuple[float, Ticket]] = []  # to be tried again, not before that time
        self._inside: set[FrameKey] = set()  # on their way through the flow
        self._away = False
        self._last_call = False
        self.scans = 0
        self._resume()

    def look(self, now: float) -> Seen:
        """List the folder and take in what is new. A folder that is away for a while is told of once in the log."""
        try:
            listing = watch.scan(self.source.path, self.fmt.suffixes)
        except UsageError as error:
            if not self._away:
                LOGGER.warning("the source's folder is away", extra={"source": self.source.name, "why": str(error)})
            self._away = True
            return Seen()
        self._away = False
        self.scans += 1
        seen = Seen()
        listed = {stat.path: stat for stat in listing}
        for stat in self._settler.update(listing, now):
            if self._is_known(stat):
                self._remember(stat)
            else:
                self._unfinished[stat.path] = (stat, now)
        self._take_in(now, seen, listed)
        outcome = self._assembler.collect(math.inf if self._last_call else now)
        for note in outcome.notes:
            LOGGER.warning("left out", extra={"source": self.source.name, "what": note})
        self._wake_resting(now, {files.key for files in outcome.frames}, listed)
        self._queue(Ticket(files, queued=now) for files in outcome.frames)
        seen.stalled += [files for files in outcome.stalled if not all(self._is_held(s.stat) for s in files.slices)]
        return seen

    def last_call(self) -> bool:
        """Nothing more will come: take what waits as if its time were out. Says whether that can change anything."""
        changes = not self._last_call and bool(self._assembler.waiting or self._unfinished)
        self._last_call = True
        if changes:
            self.scans = 0  # another round of looks
        return changes

    def claim(self, key: FrameKey) -> None:
        """A waiting frame starts on its way. A key is never on its way twice."""
        self._order.remove(key)
        self._inside.add(key)
        del self._waiting[key]

    def first_waiting(self, series: tuple[str, str, str], count: int) -> list[Ticket]:
        """The next `count` frames of a series that wait, in their order, still waiting."""
        mine = (self._waiting[key] for key in reversed(self._order) if key.series == series)
        return [ticket for ticket, _ in zip(mine, range(count), strict=False)]

    def peek(self) -> Ticket | None:
        """The frame whose turn is next, still waiting."""
        keys = (key for key in reversed(self._order) if key not in self._inside)
        key = next(keys, None)
        return None if key is None else self._waiting[key]

    def done(self, key: FrameKey) -> None:
        """The frame is committed, or was refused: its way ends here."""
        self._inside.discard(key)

    def again(self, ticket: Ticket) -> None:
        """The frame goes back, unless a newer version of it came meanwhile; the wait doubles with each failure."""
        self._inside.discard(ticket.files.key)
        if ticket.files.key not in self._waiting:
            until = time.monotonic() + self.source.scan_interval_s * (2**ticket.attempt - 1)
            self._resting.append((until, ticket))

    def without(self, ticket: Ticket, path: str) -> bool:
        """Go on without one bad file, if the segmentation channel does not need it. Says whether that is so."""
        files = ticket.files
        rest = tuple(item for item in files.slices if item.stat.path != path)
        lost = {item.channel for item in files.slices} - {item.channel for item in rest}
        segment = (self.source.channels.awaited or files.channels)[0]
        if len(rest) == len(files.slices) or segment not in {item.channel for item in rest}:
            return False
        missing = tuple(sorted({*files.missing, *(lost & set(self.source.channels.awaited))}))
        self.again(Ticket(replace(files, slices=rest, missing=missing), queued=ticket.queued))
        return True

    @property
    def backlog(self) -> int:
        """Frames that are complete and not committed."""
        return len(self._waiting) + len(self._resting) + len(self._inside)

    @property
    def unfinished(self) -> int:
        """Files that are seen and belong to no complete frame: not settled, not whole, or without their companions."""
        return self._settler.unsettled + len(self._unfinished) + self._assembler.waiting

    @property
    def quiet(self) -> bool:
        """Nothing is on its way and nothing is still moving: all that is there is done, or waits for what is not."""
        return self.scans > self.source.settle_scans and not self.backlog and not self._settler.unsettled

    def _given_out(self) -> dict[tuple[tuple[str, str, str], str, int], int]:
        """The time points given out before a restart, also those whose files are not in the folder any more."""
        mine = (series for series in self._ledger.series() if series[0] == self.source.name)
        return {
            (series, folder, number): timepoint
            for series in mine
            for (folder, number), timepoint in self._ledger.ordinals(series).items()
        }

    def _resume(self) -> None:
        """Give the assembler back the frames that were committed before."""
        for series in self._ledger.series():
            if series[0] != self.source.name:
                continue
            newest = {frame.key: frame for frame in self._ledger.frames(series)}  # ordered: the last revision stays
            for key, frame in newest.items():
                parts = [(FileStat(ref.path, ref.size, ref.mtime_ns), self._sight(ref.path)) for ref in frame.files]
                self._assembler.resume(key, [(stat, sighting) for stat, sighting in parts if sighting is not None])

    def _sight(self, path: str) -> Sighting | None:
        try:
            return self.fmt.sight(path)
        except BadFile:
            return None  # the pattern was changed since; the frame stays in the store as it is

    def _is_known(self, stat: FileStat) -> bool:
        """Whether nothing more can come of the file; one that only lacked its companions may still get them."""
        if self._ledger.is_done(self.source.name, stat.path, stat.size, stat.mtime_ns):
            return True
        return self._is_held(stat) and self._quarantine.reason(self.source.name, stat.path) != "incomplete"

    def _is_held(self, stat: FileStat) -> bool:
        return self._quarantine.holds(self.source.name, stat.path, stat.size, stat.mtime_ns)

    def _remember(self, stat: FileStat) -> None:
        """Give the assembler back a committed file that it forgot while the file was not listed (a share was away)."""
        note = self._ledger.file(self.source.name, stat.path)
        if note is not None and (sighting := self._sight(stat.path)) is not None:
            self._assembler.resume(note.key, [(stat, sighting)])

    def _wake_resting(self, now: float, newer: set[FrameKey], listed: Mapping[str, FileStat]) -> None:
        """Queue what has rested. A newer version replaces it; what is no longer listed is found anew if it returns."""
        there = [
            (until, ticket)
            for until, ticket in self._resting
            if ticket.files.key not in newer and _is_listed(ticket.files, listed)
        ]
        self._resting = [(until, ticket) for until, ticket in there if until > now]
        self._queue(t for until, t in there if until <= now and t.files.key not in self._waiting)

    def _take_in(self, now: float, seen: Seen, listed: Mapping[str, FileStat]) -> None:
        for path, (stat, since) in list(self._unfinished.items()):
            if listed.get(path) != stat:
                del self._unfinished[path]  # gone, or written again: it settles anew
                continue
            try:
                parts = take(self.fmt, self.source.path, stat)
            except NotYet as error:
                if now - since < self.source.frame_timeout_s and not self._last_call:
                    continue
                seen.refusals.append(Refusal(stat, error.expired(), "complete"))
            except BadFile as error:
                seen.refusals.append(Refusal(stat, error, "name" if error.reason == "bad_name" else "complete"))
            else:
                first = self._settler.first_sight(path)
                for part, sighting in parts:
                    if self._is_known(part):
                        self._remember(part)
                    else:
                        self._assembler.add(part, sighting, since if first is None else first)
            del self._unfinished[path]
        self._assembler.prune(listed)

    def _queue(self, tickets: Iterable[Ticket]) -> None:
        fresh = {ticket.files.key: ticket for ticket in tickets}
        if fresh:
            self._waiting |= fresh
            self._order = sorted(self._waiting, key=_turn, reverse=self.source.order == "oldest")


def _is_listed(files: FrameFiles, listed: Container[str]) -> bool:
    """Whether any file of a frame is listed; a container's part goes by its container, as in `Assembler.prune`."""
    paths = (item.stat.path for item in files.slices)
    return any(path in listed or path.partition("!")[0] in listed for path in paths)


def _turn(key: FrameKey) -> tuple[object, ...]:
    return key.experiment, key.timepoint, key.plate, natural_key(key.well), natural_key(key.field)
