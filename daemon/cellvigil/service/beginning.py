"""A series' first frames, read and measured in a thread of their own: what they say fixes the series' baseline.

The main thread only asks and takes: a share that hangs, or slow images, hold up no other source and no signal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cellvigil import config, pipeline
from cellvigil.data import Baseline, Frame
from cellvigil.errors import DeviceError
from cellvigil.ledger import Series
from cellvigil.pipeline import Recipe
from cellvigil.service.crashes import Working
from cellvigil.service.log import LOGGER
from cellvigil.service.pool import Pool
from cellvigil.service.turns import Ticket
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.read import read_frame

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, eq=False)
class First:
    """The first frames of a series, and how they are to be read and measured."""

    tickets: tuple[Ticket, ...]
    fmt: SourceFormat
    source: config.Source
    recipe: Recipe
    limits: config.Limits


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What came of them."""

    baseline: Baseline | None  # None if none of them is good
    names: str  # of the frames that it was measured from, for a person
    failed: tuple[tuple[Ticket, Exception], ...]


class Beginnings:
    """The series that begin. Main thread only; `wake` is called, from another thread, when one is measured."""

    def __init__(self, wake: Callable[[], None], working: Working) -> None:
        self._wake = wake
        self._measure = partial(measure, working=working)
        self._pools: dict[str, Pool[First, Measured]] = {}  # one a source: a share that hangs holds up no other
        self._asked: dict[Series, Future[Measured]] = {}

    def __contains__(self, series: Series) -> bool:
        return series in self._asked

    def ask(self, series: Series, first: First) -> None:
        """Have a series' first frames measured."""
        pool = self._pools.get(series[0]) or Pool(self._measure, 1, name=f"begin {series[0]}")
        self._pools[series[0]] = pool
        self._asked[series] = pool.submit(first)
        self._asked[series].add_done_callback(lambda _: self._wake())

    def take(self, series: Series) -> Measured | None:
        """What came of a series' first frames; None while that is not known. It is given out once.

        Raises DeviceError if the segmenter's device failed.
        """
        if series not in self._asked or not self._asked[series].done():
            return None
        return self._asked.pop(series).result()

    def end(self) -> list[str]:
        """Ask no more; returns the names of the threads that hang."""
        until = time.monotonic() + 0.2
        return [name for pool in self._pools.values() for name in pool.end(let_go=True, until=until)]


def measure(first: First, working: Working) -> Measured:
    """Read the frames and measure them together, without those that do not let themselves be read or measured alone.

    Each alone first: should one of them kill the process, `working` tells which. Raises DeviceError if the segmenter's
    device fails.
    """
    failed: list[tuple[Ticket, Exception]] = []

    def tried(ticket: Ticket, work: Callable[[], Made]) -> Made | None:
        try:
            with working.on(first.source.name, [item.stat for item in ticket.files.slices]):
                return work()
        except DeviceError:  # no frame's fault: it ends the service, and the frames stay in the folder
            raise
        except Exception as error:  # noqa: BLE001 - it ends as in the flow: the desk decides what it means
            failed.append((ticket, error))
            return None

    read = [(ticket, tried(ticket, partial(_read, ticket, first))) for ticket in first.tickets]
    alone = [
        (frame, tried(ticket, partial(pipeline.baseline_of, [frame], first.recipe)))
        for ticket, frame in read
        if frame is not None
    ]
    good = [frame for frame, measured in alone if measured is not None]
    names = ", ".join(f"{f.key.well}/{f.key.field}/t{f.key.timepoint}" for f in good)
    return Measured(_together(good, first.recipe), names, tuple(failed))


def _read(ticket: Ticket, first: First) -> Frame:
    return read_frame(ticket.files, first.fmt, first.source, first.limits)


def _together(frames: Sequence[Frame], recipe: Recipe) -> Baseline | None:
    """The baseline of these frames; None if there are none, or one of them does not let itself be measured."""
    try:
        return pipeline.baseline_of(frames, recipe) if frames else None
    except DeviceError:
        raise
    except Exception as error:  # noqa: BLE001 - a frame's failure must not end the service: see the caller
        LOGGER.warning("a series' first frames cannot be measured together", extra={"why": repr(error)})
        return None
