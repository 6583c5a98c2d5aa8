"""A source's control wells against where they were at its fit: one figure, and a word when it is beyond its limit.

Reads stored embeddings, of a few frames a look, each once; asks for a refit and never makes one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cellvigil import config
from cellvigil.bundle.reference import IndexEncoder
from cellvigil.data import Embeddings, FrameKey
from cellvigil.errors import StoreError
from cellvigil.ledger import CommittedFrame
from cellvigil.metrics import AlignmentMetrics
from cellvigil.service import straying
from cellvigil.service.log import LOGGER
from cellvigil.service.warmup import WarmUp, control_frames
from cellvigil.store.gone import folder_of
from cellvigil.store.vectors import counted_rows, read_vectors
from cellvigil.store.writer import Store

_HELD = 64  # frames at most that say where control wells were at a fit


class ControlWells:
    """One source's. Not safe for threads."""

    def __init__(
        self, source: config.Source, store: Store, encoders: Sequence[IndexEncoder], metrics: AlignmentMetrics
    ) -> None:
        self._source = source
        self._store = store
        self._encoders = encoders
        self._metrics = metrics
        self._hold: straying.Hold | None = None
        self._means: dict[tuple[FrameKey, int], Embeddings | None] = {}
        self.beyond = False
        metrics.limit.labels(source.name).set(source.align.drift_limit)

    def measured(self, warm: WarmUp) -> dict[str, Any]:
        """Where they are now, at a fit on `warm`: what `hold` takes; {} where that cannot be told.

        With mode states the fit's own cells say it (untreated wells all), with types the control wells there are.
        """
        states = self._source.align.mode == "states"
        held = warm.frames[:_HELD] if states else control_frames(self._store.ledger, self._source.name, _HELD)
        hold = straying.hold_of(self._of(held))
        return hold.plain() if hold else {}

    def hold(self, measured: Mapping[str, Any]) -> None:
        """From now on they are held against this."""
        self._hold = straying.hold_from(measured)
        self.beyond = False
        self._metrics.drift(self._source.name, math.nan)  # what was told is from where they were at an earlier fit

    def look(self) -> None:
        """Measure how far they have come; ask for a refit, once, beyond the limit."""
        if self._hold is None:
            return
        name = self._source.name
        ratio = straying.ratio(self._hold, self._of(control_frames(self._store.ledger, name, straying.MOST)))
        self._metrics.drift(name, ratio)
        beyond = ratio > self._source.align.drift_limit
        if beyond and not self.beyond:
            hint = f"look at the microscope, then: cellvigil align --refit {name}"
            extra = {"source": name, "ratio": round(ratio, 2), "hint": hint}
            LOGGER.warning("alignment: control wells have drifted since the fit; a refit is asked for", extra=extra)
        self.beyond = beyond

    def _of(self, frames: Iterable[CommittedFrame]) -> list[Embeddings]:
        """Each frame's mean vector, encoder name -> (d_e,) f32; of those that can be read and have counted cells."""
        asked = {(frame.key, frame.revision): frame for frame in frames}
        self._means = {name: mean for name, mean in self._means.items() if name in asked}
        for name, frame in asked.items():
            if name not in self._means:
                self._means[name] = self._mean(frame)
        return [mean for mean in self._means.values() if mean is not None]

    def _mean(self, frame: CommittedFrame) -> Embeddings | None:
        folder = folder_of(self._store.path, frame.key.series)
        dropped = self._store.ledger.dropped(frame.key.series, frame.t)
        try:
            counted = counted_rows(folder, frame, dropped=dropped)
            vectors = read_vectors(folder, frame, self._encoders, dropped=dropped)
        except StoreError:  # deleted by retention, or damaged: `verify` tells of that
            return None
        if not counted.any():
            return None
        return {name: np.mean(block[counted], axis=0, dtype=np.float32) for name, block in vectors.items()}
