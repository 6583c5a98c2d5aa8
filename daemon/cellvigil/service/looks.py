"""What a lookout hands to the main thread: frozen values, one a look at a source's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellvigil.data import FileStat, Sighting
from cellvigil.errors import BadFile


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file to be put into quarantine."""

    stat: FileStat
    error: BadFile
    stage: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image in a file that is settled, whole and not known yet."""

    stat: FileStat  # of the image: a part of a container has a path of its own
    sighting: Sighting
    since: float  # monotonic seconds: when its file was first listed


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the folder brought. Nothing in it changes afterwards."""

    at: float  # monotonic seconds: when it began
    away: str = ""  # why the folder could not be seen; then all below is empty
    last: bool = False  # it was made after the last call
    listed: Mapping[str, FileStat] = field(default_factory=dict)  # every file that is there, by path
    gone: frozenset[str] = frozenset()  # paths that were listed before and are no longer
    vanished: tuple[str, ...] = ()  # those of them that nobody had read
    arrivals: tuple[Arrival, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    unsettled: int = 0  # files that still change
    unfinished: int = 0  # files that do not change and are not whole
    unseen_s: float = 0.0  # for how long the folder was out of sight before this look
