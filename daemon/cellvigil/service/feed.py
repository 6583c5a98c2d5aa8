"""One watched folder's frames: from what its lookout saw to those that wait for their turn. Main thread only.

Touches no folder: the lookout (`lookout.py`) looks, in a thread of its own. Asks the ledger and the quarantine list
what is known already, and remembers which frames are on their way. The folder is the queue: what is forgotten here (a
restart) is found there again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from cellvigil import config
from cellvigil.assemble import Assembler
from cellvigil.data import FileStat, FrameFiles, FrameKey, Sighting
from cellvigil.ledger import Ledger
from cellvigil.quarantine import Quarantine
from cellvigil.service.known import Known
from cellvigil.service.log import LOGGER
from cellvigil.service.lookout import Lookout
from cellvigil.service.looks import Look, Refusal
from cellvigil.service.turns import Ticket, Turns
from cellvigil.sources.protocol import SourceFormat

_NAMED = 5  # files named in one line of the log


@dataclass(slots=True)
class Seen:
    """What the looks at the folder brought that somebody must be told of."""

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
        *,
        needed: tuple[str, ...] = (),
    ) -> None:
        """`needed`: channels that cells are called by, beside the one that is segmented."""
        self.source = source
        self._needed = needed
        self.fmt = fmt
        self._ledger = ledger
        self._known = Known(source.name, fmt, ledger, quarantine)
        self.lookout = Lookout(source, fmt, self._known.is_known)
        self._assembler = Assembler(
            source,
            first_number=fmt.first_number,
            known=self._known.given_out(),
            recall=self._known.committed,
            needed=needed,
        )
        self._turns = Turns(newest_first=source.order == "newest")
        self._away = False
        self._hangs = False
        self._back_at = -math.inf  # monotonic seconds: when the folder was last out of sight
        self._unsettled = 0
        self._unfinished = 0
        self._last_call = False
        self._gone: set[tuple[str, str, str]] = set()  # deleted plates that were told of
        self.scans = 0

    def look(self, now: float) -> Seen:
        """Take in what the lookout saw since. A folder that is away for a while is told of once in the log."""
        seen = Seen()
        self._tell_hanging()
        for look in self.lookout.fetch(now):
            if look.away:
                self._miss(look.away)
            else:
                self._take_in(look, now, seen)
        return seen

    def last_call(self) -> bool:
        """Nothing more will come: take what waits as if its time were out. Says whether that can change anything."""
        changes = not self._last_call and bool(self._assembler.waiting or self._unfinished)
        self._last_call = True
        self.lookout.last_call()
        if changes:
            self.scans = 0  # another round of looks
        return changes

    def claim(self, key: FrameKey) -> None:
        """A waiting frame starts on its way. A key is never on its way twice."""
        self._turns.claim(key)

    def first_waiting(self, series: tuple[str, str, str], count: int) -> list[Ticket]:
        """The next `count` frames of a series that wait, in their order, still waiting."""
        return self._turns.first_waiting(series, count)

    def peek(self) -> Ticket | None:
        """The frame whose turn is next, still waiting; None also while the folder is out of sight."""
        if self.out_of_sight or (ticket := self._turns.peek()) is None:
            return None
        files = self._known.against_ledger(ticket.files)
        return ticket if files is ticket.files else self._turns.correct(replace(ticket, files=files))

    def done(self, key: FrameKey) -> None:
        """The frame is committed, or was refused: its way ends here."""
        ticket = self._turns.done(key)
        if ticket is not None and key not in self._turns and self._ledger.frame(key) is not None:
            self._assembler.forget(ticket.files)

    def again(self, ticket: Ticket) -> None:
        """The frame goes back, unless a newer version of it came meanwhile; the wait doubles with each failure."""
        self._turns.rest(ticket, time.monotonic() + self.source.scan_interval_s * (2**ticket.attempt - 1))

    def without(self, ticket: Ticket, path: str) -> bool:
        """Go on without one bad file, if no channel needs it that cells are found in or called by. Says whether so."""
        files = ticket.files
        rest = tuple(item for item in files.slices if item.stat.path != path)
        lost = {item.channel for item in files.slices} - {item.channel for item in rest}
        needed = {(self.source.channels.awaited or files.channels)[0], *self._needed}
        if len(rest) == len(files.slices) or not needed <= {item.channel for item in rest}:
            return False
        missing = tuple(sorted({*files.missing, *(lost & set(self.source.channels.awaited))}))
        files = self._known.against_ledger(replace(files, slices=rest, missing=missing))
        if files.change != "new" and not files.fresh:
            return False  # the bad file was all that came after the commit
        self.again(Ticket(files, queued=ticket.queued))
        return True

    def try_again(self, paths: Collection[str], now: float) -> None:
        """Files that a person took out of quarantine settle anew; what else their frames had waits for them."""
        for files in self._assembler.reconsider(paths):
            if files.key in self._turns:
                self._assembler.leave_out(files, set(paths) - self._turns.paths(files.key))
                continue
            self._assembler.forget(files)
            for item in files.slices:
                if item.stat.path not in paths and (sighting := self._known.sight(item.stat.path)) is not None:
                    self._assembler.add(item.stat, sighting, now)
        for path in paths:
            LOGGER.info("released from quarantine", extra={"source": self.source.name, "path": path})
            self.lookout.look_again(path)

    def failing_since(self, ticket: Ticket, now: float) -> float:
        """Since when a frame's files do not open; time in which the folder was out of sight does not count."""
        if ticket.failing is None or self.out_of_sight:
            return now
        return max(ticket.failing, self._back_at)

    @property
    def out_of_sight(self) -> bool:
        """Whether the folder cannot be seen now: it is away, or a look at it hangs."""
        return self._away or self.lookout.hangs

    @property
    def backlog(self) -> int:
        """Frames that are complete and not committed."""
        return len(self._turns)

    @property
    def unfinished(self) -> int:
        """Files that are seen and belong to no complete frame: not settled, not whole, or without their companions."""
        return self._unsettled + self._unfinished + self._assembler.waiting

    @property
    def quiet(self) -> bool:
        """Nothing is on its way and nothing is still moving: all that is there is done, or waits for what is not."""
        looked = self.scans > self.source.settle_scans and self.lookout.idle
        return looked and not self.backlog and not self._unsettled

    def _miss(self, why: str) -> None:
        if not self._away:
            LOGGER.warning("the source's folder is away", extra={"source": self.source.name, "why": why})
        self._away = True

    def _tell_hanging(self) -> None:
        hangs = self.lookout.hangs
        if hangs and not self._hangs:
            LOGGER.warning("a look at the source's folder hangs", extra={"source": self.source.name})
        self._hangs = hangs

    def _take_in(self, look: Look, now: float, seen: Seen) -> None:
        """One look: what is gone is let go of, what is new is assembled, what is complete is queued."""
        self._greet(look, now)
        self.scans += look.last == self._last_call
        self._unsettled, self._unfinished = look.unsettled, look.unfinished
        if look.gone:
            self._assembler.prune(look.listed)
        self._let_go(look)
        for arrival in look.arrivals:
            if self._was_deleted(arrival.stat, arrival.sighting):
                continue
            self._prepare_for(arrival.sighting)
            self._assembler.add(arrival.stat, arrival.sighting, arrival.since)
        outcome = self._assembler.collect(math.inf if look.last else now)
        for note in outcome.notes:
            LOGGER.warning("left out", extra={"source": self.source.name, "what": note})
        self._turns.queue(Ticket(self._told(files), queued=now) for files in outcome.frames)
        self._turns.rouse(now)
        seen.refusals += look.refusals
        is_held = self._known.is_held
        seen.stalled += [files for files in outcome.stalled if not all(is_held(item.stat) for item in files.slices)]

    def _greet(self, look: Look, now: float) -> None:
        """The folder was seen; if it was out of sight before, nobody's time has passed meanwhile."""
        if self._away:
            LOGGER.info("the source's folder is back", extra={"source": self.source.name})
            self._away = False
        if look.unseen_s:
            self._back_at = now
            self._assembler.out_of_sight(look.unseen_s)
            self._turns.be_patient()

    def _let_go(self, look: Look) -> None:
        """Take back frames of which a file is gone before it was read; what is left of them waits for the rest anew."""

        def is_lost(files: FrameFiles) -> bool:
            needed = files.fresh if files.change == "late" else files.slices
            return not all(_is_listed(item.stat.path, look.listed) for item in needed)

        if look.vanished:
            self._tell_gone(look.vanished)
        for ticket in self._turns.take_out(is_lost, waiting=bool(look.gone)):
            files = ticket.files
            self._assembler.forget(files)
            there = [item.stat for item in files.slices if _is_listed(item.stat.path, look.listed)]
            self._tell_gone(tuple(item.stat.path for item in files.slices if item.stat not in there), str(files.key))
            for stat in there if files.change != "rewritten" else ():  # a revision needs all of the frame's files
                if (sighting := self._known.sight(stat.path)) is not None:
                    self._assembler.add(stat, sighting, files.first_seen)

    def _tell_gone(self, paths: tuple[str, ...], frame: str = "-") -> None:
        named = ", ".join(paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
        extra = {"source": self.source.name, "frame": frame, "files": len(paths), "what": named}
        LOGGER.warning("gone before it was read", extra=extra)

    def _told(self, files: FrameFiles) -> FrameFiles:
        """A frame's files as against the ledger; a rewritten file is told of, with the revision that it replaces."""
        files = self._known.against_ledger(files)
        if files.change == "rewritten":
            extra = {"frame": str(files.key), "replaces_revision": self._ledger.revision(files.key)}
            LOGGER.info("rewritten", extra={**extra, "files": ", ".join(item.stat.path for item in files.fresh)})
        return files

    def _prepare_for(self, sighting: Sighting) -> None:
        """Remind the assembler of a series that began before a restart, where the names alone do not say enough."""
        series = (self.source.name, sighting.experiment, sighting.plate)
        channels = self.source.channels
        if self._assembler.knows(series) or (sighting.z is None and (channels.awaited or channels.optional)):
            return
        if frames := self._ledger.frames(series):
            self._assembler.learn(series, self._known.sights(frames[0]), self._known.sights(frames[-1]))

    def _was_deleted(self, stat: FileStat, sighting: Sighting) -> bool:
        """Whether the image was of a plate that retention has deleted: it counts as done; told once a plate."""
        series = (self.source.name, sighting.experiment, sighting.plate)
        if not self._ledger.was_deleted(series, stat.mtime_ns):
            return False
        if series not in self._gone:
            self._gone.add(series)
            LOGGER.info("files of a deleted plate are left alone", extra={"plate": "/".join(series)})
        return True


def _is_listed(path: str, listed: Mapping[str, FileStat]) -> bool:
    """Whether a file is listed; a container's part goes by its container, as in `Assembler.prune`."""
    return path in listed or path.partition("!")[0] in listed
