"""What is done to one frame in each thread, and what becomes of it at the end: the policy of the service.

`finish` runs in one thread, writes the store and decides what an error means; the service's main thread hears of every
end through `Returns`:

    committed            counted, or excluded from the gauges by its image quality
    BadFile              the file is quarantined under its reason
    NotYet               the frame goes back and is tried again after the next scan
    any other Exception  the frame is tried again `limits.read_retries` times, then quarantined as "failed"
    StoreError           not the frame's fault: the service ends, the frame stays in the folder
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from cellvigil import config, pipeline
from cellvigil.data import Baseline, Embeddings, FrameFiles, Record
from cellvigil.errors import BadFile, NotYet, StoreError
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared, Recipe
from cellvigil.service.flow import Passed, Stages
from cellvigil.service.log import LOGGER
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.read import read_frame
from cellvigil.store.writer import Store


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A complete frame on its way."""

    files: FrameFiles
    source: config.Source
    fmt: SourceFormat
    recipe: Recipe
    baseline: Baseline
    revision: int
    attempt: int = 0  # how often it failed before
    queued: float = 0.0  # monotonic seconds: when it was complete


@dataclass(frozen=True, slots=True, eq=False)
class Returns:
    """Where a frame goes when its way through the threads ends. Called from the finishing thread: must only note it."""

    done: Callable[[Job], None]  # committed
    again: Callable[[Job, Exception], None]  # NotYet, or a failure that may pass: to be tried again
    refused: Callable[[Job, BadFile, str, str], None]  # to be quarantined: job, error, stage, traceback


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The stages of a running service."""

    limits: config.Limits
    store: Store
    metrics: Metrics
    returns: Returns
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
        except NotYet as error:
            LOGGER.info("frame not readable yet", extra={"frame": str(job.files.key), "why": str(error)})
            self.returns.again(job, error)
        except BadFile as error:
            self.returns.refused(job, error, _stage(passed), "")
        except Exception as error:  # noqa: BLE001 - the one loop at which a frame's own failure ends
            self._failed(job, error, _stage(passed))
        else:
            self.returns.done(job)

    def beat(self) -> None:
        """A token, or a frame, came through every queue. Time points that waited long enough are shown to readers."""
        self.metrics.heartbeat.set(self.now().timestamp())
        now = time.monotonic()
        for key, (since, timeout) in list(self.begun.items()):
            if now - since >= timeout:
                del self.begun[key]
                self.store.publish(key[:3], overdue=key[3])

    def _commit(self, job: Job, prepared: Prepared, embeddings: Embeddings, embed_seconds: float) -> None:
        if self._is_unchanged(job, prepared):
            LOGGER.info("file touched, content unchanged", extra={"frame": str(job.files.key)})
            return
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
        key = record.frame.key
        self.begun.setdefault((*key.series, key.timepoint), (time.monotonic(), job.source.frame_timeout_s))
        self._tell(job, record, {**record.stage_seconds, **watch.seconds})

    def _is_unchanged(self, job: Job, prepared: Prepared) -> bool:
        """Whether a frame that came again holds the very bytes that are committed: then it is no new revision."""
        known = self.store.ledger.frame(job.files.key)
        fresh = {ref.digest for ref in prepared.frame.files}
        return known is not None and {ref.digest for ref in known.files} == fresh

    def _tell(self, job: Job, record: Record, seconds: Mapping[str, float]) -> None:
        metrics, name = self.metrics, job.source.name
        for stage, spent in seconds.items():
            metrics.stage.labels(stage).observe(spent)
        metrics.delay.observe(max(0.0, time.monotonic() - job.files.first_seen))
        metrics.last_frame.labels(name).set(self.now().timestamp())
        best = record.calls.probabilities[np.arange(len(record.calls)), record.calls.best_ids]
        for probability in best[np.isfinite(best)]:
            metrics.probability.observe(float(probability))
        metrics.frames.labels(name, "excluded" if record.quality.excluded else "counted").inc()
        LOGGER.info(
            "frame committed",
            extra={"frame": str(record.frame.key), "cells": len(record.cells), "excluded": record.quality.excluded},
        )

    def _failed(self, job: Job, error: Exception, stage: str) -> None:
        trace = "".join(traceback.format_exception(error))
        if job.attempt < self.limits.read_retries:
            LOGGER.warning("frame failed, will be tried again", extra={"frame": str(job.files.key), "why": repr(error)})
            self.returns.again(job, error)
            return
        bad = BadFile("failed", f"{type(error).__name__}: {error}", where=str(job.files.key))
        self.returns.refused(job, bad, stage, trace)


def embed(batch: Sequence[tuple[Job, Prepared]]) -> list[Embeddings]:
    """The embeddings of several frames of one recipe, one a frame."""
    return pipeline.embed([prepared for _, prepared in batch], batch[0][0].recipe)


def _stage(passed: Passed[Job, Prepared, Embeddings]) -> str:
    return "prepare" if passed.prepared is None else "commit"
