"""What is done to one frame in each thread. Knows no folders, no queues and no quarantine list.

`finish` runs in one thread and writes the store, all frames that wait in one commit. Whatever a frame's end is,
committed or an error, it is handed to `ended`; the desk decides there what an error means. A StoreError or DeviceError
is nobody's frame's fault and ends the service (a full disk only pauses it): the frames stay in the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from cellvigil import config, pipeline
from cellvigil.data import Baseline, Embeddings, FrameFiles, FrameKey, Record
from cellvigil.errors import BadFile, DeviceError, StoreError, StoreFull
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Prepared, Recipe
from cellvigil.service import attaching, telling
from cellvigil.service.attaching import Late
from cellvigil.service.crashes import Working
from cellvigil.service.flow import Passed, Stages
from cellvigil.service.log import LOGGER
from cellvigil.service.notify import Pulse
from cellvigil.service.pause import Pause, Wait
from cellvigil.service.turns import Ticket
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.read import read_frame
from cellvigil.store.writer import Filing, Store

Made = TypeVar("Made")


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

Ready = Passed[Job, Prepared | Late, Embeddings]


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """How one frame of a group ended: with an error, with a record to commit, or without anything to write."""

    one: Ready
    error: Exception | None = None
    record: Record | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The stages of a running service."""

    limits: config.Limits
    store: Store
    metrics: Metrics
    ended: Ended
    pause: Pause
    pulse: Pulse
    working: Working
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    # Series and time point -> its first commit (monotonic seconds) and the frame timeout; the finishing thread's own.
    begun: dict[tuple[str, str, str, int], tuple[float, float]] = field(default_factory=dict)

    def stages(self) -> Stages[Job, Prepared | Late, Embeddings]:
        """These methods as the flow wants them."""
        return Stages(
            prepare=self.prepare,
            size=lambda made: 0 if isinstance(made, Late) else len(made.cells),
            embed=embed,
            kept=lambda made: made if isinstance(made, Late) else pipeline.without_pictures(made),
            together=lambda one, other: one.recipe is other.recipe,
            finish=self.finish,
            beat=self.beat,
        )

    def prepare(self, job: Job) -> Prepared | Late:
        """Read the files and do everything up to the encoder. Raises NotYet and BadFile."""
        with self.working.on(job.source.name, [item.stat for item in job.files.slices]):
            return self._prepare(job)

    def _prepare(self, job: Job) -> Prepared | Late:
        start = time.perf_counter()
        needed = job.recipe.index.image_rule.channels
        slices = attaching.late_channels(job.files, job.source.channels, self.store.ledger, needed=needed)
        if slices is not None:
            late = attaching.read_late(slices, job.files, job.fmt, job.source, self.limits)
            if attaching.fits(late, self.store.ledger.frame(job.files.key)):
                return late
        frame = read_frame(job.files, job.fmt, job.source, self.limits)
        reading = time.perf_counter() - start
        prepared = pipeline.prepare(frame, job.recipe, job.baseline)
        return pipeline.with_stage(prepared, "read", reading)

    def finish(self, passed: Sequence[Ready], wait: Wait) -> None:
        """Call, commit and count frames, or decide what their errors mean. Raises StoreError.

        They are committed together and told of in their order. While the disk is full it waits, with `wait`, and tries
        the same again.
        """
        for group in self._groups(passed):
            self._commit([self._called(one, wait) for one in group], wait)

    def beat(self) -> None:
        """A token, or a frame, came through every queue. Time points that waited long enough are shown to readers."""
        self.pulse.beat()
        now = time.monotonic()
        for key, (since, timeout) in list(self.begun.items()):
            if now - since >= timeout:
                try:
                    self.store.publish(key[:3], overdue=key[3])
                except StoreFull:
                    return  # it is committed, and shown at a later beat
                del self.begun[key]

    def _groups(self, passed: Sequence[Ready]) -> Iterator[list[Ready]]:
        """Cut behind the first frame of a new plate: it decides which channels the later ones may bring."""
        group: list[Ready] = []
        for one in passed:
            group.append(one)
            if one.error is None and self.store.channels(one.job.files.key.series) is None:
                yield group
                group = []
        if group:
            yield group

    def _patiently(self, work: Callable[[], Made], wait: Wait) -> Made:
        return self.pause.until_done("the store", work, wait)

    def _called(self, one: Ready, wait: Wait) -> _End:
        """The record of one frame; what needs no record is done here. A frame that fails costs only itself."""
        try:
            if one.error is not None:
                raise one.error
            if isinstance(one.prepared, Late):
                self._attach(one.job, one.prepared, wait)
                return _End(one)
            if one.prepared is None or one.embedded is None:
                raise RuntimeError("a frame without an error came out without its embeddings")
            if self._is_unchanged(one.job.files.key, one.prepared):
                frame = one.prepared.frame
                LOGGER.info("file touched, content unchanged", extra={"frame": str(frame.key)})
                self._patiently(partial(self.store.note_files, frame.key, frame.files), wait)
                return _End(one)
            return self._record(one, self._known_channels_only(one.prepared), one.embedded)
        except (StoreError, DeviceError):  # the segmenter's device, when nothing helped: no frame can be blamed for it
            raise
        except Exception as error:  # noqa: BLE001 - the one loop at which a frame's own failure ends
            return _End(one, error=error)

    def _record(self, one: Ready, prepared: Prepared, embeddings: Embeddings) -> _End:
        job, watch = one.job, pipeline.Stopwatch()
        calls = pipeline.call(embeddings, job.recipe)
        watch.lap("call")
        record = pipeline.record(
            prepared,
            embeddings,
            calls,
            job.recipe,
            stage_seconds={"embed": one.embed_seconds, **watch.seconds},
            missing_channels=job.files.missing,
            revision=job.revision,
        )
        return _End(one, record=record)

    def _commit(self, ends: Sequence[_End], wait: Wait) -> None:
        """Commit what has a record, tell of every end in its order, and show readers what is new."""
        watch = pipeline.Stopwatch()
        filings = [Filing(end.record, end.one.job.files.folder, end.one.job.files.number) for end in ends if end.record]
        written = iter(self._patiently(partial(self.store.append_all, filings), wait) if filings else ())
        watch.lap("store")
        share = watch.seconds["store"] / max(1, len(filings))
        shown: dict[tuple[str, str, str], None] = {}
        for end in ends:
            job, error = end.one.job, end.error
            if end.record is not None:
                outcome = next(written)
                if isinstance(outcome, Exception):
                    error = outcome
                else:
                    shown[job.files.key.series] = None
                    self._tell(job, end.record, share)
            self.ended(job, error, _stage(end.one))
        for series in shown:
            self._patiently(partial(self.store.publish, series), wait)
            watch.lap("publish")
            self.metrics.stage.labels("publish").observe(watch.seconds.pop("publish"))

    def _tell(self, job: Job, record: Record, store_seconds: float) -> None:
        place = (*record.frame.key.series, record.frame.key.timepoint)
        self.begun.setdefault(place, (time.monotonic(), job.source.frame_timeout_s))
        first_seen = job.files.first_seen
        telling.committed(self.metrics, record, store_seconds=store_seconds, first_seen=first_seen, now=self.now())

    def _attach(self, job: Job, late: Late, wait: Wait) -> None:
        """Attach each channel that came late. Raises the first error of one of them, after trying all."""
        failed: BadFile | None = None
        known = self.store.channels(job.files.key.series)
        for frame in late.frames:
            if known is not None and not set(frame.channels) <= set(known):
                telling.left_out(frame, [name for name in frame.channels if name not in known])
                self._patiently(partial(self.store.note_files, frame.key, frame.files), wait)
                continue
            try:
                signals = pipeline.brightness(frame, frame.channels)
                attach = partial(self.store.attach, frame, missing=job.files.missing, signals=signals)
                self._patiently(attach, wait)
            except BadFile as error:
                failed = failed or error
                continue
            telling.attached(self.metrics, frame)
        if failed is not None:
            raise failed

    def _is_unchanged(self, key: FrameKey, prepared: Prepared) -> bool:
        """Whether a frame that came again holds the very bytes that are committed: then it is no new revision.

        Not so where the store's own copy was found damaged: then it is written anew.
        """
        known = self.store.ledger.frame(key)
        if known is None or self.store.ledger.is_lost(key, known.revision):
            return False
        return {ref.digest for ref in known.files} == {ref.digest for ref in prepared.frame.files}

    def _known_channels_only(self, prepared: Prepared) -> Prepared:
        """Without channels that the plate began without: they cannot be kept, and must not cost the frame."""
        frame = prepared.frame
        known = self.store.channels(frame.key.series)
        strange = [name for name in frame.channels if known and name not in known]
        if not strange or len(strange) == len(frame.channels):
            return prepared
        telling.left_out(frame, strange)
        return pipeline.without_channels(prepared, strange)


def embed(batch: Sequence[tuple[Job, Prepared | Late]]) -> list[Embeddings | Exception]:
    """The embeddings of several frames of one recipe, one a frame; {} for one whose cells are embedded already.

    Where the encoder makes no numbers of them each frame is embedded by itself: the error is that of one.
    """
    recipe = batch[0][0].recipe
    whole = [made for _, made in batch if not isinstance(made, Late)]
    blocks: Iterable[Embeddings | Exception]
    try:
        blocks = pipeline.embed(whole, recipe) if whole else ()
    except BadFile as error:
        blocks = [error] if len(whole) == 1 else [_embedded_alone(made, recipe) for made in whole]
    each = iter(blocks)
    return [{} if isinstance(made, Late) else next(each) for _, made in batch]


def _embedded_alone(prepared: Prepared, recipe: Recipe) -> Embeddings | Exception:
    try:
        return pipeline.embed([prepared], recipe)[0]
    except BadFile as error:
        return error


def _stage(passed: Ready) -> str:
    """Where a frame came to."""
    if passed.prepared is None:
        return "prepare"
    return "embed" if passed.embedded is None else "commit"
