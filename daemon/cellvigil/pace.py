"""How long an encoder takes: the one place that times it, for `check` (does this machine keep up?) and for `bench`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cellvigil.data import U8
from cellvigil.ruled import Embeds

_CHECK_S = 0.4


def timed(run: Callable[[], object], seconds: float, *, least: int = 1) -> list[float]:
    """Seconds that each run of `run` took: as many as fit into `seconds`, at least `least`; unless one outlasts it."""
    laps: list[float] = []
    until = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        laps.append(end - start)
        if end >= until and (len(laps) >= least or laps[0] > seconds):
            return laps


def noise(encoder: Embeds, count: int) -> U8:
    """`count` pictures (count, side, side, C) u8 that the encoder takes: what they show does not change the time."""
    side = encoder.bundle.input_size
    return np.random.default_rng(0).integers(0, 256, (count, side, side, encoder.bundle.channels), dtype=np.uint8)


def seconds_per_cell(encoder: Embeds, batch: int) -> float:
    """Seconds that the encoder takes for one cell in full batches, at best, measured now for a fraction of a second."""
    pixels = noise(encoder, batch)
    encoder.embed(pixels[:1])
    return min(timed(lambda: encoder.embed(pixels), _CHECK_S)) / batch
