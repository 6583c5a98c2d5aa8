"""Opens the encoders and the indexes that a configuration names, verified, and makes each source's recipe of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import faiss

from cellvigil import __version__, config, decide, segment
from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.index import ReferenceIndex, check_encoders, index_folder, open_index
from cellvigil.encoder import Encoder, open_session
from cellvigil.errors import BundleError, UsageError
from cellvigil.metrics import Metrics
from cellvigil.neighbours import open_search
from cellvigil.pipeline import Recipe
from cellvigil.service.lasting import DEGRADED, HALVED, REBUILT, Lasting
from cellvigil.service.pause import Wait
from cellvigil.service.recipes import Recipes


@dataclass(frozen=True, slots=True, eq=False)
class Bundles:
    """What stands on the disk, verified, before anything runs."""

    indexes: Mapping[str, ReferenceIndex]  # by source
    encoders: Mapping[str, EncoderBundle]  # by name: those that some index needs


@dataclass(frozen=True, slots=True, eq=False)
class Kitchen:
    """What is loaded and ready to work."""

    recipes: Recipes  # by source; an alignment swaps them
    encoders: Mapping[str, Lasting]  # by name

    @property
    def provider(self) -> str:
        """What the encoders run on just now: "cpu", "cuda" or "tensorrt"; the CPU if one of them had to go there."""
        running = {encoder.provider for encoder in self.encoders.values()}
        return "cpu" if "cpu" in running else min(running)

    @property
    def is_degraded(self) -> bool:
        """Whether an encoder runs on the CPU because its device failed."""
        return any(encoder.degraded for encoder in self.encoders.values())

    @property
    def device_note(self) -> str:
        """Why the provider is not the one that was hoped for; "" where it is."""
        return next((encoder.device_note for encoder in self.encoders.values() if encoder.device_note), "")


def open_bundles(settings: config.Config, *, rehash: bool = False) -> Bundles:
    """Open and verify every index and encoder that the sources need.

    With `rehash` every file is hashed anew; otherwise files verified before are remembered in the state folder.
    Raises BundleError for one that is missing, altered, or does not belong to the other.
    """
    memory = None if rehash else settings.state_dir / "verified.json"
    indexes: dict[str, ReferenceIndex] = {}
    encoders: dict[str, EncoderBundle] = {}
    for source in settings.sources:
        index = open_index(_index_folder(source, settings), memory=memory)
        for needed in index.encoders:
            folder = settings.encoder.path / needed.name
            if needed.name not in encoders and (folder / MANIFEST).is_file():
                encoders[needed.name] = open_encoder(folder, memory=memory)
        check_encoders(index, encoders.values())
        indexes[source.name] = index
    return Bundles(indexes, encoders)


def warnings_of(settings: config.Config, bundles: Bundles) -> list[str]:
    """What a person should know about these indexes before trusting a count, and about limits that contradict."""
    return [
        *_store_doubts(settings.store),
        *(
            f"source {source.name}: index {bundles.indexes[source.name].name} {text}"
            for source in settings.sources
            for text in _doubts(source, settings.classify, bundles.indexes[source.name])
        ),
    ]


def _store_doubts(store: config.Store) -> Iterator[str]:
    floor = store.retention.free_floor_gb
    if floor is not None and floor * 1000 <= store.min_free_mb:
        yield "store: retention.free_floor_gb is not above min_free_mb, so writing waits before anything is deleted"


def _doubts(source: config.Source, wanted: config.Classify, index: ReferenceIndex) -> Iterator[str]:
    calibration = index.calibration
    if not index.image_rule.frame_normalised:
        yield (
            "was built from ready-made single-cell images, not from frames: "
            "live cells pass through other steps, so its calls are not to be trusted; build one with --coco"
        )
    if index.voters:
        yield from _aligned_doubts(source, wanted, index)
        return
    if wanted.min_probability is not None and (calibration is None or calibration.confidence is None):
        yield "has no calibrated probability: classify.min_probability has no effect; build it with more cells"
    elif (
        calibration is not None
        and calibration.confidence is not None
        and _settings(wanted, index) != decide.Settings.of(index)
    ):
        floor = "" if wanted.min_probability is None else ", and classify.min_probability has no effect"
        yield (
            "was calibrated for its own k_min, k_max and threshold: as classify overrides them, calls have no "
            f"probability{floor}"
        )
    if index.confusion is None or index.confusion.plain is None:
        why = "it is of an older version" if index.confusion is None else index.confusion.measured.get("why_not", "")
        yield f"does not know how its calls go wrong ({why}): shares are not corrected; build it again, or tune it"
    elif decide.overrides(index, _settings(wanted, index), _rejection(source, wanted)):
        yield "is overridden by classify: shares are not corrected, as how its calls go wrong was measured without that"
    if source.same_device_as_index and (calibration is None or calibration.novel_below is None):
        yield "is not calibrated for novelty: same_device_as_index has no effect; build it again"


def _aligned_doubts(source: config.Source, wanted: config.Classify, index: ReferenceIndex) -> Iterator[str]:
    """An index that was carried to another device: nothing was calibrated there but, perhaps, novelty."""
    told = index.alignment or {}
    yield "was aligned to another device, without labels: calls have no probability, and shares are not corrected"
    if wanted.min_probability is not None:
        yield "has no calibrated probability: classify.min_probability has no effect; see the voters' agreement instead"
    if not told.get("accepted", True):
        yield "was not accepted as a fit and was written all the same: its calls are not to be trusted"
    if source.same_device_as_index and (index.calibration is None or index.calibration.novel_below is None):
        yield "has too few witnesses of its target: same_device_as_index has no effect; align it with more cells"


def _settings(wanted: config.Classify, index: ReferenceIndex) -> decide.Settings:
    return decide.Settings.of(index, k_min=wanted.k_min, k_max=wanted.k_max, threshold=wanted.threshold)


def _rejection(source: config.Source, wanted: config.Classify) -> decide.Rejection:
    return decide.Rejection(source.same_device_as_index, wanted.min_probability)


def open_kitchen(
    settings: config.Config,
    bundles: Bundles,
    *,
    told: Callable[[str, str], None] = lambda _encoder, _action: None,
    wait: Wait = time.sleep,
) -> Kitchen:
    """Load every encoder on the configured device and make the sources' recipes.

    OpenCV and FAISS get one thread each: frames are worked on side by side, and the cores are the encoder's. `told`
    gets the name of an encoder that failed while it worked, and what was done about it; `wait` lets time pass then.
    Raises DeviceError if the device cannot be had, BundleError if an encoder fails its golden pair, UsageError for
    overrides that contradict themselves.
    """
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    wanted = settings.encoder
    if wrong := [b.name for b in bundles.encoders.values() if b.precision != wanted.precision]:
        raise UsageError(
            f"encoder.precision is {wanted.precision}, but {', '.join(wrong)} is not",
            where="encoder.precision",
            hint="export the encoder in that precision, or change the key",
        )
    encoders = {name: _lasting(bundle, wanted, told, wait) for name, bundle in bundles.encoders.items()}
    recipes = {
        source.name: recipe_of(source, settings, bundles.indexes[source.name], encoders) for source in settings.sources
    }
    return Kitchen(Recipes(recipes), encoders)


def open_told_kitchen(settings: config.Config, bundles: Bundles, metrics: Metrics, *, wait: Wait) -> Kitchen:
    """`open_kitchen`, and the metrics tell what it runs on and what becomes of its encoders."""
    shown: set[str] = set()

    def told(encoder: str, action: str) -> None:
        metrics.device_faults.labels(encoder, action).inc()
        if action == DEGRADED:
            metrics.degraded.set(1)
            show()

    def show() -> None:
        now = {encoder.provider for encoder in kitchen.encoders.values()}
        for provider in now:
            metrics.device.labels(provider).set(1)
        for provider in shown - now:
            metrics.device.remove(provider)
        shown.clear()
        shown.update(now)

    kitchen = open_kitchen(settings, bundles, told=told, wait=wait)
    for name in kitchen.encoders:
        for action in (HALVED, REBUILT, DEGRADED):
            metrics.device_faults.labels(name, action)  # from 0 on: an alert on an increase misses one that begins at 1
    show()
    return kitchen


def _lasting(bundle: EncoderBundle, wanted: config.Encoder, told: Callable[[str, str], None], wait: Wait) -> Lasting:
    def opened(device: str) -> Encoder:
        return open_session(
            bundle,
            device=device,
            threads=wanted.threads,
            batch=wanted.batch,
            on_halved=lambda: told(bundle.name, HALVED),
        )

    return Lasting(opened(wanted.device), opened, may_degrade=wanted.device == "auto", told=told, wait=wait)


def _index_folder(source: config.Source, settings: config.Config) -> Path:
    folder = index_folder(source.index, settings.classify.indexes)
    if not (folder / MANIFEST).is_file():
        known = sorted(path.parent.name for path in settings.classify.indexes.glob(f"*/{MANIFEST}"))
        raise BundleError(
            f"source {source.name} names index {source.index!r}, which is not there",
            where=folder,
            hint=f"there are: {', '.join(known)}" if known else "build one with `cellvigil-index build`",
        )
    return folder


def recipe_of(
    source: config.Source, settings: config.Config, index: ReferenceIndex, encoders: Mapping[str, Lasting]
) -> Recipe:
    """What turns frames of `source` into calls by `index`; its encoders must be among `encoders`."""
    used = tuple(encoders[needed.name] for needed in index.encoders)
    return Recipe(
        channel=source.channels.segment,
        index=index,
        encoders=used,
        search=open_search(index),
        settings=_settings(settings.classify, index),
        segmenter=segment.opencv_segmenter(settings.segment),
        limits=settings.response,
        provenance={
            "version": __version__,
            "config": settings.sha256,
            "index": index.sha256,
            **{f"encoder:{encoder.name}": encoder.bundle.sha256 for encoder in used},
        },
        rejection=_rejection(source, settings.classify),
    )
