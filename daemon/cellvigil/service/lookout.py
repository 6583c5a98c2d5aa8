"""One source's lookout: a thread that does everything slow that touches the folder, and hands on what it saw.

It lists the folder, waits until files have settled and are whole, and opens them for that; the main thread gets frozen
`Look`s and does the rest without touching the folder. A share that hangs holds up its own lookout, and nothing else.

Pace. The next look follows `scan_interval_s` after the last one ended, and later where looking takes long: at most a
fifth of the time is spent looking, but a minute (or the interval) is the longest rest. Events hasten it, within that.

Away. A folder that cannot be listed, or is empty where it was not (the bare mount point of a share), says nothing about
its files: the last listing stands, nothing settles or runs out of time, and it goes on by itself when files are there
again. A look without any sign of life for long is told of in the same way, by `hangs`.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cellvigil import config, watch
from cellvigil.data import FileStat
from cellvigil.errors import BadFile, NotYet, UsageError
from cellvigil.service.log import LOGGER
from cellvigil.service.looks import Arrival, Look, Refusal
from cellvigil.settle import Settler
from cellvigil.sources.intake import take
from cellvigil.sources.protocol import SourceFormat

_SPAN = 0.9  # share of the scans' nominal distance that they must really be apart: events may hasten a scan
_HASTE = 0.25  # an event may bring the next look forward to this share of the interval
_REST = 4.0  # rest at least so many times as long as the look took
_LONGEST_REST_S = 60.0
_MOST_ODD = 1000
_HANGS_S, _HANGS_INTERVALS = 30.0, 10.0  # the larger one: no sign of life for so long


@dataclass(slots=True)
class _Unfinished:
    """A settled file that is not known, and was not found whole yet."""

    stat: FileStat
    since: float  # monotonic seconds: when it settled
    first: float  # when it was first listed


class Lookout:
    """Looks at one source's folder. `is_known` is asked from this thread: whether nothing more can come of a file."""

    def __init__(self, source: config.Source, fmt: SourceFormat, is_known: Callable[[FileStat], bool]) -> None:
        self._source = source
        self._fmt = fmt
        self._is_known = is_known
        self._settler = Settler(source.settle_scans, span_s=_SPAN * (source.settle_scans - 1) * source.scan_interval_s)
        self._limit_s = max(_HANGS_S, _HANGS_INTERVALS * source.scan_interval_s)
        self._listing: Mapping[str, FileStat] = {}
        self._unfinished: dict[str, _Unfinished] = {}
        self._seen_at: float | None = None  # when the last look that saw the folder began
        self._away_since: float | None = None
        self._silent_s = 0.0  # how long the folder did not answer, since that was last counted
        self._trusting = False
        self._last_call = False
        self._looks: queue.SimpleQueue[Look] = queue.SimpleQueue()
        self._odd: set[str] = set()  # paths told of as no files
        self._doubted: queue.SimpleQueue[str] = queue.SimpleQueue()  # paths to settle anew
        self._stop, self._stirred = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._alive_at = 0.0  # the look under way gave its last sign of life
        self._looking = False
        self.last_took_s = 0.0

    def start(self, wake: Callable[[], None], *, trusting: bool = False) -> None:
        """Look from now on, in a thread; `wake` is called when a look may be fetched.

        `trusting`: an empty folder is taken for empty even if it was not before, since nobody will come back to it.
        """
        self._trusting = trusting
        # A daemon thread: a call to a dead share may never return, and must not keep the process from ending. It only
        # reads, so nothing is half done when it is cut off.
        name = f"look-{self._source.name}"
        self._begin()
        self._thread = threading.Thread(target=self._guarded, args=(wake,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
        self._stirred.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; False if a look hangs."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def look_again(self, path: str) -> None:
        """Let a file settle anew and be opened again, though it did not change; of a part, its container."""
        self._doubted.put(path)
        self._stirred.set()

    def last_call(self) -> None:
        """Nothing more will come: from the next look on, what is not whole has run out of time."""
        self._last_call = True

    def fetch(self, now: float) -> list[Look]:
        """The looks that nobody fetched yet, in order; without a thread of its own, one is made now.

        Raises what ended the thread, if anything but `stop` did.
        """
        if self._thread is None:
            return [self.look(now)]
        if self._failure is not None:
            raise self._failure
        found = []
        while not self._looks.empty():
            found.append(self._looks.get_nowait())
        return found

    @property
    def idle(self) -> bool:
        """No look is under way, and none is there to be fetched."""
        return not self._looking and self._looks.empty()

    @property
    def hangs(self) -> bool:
        """Whether the look under way has not given a sign of life for long."""
        return self._looking and time.monotonic() - self._alive_at > self._limit_s

    def look(self, now: float) -> Look:
        """List the folder and open what has settled."""
        last = self._last_call
        try:
            listing = watch.scan(
                self._source.path, self._fmt.suffixes, self._listing, progress=self._live, odd=self._tell_odd
            )
        except UsageError as error:
            return self._nothing_seen(now, str(error))
        self._live()
        if not listing and self._listing and not self._trusting:
            return self._nothing_seen(now, "it is empty, and was not before")
        unseen_s = self._unseen(now)
        gone = frozenset(self._listing.keys() - listing.keys())
        vanished = tuple(sorted(p for p in gone if p in self._unfinished or self._settler.is_moving(p)))
        while not self._doubted.empty():
            path = self._doubted.get_nowait()
            self._settler.forget(path if path in listing else path.partition("!")[0], now)
        for stat in self._settler.update(listing, now):
            if not self._is_known(stat):
                first = self._settler.first_sight(stat.path)
                self._unfinished[stat.path] = _Unfinished(stat, now, now if first is None else first)
        self._listing = listing
        arrivals, refusals = self._open(now, last=last)
        self._seen_at = now
        return Look(
            now,
            last=last,
            listed=listing,
            gone=gone,
            vanished=vanished,
            arrivals=tuple(arrivals),
            refusals=tuple(refusals),
            unsettled=self._settler.unsettled,
            unfinished=len(self._unfinished),
            unseen_s=unseen_s,
        )

    def _tell_odd(self, path: str) -> None:
        """A link, a pipe or a device with an image's name is left alone; told once each, as long as they are few."""
        if path not in self._odd and len(self._odd) < _MOST_ODD:
            self._odd.add(path)
            what = "it is a link, a pipe or a device, and not opened"
            LOGGER.warning("left out", extra={"source": self._source.name, "path": path, "what": what})

    def _nothing_seen(self, now: float, why: str) -> Look:
        if self._away_since is None:
            self._away_since = self._seen_at if self._seen_at is not None else now
        return Look(now, away=why)

    def _unseen(self, now: float) -> float:
        """For how long the folder was out of sight until now; that time counts for no file."""
        seconds, self._silent_s = self._silent_s, 0.0
        if self._away_since is not None:
            seconds, self._away_since = now - self._away_since, None
        if not seconds:
            return 0.0
        self._settler.out_of_sight(seconds)
        for item in self._unfinished.values():
            item.since += seconds
            item.first += seconds
        return seconds

    def _open(self, now: float, *, last: bool) -> tuple[list[Arrival], list[Refusal]]:
        """Take what is whole by now out of the unfinished files, and what never will be."""
        arrivals: list[Arrival] = []
        refusals: list[Refusal] = []
        for path, item in list(self._unfinished.items()):
            self._live()
            if self._listing.get(path) != item.stat:
                del self._unfinished[path]  # gone, or written again: it settles anew
                continue
            try:
                parts = take(self._fmt, self._source.path, item.stat)
            except NotYet as error:
                # The last call ends the wait for what a file may become; it says nothing of one that does not open.
                if now - item.since < self._source.frame_timeout_s and not (last and error.becomes != "unreadable"):
                    continue
                refusals.append(Refusal(item.stat, error.expired(), "complete"))
            except BadFile as error:
                refusals.append(Refusal(item.stat, error, "name" if error.reason == "bad_name" else "complete"))
            except Exception as error:  # noqa: BLE001 - a file that breaks its reader must not end the lookout
                bad = BadFile("failed", f"{type(error).__name__}: {error}", where=path)
                trace = "".join(traceback.format_exception(error))
                refusals.append(Refusal(item.stat, bad, "complete", trace))
            else:
                arrivals += [Arrival(part, seen, item.first) for part, seen in parts if not self._is_known(part)]
            del self._unfinished[path]
        return arrivals, refusals

    def _live(self) -> None:
        """A sign of life. A long silence before it is time in which the folder was out of sight."""
        now = time.monotonic()
        if self._looking and now - self._alive_at > self._limit_s:
            self._silent_s += now - self._alive_at
        self._alive_at = now

    def _begin(self) -> None:
        self._alive_at = time.monotonic()
        self._looking = True

    def _guarded(self, wake: Callable[[], None]) -> None:
        try:
            self._watch(wake)
        except BaseException as error:  # noqa: BLE001 - a thread's last word: the main thread raises it
            self._failure = error
        finally:
            self._looking = False
            wake()

    def _watch(self, wake: Callable[[], None]) -> None:
        """Look, rest, look. The hints begin anew after an absence: they hang on the folder that was mounted then."""
        away = False
        while not self._stop.is_set():
            with watch.hints(self._source.path, self._stirred.set):
                while not self._stop.is_set():
                    look = self._timed(wake)
                    back, away = away and not look.away, bool(look.away)
                    self._rest(away=away)
                    if back:
                        self._begin()
                        break

    def _timed(self, wake: Callable[[], None]) -> Look:
        self._begin()
        self._stirred.clear()
        began = time.monotonic()
        look = self.look(began)
        self.last_took_s = time.monotonic() - began
        self._looks.put(look)
        self._looking = False  # behind the look: whoever sees no look under way can fetch it
        wake()
        return look

    def _rest(self, *, away: bool) -> None:
        interval, ended = self._source.scan_interval_s, time.monotonic()
        took = 0.0 if away else self.last_took_s
        self._stop.wait(rest_s(took, _HASTE * interval, interval))
        self._stirred.wait(max(0.0, ended + rest_s(took, interval, interval) - time.monotonic()))


def rest_s(took_s: float, usual_s: float, interval_s: float) -> float:
    """Seconds between two looks: the usual, more after a look that took long, a minute or the interval at most."""
    return min(max(usual_s, _REST * took_s), max(interval_s, _LONGEST_REST_S))
