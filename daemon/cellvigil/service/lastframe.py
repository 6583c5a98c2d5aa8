"""The frame that was committed last, read back from the store and drawn: once, however many look. Reads only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cellvigil import config
from cellvigil.board.picture import drawn
from cellvigil.board.values import LastFrame
from cellvigil.data import UNKNOWN
from cellvigil.errors import StoreError
from cellvigil.ledger import CalledBy, CommittedFrame
from cellvigil.service.log import LOGGER
from cellvigil.store.gone import folder_of
from cellvigil.store.planes import read_mask, read_plane
from cellvigil.store.rows import read_table
from cellvigil.store.writer import Store

_PATIENCE_S = 5.0  # for the thread that is making what this one wants


class LastFrames:
    """Knows the last frame of one store. Any thread may ask."""

    def __init__(self, store: Store, sources: Sequence[config.Source]) -> None:
        self._store = store
        self._segmented = {source.name: source.channels.segment for source in sources}
        self._lock = threading.Lock()
        self._made: tuple[object, LastFrame, bytes] | None = None  # what it was made of, and what was made

    def last(self) -> tuple[LastFrame, bytes] | None:
        """The last frame in words and as JPEG (b"" where its pixels are no longer kept, or damaged); None = no frame.

        Raises TimeoutError where another thread has been reading it for seconds (a disk that hangs).
        """
        with held(self._lock):
            ledger = self._store.ledger
            frames = (ledger.last_frame(series) for series in ledger.series())
            there = [frame for frame in frames if frame is not None]
            if not there:
                return None
            frame = max(there, key=lambda each: each.committed_at)
            made_of = (frame, ledger.calls(frame.key, frame.revision), ledger.dropped(frame.key.series, frame.t))
            if self._made is None or self._made[0] != made_of:
                self._made = (made_of, *self._read(frame))
            return self._made[1], self._made[2]

    def _read(self, frame: CommittedFrame) -> tuple[LastFrame, bytes]:
        ledger = self._store.ledger
        called = ledger.calls(frame.key, frame.revision)
        by = ledger.bundle(frame.key.series, called[0]) if called else None
        groups = {name: by.groups[name] for name in by.classes} if by else {}
        told = LastFrame(frame.key, frame.acquired_at, frame.outcome, groups, called[1] if called else {}, frame.edge)
        try:
            return told, self._drawn(frame, by, told.colours)
        except StoreError as error:
            LOGGER.warning("the last frame cannot be shown", extra={"frame": str(frame.key), "why": str(error)})
            return told, b""

    def _drawn(self, frame: CommittedFrame, by: CalledBy | None, colours: Mapping[str, str]) -> bytes:
        field = folder_of(self._store.path, frame.key.series) / frame.path
        plane = read_plane(field, frame.t, self._channel(frame))
        labels = None if plane is None else read_mask(field, frame.t, plane.shape)
        if plane is None or labels is None:
            return b""
        return drawn(plane, labels, self._states(field, frame, by), colours)

    def _channel(self, frame: CommittedFrame) -> int:
        """The place of the channel that was segmented."""
        names, wanted = self._store.channels(frame.key.series) or (), self._segmented.get(frame.key.source, "")
        return names.index(wanted) if wanted in names else 0

    def _states(self, field: Path, frame: CommittedFrame, by: CalledBy | None) -> dict[int, str]:
        """What each cell was called, by its label."""
        if by is None or not frame.n_cells:
            return {}
        dropped = self._store.ledger.dropped(frame.key.series, frame.t)
        rows = read_table(field, by.table, frame.t, frame.n_cells, dropped=dropped)
        best, unknown = rows["best_id"].astype(np.int64), rows["unknown"] != 0
        return {
            place + 1: UNKNOWN if doubt else by.classes[which]
            for place, (which, doubt) in enumerate(zip(best.tolist(), unknown.tolist(), strict=True))
        }


@contextlib.contextmanager
def held(lock: threading.Lock) -> Iterator[None]:
    """Hold the lock while the block runs; TimeoutError if another has it for seconds: threads must not pile up."""
    if not lock.acquire(timeout=_PATIENCE_S):
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()
