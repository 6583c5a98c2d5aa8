"""What the log and the metrics are told of a frame's end. Touches nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from cellvigil.data import Baseline, Frame, Record
from cellvigil.metrics import Metrics
from cellvigil.service.log import LOGGER


def committed(metrics: Metrics, record: Record, *, store_seconds: float, first_seen: float, now: datetime) -> None:
    """A frame is in the store. `first_seen`: monotonic seconds, of its first file; `now` is aware."""
    name = record.frame.key.source
    for stage, spent in {**record.stage_seconds, "store": store_seconds}.items():
        metrics.stage.labels(stage).observe(spent)
    metrics.delay.observe(max(0.0, time.monotonic() - first_seen))
    metrics.last_frame.labels(name).set(now.timestamp())
    best = record.calls.probabilities[np.arange(len(record.calls)), record.calls.best_ids]
    for probability in best[np.isfinite(best)]:
        metrics.probability.observe(float(probability))
    outcome = "excluded" if record.quality.excluded else "counted"
    metrics.frames.labels(name, "revised" if record.revision else outcome).inc()
    LOGGER.info(
        "frame committed",
        extra={"frame": str(record.frame.key), "cells": len(record.cells), "excluded": record.quality.excluded},
    )


def begun(series: Sequence[str], baseline: Baseline, names: str) -> None:
    """A series' intensity range and usual sharpness are fixed."""
    low, high = baseline.intensity
    figures = {"intensity": f"{low:.5g}..{high:.5g}", "focus": f"{baseline.focus:.4g}", "from": names}
    if baseline.channels:
        figures["channels"] = ", ".join(f"{name} {a:.5g}..{b:.5g}" for name, (a, b) in baseline.channels.items())
    LOGGER.info("series begins", extra={"series": "/".join(series), **figures})


def attached(metrics: Metrics, frame: Frame) -> None:
    """A channel that came late has joined its frame."""
    metrics.frames.labels(frame.key.source, "attached").inc()
    LOGGER.info("channel attached", extra={"frame": str(frame.key), "channels": ", ".join(frame.channels)})


def left_out(frame: Frame, names: Sequence[str]) -> None:
    """Channels of a frame that its plate cannot hold."""
    what = f"{', '.join(names)}: the plate began without; name it in sources[].channels.optional"
    LOGGER.warning("channel left out", extra={"frame": str(frame.key), "what": what})
