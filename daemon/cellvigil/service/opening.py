"""Opens the encoders and the indexes that a configuration names, verified, and makes each source's recipe of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import faiss

from cellvigil import __version__, config
from cellvigil.bundle.encoder import EncoderBundle, open_encoder
from cellvigil.bundle.files import MANIFEST, VERIFIED
from cellvigil.bundle.index import ReferenceIndex, index_folder, open_index
from cellvigil.bundle.segmenter import SegmenterBundle
from cellvigil.device_options import Tuning, tuning_of
from cellvigil.encoder import Encoder, open_session
from cellvigil.errors import BundleError
from cellvigil.metrics import Metrics
from cellvigil.neighbours import open_search
from cellvigil.pipeline import Recipe
from cellvigil.ruled import ruled
from cellvigil.service.admission import admit, check_precision
from cellvigil.service.doubts import doubts_of, outline_doubts, rejection_of, settings_of, store_doubts
from cellvigil.service.enduring import unchanged
from cellvigil.service.lasting import DEGRADED, HALVED, REBUILT, Lasting
from cellvigil.service.lasting_sam import LastingSam
from cellvigil.service.pause import Wait
from cellvigil.service.recipes import Recipes
from cellvigil.service.segmenting import FoundBy, found_by, lasting_sam, segmenter_bundle


@dataclass(frozen=True, slots=True, eq=False)
class Bundles:
    """What stands on the disk, verified, before anything runs."""

    indexes: Mapping[str, ReferenceIndex]  # by source
    encoders: Mapping[str, EncoderBundle]  # by name: those that some index needs
    segmenter: SegmenterBundle | None = None  # None: OpenCV alone


@dataclass(frozen=True, slots=True, eq=False)
class Kitchen:
    """What is loaded and ready to work."""

    recipes: Recipes  # by source; an alignment swaps them
    encoders: Mapping[str, Lasting]  # by name
    segmenter: LastingSam | None = None  # None: OpenCV alone

    @property
    def models(self) -> tuple[Lasting | LastingSam, ...]:
        """All that runs on a device."""
        return (*self.encoders.values(), *((self.segmenter,) if self.segmenter else ()))

    @property
    def provider(self) -> str:
        """What the models run on just now: "cpu", "cuda" or "tensorrt"; the CPU if one of them had to go there."""
        running = {model.provider for model in self.models}
        return "cpu" if "cpu" in running else min(running)

    @property
    def is_degraded(self) -> bool:
        """Whether a model runs on the CPU because its device failed."""
        return any(model.degraded for model in self.models)

    @property
    def device_note(self) -> str:
        """Why the provider is not the one that was hoped for; "" where it is."""
        return next((model.device_note for model in self.models if model.device_note), "")


def open_bundles(settings: config.Config, *, rehash: bool = False) -> Bundles:
    """Open and verify every index, encoder and segmenter that the sources need.

    With `rehash` every file is hashed anew; otherwise files verified before are remembered in the state folder.
    Raises BundleError and UsageError for one that is missing, altered, does not belong to the other, or may not be
    used: see `admission.admit`.
    """
    memory = None if rehash else settings.state_dir / VERIFIED
    indexes: dict[str, ReferenceIndex] = {}
    encoders: dict[str, EncoderBundle] = {}
    for source in settings.sources:
        index = open_index(_index_folder(source, settings), memory=memory)
        for needed in index.encoders:
            folder = settings.encoder.path / needed.name
            if needed.name not in encoders and (folder / MANIFEST).is_file():
                encoders[needed.name] = open_encoder(folder, memory=memory)
        admit(source, settings.encoder, index, encoders)
        indexes[source.name] = index
    return Bundles(indexes, encoders, segmenter_bundle(settings, memory=memory))


def warnings_of(settings: config.Config, bundles: Bundles) -> list[str]:
    """What a person should know about these indexes before trusting a count, and about limits that contradict."""
    return [
        *store_doubts(settings.store),
        *(
            f"source {source.name}: index {bundles.indexes[source.name].name} {text}"
            for source in settings.sources
            for text in (
                *outline_doubts(settings.segment, bundles.indexes[source.name], bundles.segmenter),
                *doubts_of(source, settings.classify, bundles.indexes[source.name]),
            )
        ),
    ]


def open_kitchen(
    settings: config.Config,
    bundles: Bundles,
    *,
    told: Callable[[str, str], None] = lambda _encoder, _action: None,
    wait: Wait = time.sleep,
    writes: bool = True,
) -> Kitchen:
    """Load every encoder, and the segmenter, on the configured device and make the sources' recipes.

    OpenCV and FAISS get one thread each: frames are worked on side by side, and the cores are the encoder's. `told`
    gets the name of a model that failed while it worked, and what was done about it; `wait` lets time pass then.
    With `writes` the engines that TensorRT builds are kept in the state folder.
    Raises DeviceError if the device cannot be had, BundleError if one fails its golden pair, UsageError for
    overrides that contradict themselves.
    """
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    wanted = settings.encoder
    check_precision((*bundles.encoders.values(), *((bundles.segmenter,) if bundles.segmenter else ())), wanted)
    tuning = {b.name: tuning_of(settings, b.sha256 if writes else "") for b in bundles.encoders.values()}
    memory = settings.state_dir / VERIFIED
    encoders = {
        name: _lasting(bundle, wanted, tuning[name], told, wait, memory=memory)
        for name, bundle in bundles.encoders.items()
    }
    sam = lasting_sam(bundles.segmenter, settings, told, wait, writes=writes) if bundles.segmenter else None
    cells = found_by(settings.segment, sam)
    recipes = {
        source.name: recipe_of(source, settings, bundles.indexes[source.name], encoders, cells)
        for source in settings.sources
    }
    return Kitchen(Recipes(recipes), encoders, sam)


def open_told_kitchen(settings: config.Config, bundles: Bundles, metrics: Metrics, *, wait: Wait) -> Kitchen:
    """`open_kitchen`, and the metrics tell what it runs on and what becomes of its models."""
    shown: set[str] = set()

    def told(model: str, action: str) -> None:
        metrics.device_faults.labels(model, action).inc()
        if action == DEGRADED:
            metrics.degraded.set(1)
            show()

    def show() -> None:
        now = {model.provider for model in kitchen.models}
        for provider in now:
            metrics.device.labels(provider).set(1)
        for provider in shown - now:
            metrics.device.remove(provider)
        shown.clear()
        shown.update(now)

    kitchen = open_kitchen(settings, bundles, told=told, wait=wait)
    for model in kitchen.models:
        for action in (HALVED, REBUILT, DEGRADED):
            # From 0 on: an alert on an increase misses one that begins at 1.
            metrics.device_faults.labels(model.name, action)
    show()
    return kitchen


def _lasting(
    bundle: EncoderBundle,
    wanted: config.Encoder,
    tuning: Tuning,
    told: Callable[[str, str], None],
    wait: Wait,
    *,
    memory: Path,
) -> Lasting:
    def opened(device: str) -> Encoder:
        return open_session(
            bundle,
            device=device,
            threads=wanted.threads,
            batch=wanted.batch,
            on_halved=lambda: told(bundle.name, HALVED),
            tuning=tuning,
        )

    def again(device: str) -> Encoder:
        unchanged(bundle, open_encoder(bundle.folder, memory=memory))
        return opened(device)

    return Lasting(opened(wanted.device), again, may_degrade=wanted.device == "auto", told=told, wait=wait)


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
    source: config.Source,
    settings: config.Config,
    index: ReferenceIndex,
    encoders: Mapping[str, Lasting],
    cells: FoundBy,
) -> Recipe:
    """What turns frames of `source` into calls by `index`; its encoders must be among `encoders`."""
    used = tuple(ruled(encoders[needed.name], index.image_rule) for needed in index.encoders)
    return Recipe(
        channel=source.channels.segment,
        index=index,
        encoders=used,
        search=open_search(index),
        settings=settings_of(settings.classify, index),
        segmenter=cells.segmenter,
        limits=settings.response,
        provenance={
            "version": __version__,
            "config": settings.sha256,
            "index": index.sha256,
            **{f"encoder:{encoder.name}": encoder.bundle.sha256 for encoder in used},
            **cells.provenance,
        },
        rejection=rejection_of(source, settings.classify),
    )
