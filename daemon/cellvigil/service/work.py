"""What is done to one frame in each thread. Knows no folders, no queues and no quarantine list.

`finish` runs in one thread and writes the store. Whatever a frame's end is, committed or an error, it is handed to
`ended`; the desk decides there what an error means. A StoreError is nobody's frame's fault and ends the service: the
frame stays in the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from cellvigil import config, pipeline
from cellvigil.data import Baseline, Embeddings, FrameFiles, FrameKey, Record
from cellvigil.errors import StoreError
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared, Recipe
from cellvigil.service.feed import Ticket
from cellvigil.service.flow import Passed, Stages
from cellvigil.service.log import LOGGER
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.read import read_frame
from cellvigil.store.writer import Store


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A complete frame on its way."""

    ticket: Ticket
    source: config.Source
    fmt: SourceFormat
    recipe: Recipe
    baseline: Baseline
    revision: int

    @property
    def files(self) -> FrameFiles:
        """What is to be read."""
        return self.ticket.files


Ended = Callable[[Job, Exception | None, str], None]
"""Told of every end: the job, its error (None = committed), and the stage it came from. Must only note it."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The stages of a running service."""

    limits: config.Limits
    store: Store
    metrics: Metrics
    ended: Ended
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    # Series and time point -> its first commit (monotonic seconds) and the frame timeout; the finishing thread's own.
    begun: dict[tuple[str, str, str, int], tuple[float, float]] = field(default_factory=dict)

    def stages(self) -> Stages[Job, Prepared, Embeddings]:
        """These methods as the flow wants them."""
        return Stages(
            prepare=self.prepare,
            size=lambda prepared: len(prepared.cells),
            embed=embed,
            together=lambda one, other: one.recipe is other.recipe,
            finish=self.finish,
            beat=self.beat,
        )

    def prepare(self, job: Job) -> Prepared:
        """Read the files and do everything up to the encoder. Raises NotYet and BadFile."""
        start = time.perf_counter()
        frame = read_frame(job.files, job.fmt, job.source, self.limits)
        reading = time.perf_counter() - start
        prepared = pipeline.prepare(frame, job.recipe, job.baseline)
        return pipeline.with_stage(prepared, "read", reading)

    def finish(self, passed: Passed[Job, Prepared, Embeddings]) -> None:
        """Call, commit and count one frame, or decide what its error means. Raises StoreError."""
        job = passed.job
        try:
            if passed.error is not None:
                raise passed.error
            if passed.prepared is None or passed.embedded is None:
                raise RuntimeError("a frame without an error came out without its embeddings")
            self._commit(job, passed.prepared, passed.embedded, passed.embed_seconds)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the one loop at which a frame's own failure ends
            self.ended(job, error, "prepare" if passed.prepared is None else "commit")
        else:
            self.ended(job, None, "commit")

    def beat(self) -> None:
        """A token, or a frame, came through every queue. Time points that waited long enough are shown to readers."""
        self.metrics.heartbeat.set(self.now().timestamp())
        now = time.monotonic()
        for key, (since, timeout) in list(self.begun.items()):
            if now - since >= timeout:
                del self.begun[key]
                self.store.publish(key[:3], overdue=key[3])

    def _commit(self, job: Job, prepared: Prepared, embeddings: Embeddings, embed_seconds: float) -> None:
        key = job.files.key
        if self._is_unchanged(key, prepared):
            LOGGER.info("file touched, content unchanged", extra={"frame": str(key)})
            self.store.note_files(key, prepared.frame.files)
            return
        prepared = self._known_channels_only(prepared)
        watch = pipeline.Stopwatch()
        calls = pipeline.call(embeddings, job.recipe)
        watch.lap("call")
        record = pipeline.record(
            prepared,
            embeddings,
            calls,
            job.recipe,
            stage_seconds={"embed": embed_seconds, **watch.seconds},
            missing_channels=job.files.missing,
            revision=job.revision,
        )
        self.store.append(record, folder=job.files.folder, number=job.files.number)
        watch.lap("store")
        self.store.publish(record.frame.key.series)
        watch.lap("publish")
        self.begun.setdefault((*key.series, key.timepoint), (time.monotonic(), job.source.frame_timeout_s))
        self._tell(job, record, {**record.stage_seconds, **watch.seconds})

    def _is_unchanged(self, key: FrameKey, prepared: Prepared) -> bool:
        """Whether a frame that came again holds the very bytes that are committed: then it is no new revision."""
        known = self.store.ledger.frame(key)
        fresh = {ref.digest for ref in prepared.frame.files}
        return known is not None and {ref.digest for ref in known.files} == fresh

    def _known_channels_only(self, prepared: Prepared) -> Prepared:
        """Without channels that the plate began without: they cannot be kept, and must not cost the frame."""
        frame = prepared.frame
        known = self.store.channels(frame.key.series)
        strange = [name for name in frame.channels if known and name not in known]
        if not strange or len(strange) == len(frame.channels):
            return prepared
        what = f"{', '.join(strange)}: the plate began without; name it in sources[].channels.optional"
        LOGGER.warning("channel left out", extra={"frame": str(frame.key), "what": what})
        return pipeline.without_channels(prepared, strange)

    def _tell(self, job: Job, record: Record, seconds: Mapping[str, float]) -> None:
        metrics, name = self.metrics, job.source.name
        for stage, spent in seconds.items():
            metrics.stage.labels(stage).observe(spent)
        metrics.delay.observe(max(0.0, time.monotonic() - job.files.first_seen))
        metrics.last_frame.labels(name).set(self.now().timestamp())
        best = record.calls.probabilities[np.arange(len(record.calls)), record.calls.best_ids]
        for probability in best[np.isfinite(best)]:
            metrics.probability.observe(float(probability))
        outcome = "excluded" if record.quality.excluded else "counted"
        metrics.frames.labels(name, "revised" if record.revision else outcome).inc()
        LOGGER.info(
            "frame committed",
            extra={"frame": str(record.frame.key), "cells": len(record.cells), "excluded": record.quality.excluded},
        )


def embed(batch: Sequence[tuple[Job, Prepared]]) -> list[Embeddings]:
    """The embeddings of several frames of one recipe, one a frame."""
    return pipeline.embed([prepared for _, prepared in batch], batch[0][0].recipe)
