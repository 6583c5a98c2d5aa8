"""One frame's way from pixels to calls, as plain functions: no files, no threads, no store.

    frame -> analysis image -> cells -> crops -> (encoder, batched by the service) -> neighbours -> calls -> record

The order of the image steps is the index's image rule; see `data.ImageRule`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cellvigil import channels, config, decide, histogram, neighbours, normalize, quality, segment
from cellvigil.bundle.index import ReferenceIndex
from cellvigil.bundle.origin import aligned_from
from cellvigil.data import F32, U8, Baseline, Calls, Cells, Crops, Embeddings, Fit, Frame, Histogram, Quality, Record
from cellvigil.ruled import Embeds


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What turns the frames of one source into calls; the same for every frame of a run."""

    channel: str  # the segmentation channel's name; "" = the first
    index: ReferenceIndex
    encoders: tuple[Embeds, ...]  # in the index's order, each as its image rule uses it (`ruled`)
    search: neighbours.Search
    settings: decide.Settings
    segmenter: segment.Segmenter
    limits: config.Response
    provenance: Mapping[str, str]  # see data.Record
    rejection: decide.Rejection = decide.Rejection()  # noqa: RUF009 - a frozen value


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A frame that only waits for the encoder."""

    frame: Frame
    cells: Cells
    crops: Mapping[Fit, Crops]  # by what an encoder's pictures are fitted by; empty once they are embedded
    quality: Quality
    stage_seconds: Mapping[str, float]
    signals: Mapping[str, Histogram] = field(default_factory=dict)  # see data.Record


class Stopwatch:
    """Seconds spent a stage, by name."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last = clock()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on `stage`."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def image_of(frame: Frame, recipe: Recipe, intensity: tuple[float, float]) -> normalize.AnalysisImage:
    """The frame's segmentation channel as the index's image rule wants it."""
    return normalize.analysis_image(frame, recipe.channel, recipe.index.image_rule, intensity)


def baseline_of(frames: Sequence[Frame], recipe: Recipe) -> Baseline:
    """What the first frames of a series fix for all later ones: the intensity range and the usual sharpness.

    Raises ValueError without a frame; BadFile as the image steps do.
    """
    if not frames:
        raise ValueError("a baseline needs at least one frame")
    rule = recipe.index.image_rule
    planes = [normalize.plane_of(frame, recipe.channel) for frame in frames]
    intensity = normalize.intensity_range(planes, rule.intensity, dtype=frames[0].pixels.dtype)
    ranges = channels.ranges_of(frames, rule)
    sharpness = [prepare(f, recipe, Baseline(intensity, 0.0, ranges)).quality.focus for f in frames]
    return Baseline(intensity, quality.usual_focus(sharpness), ranges)


def prepare(frame: Frame, recipe: Recipe, baseline: Baseline) -> Prepared:
    """Find the cells of a frame and cut out their pictures: everything before the encoder.

    Raises BadFile ("incomplete") for a frame that lacks a channel that the index looks at, else as the image steps do.
    """
    watch = Stopwatch()
    rule = recipe.index.image_rule
    image = image_of(frame, recipe, baseline.intensity)
    watch.lap("normalize")
    labels = recipe.segmenter(normalize.grey(image), image.pixel_size_um)
    cells = segment.cells_from_labels(
        labels, frame.pixels.shape[1:], frame.pixel_size_um, edge_margin_um=recipe.limits.edge_margin_um
    )
    watch.lap("segment")
    own = cells.labels if rule.mask else None
    images = channels.picture_images(frame, image, rule, baseline.channels)
    crops = {
        fit: channels.cut(images, cells.centroids_px, rule, fit=fit, labels=own)
        for fit in dict.fromkeys(encoder.bundle.fit for encoder in recipe.encoders)
    }
    watch.lap("crop")
    plane = normalize.plane_of(frame, recipe.channel)
    measured = quality.measure(plane, cells, baseline.intensity, pixel_size_um=frame.pixel_size_um[0])
    judged = quality.judge(measured, baseline.focus, recipe.limits)
    watch.lap("quality")
    signals = brightness(frame, unsegmented(frame, recipe.channel))
    if signals:
        watch.lap("signal")
    return Prepared(frame, cells, crops, judged, watch.seconds, signals)


def unsegmented(frame: Frame, channel: str) -> tuple[str, ...]:
    """The frame's channels, but those that `normalize.plane_of` makes the plane of that is segmented."""
    if not channel and not normalize.is_colour(frame):
        return frame.channels[1:]
    own = (channel,) if channel else tuple(name for name in frame.channels if name.lower() in normalize.RED_GREEN_BLUE)
    return tuple(name for name in frame.channels if name not in own)


def brightness(frame: Frame, names: Sequence[str]) -> dict[str, Histogram]:
    """How bright these channels of a frame are: what a fluorescence signal can be made of at any later time."""
    return {name: histogram.measure(frame.channel(name)) for name in names}


def embed(batch: Sequence[Prepared], recipe: Recipe) -> list[Embeddings]:
    """Embed the cells of several frames in one go, so that small frames fill the encoder's batches."""
    ends = np.cumsum([len(prepared.cells) for prepared in batch])[:-1]
    blocks: dict[str, list[F32]] = {}
    for encoder in recipe.encoders:
        crops = [prepared.crops[encoder.bundle.fit].pixels for prepared in batch]
        pixels: U8 = crops[0] if len(crops) == 1 else np.concatenate(crops)  # a large encoder's are a megabyte a cell
        blocks[encoder.name] = np.split(encoder.embed(pixels), ends)
    return [{name: parts[i] for name, parts in blocks.items()} for i in range(len(batch))]


def call(embeddings: Embeddings, recipe: Recipe) -> Calls:
    """Look the cells up among the reference cells and decide what each one is."""
    return called(embeddings, recipe.index, recipe.search, recipe.settings, rejection=recipe.rejection)


def called(
    embeddings: Embeddings,
    index: ReferenceIndex,
    search: neighbours.Search,
    settings: decide.Settings,
    *,
    rejection: decide.Rejection | None = None,
) -> Calls:
    """Call cells from their embeddings alone: for whoever has no frame.

    Exact search gives all neighbours at once, a graph more only for the cells that entropy leaves open; what is called
    from the same neighbours is the same either way. The voters of an index that has some are asked one by one.

    Raises ValueError for an index with voters and a search that is not theirs (see `neighbours.open_search`).
    """
    if index.voters or isinstance(search, neighbours.VotersSearch):
        opinions, scores = opinions_of(embeddings, index, search, settings)
        return decide.combine(opinions, scores, index, rejection=rejection)
    near = _near(embeddings, index, search, settings)
    return decide.call(near.ids, near.distances, index, settings, rejection=rejection)


def opinions_of(
    embeddings: Embeddings, index: ReferenceIndex, search: neighbours.Search, settings: decide.Settings
) -> tuple[list[Calls], F32]:
    """What each voter of an index calls the n cells, and how far out they lie, (n,): what `decide.combine` takes.

    Raises ValueError for a search that is not the voters'.
    """
    if not isinstance(search, neighbours.VotersSearch) or len(search.searches) != len(index.voters):
        raise ValueError(f"index {index.name} has {len(index.voters)} voters: search it by theirs")
    opinions = []
    for voter, one in zip(index.voters, search.searches, strict=True):
        near = _near(embeddings, voter.index, one, settings)
        opinions.append(decide.call(near.ids, near.distances, voter.index, settings))
    return opinions, search.far(embeddings, index.k_min)


def _near(
    embeddings: Embeddings, index: ReferenceIndex, search: neighbours.Search, settings: decide.Settings
) -> neighbours.Neighbours:
    """As many neighbours as calling by them takes."""
    needed, steps = decide.neighbours_needed(index, settings), decide.depths(settings, len(index))
    if not search.deepens or steps[-1] < min(needed, len(index)):
        return search.nearest(embeddings, needed, steps)
    return neighbours.deepened(
        search,
        embeddings,
        neighbours.worthwhile(steps, decide.first_depth(index, settings)),
        lambda ids: decide.unsettled(index.labels[ids], len(index.classes), settings),
    )


def record(
    prepared: Prepared,
    embeddings: Embeddings,
    calls: Calls,
    recipe: Recipe,
    *,
    stage_seconds: Mapping[str, float],
    missing_channels: tuple[str, ...] = (),
    revision: int = 0,
) -> Record:
    """Everything that the frame leaves behind, ready for the store. Only now, called, can it be left out as debris."""
    index = recipe.index
    artefacts = [place for place, name in enumerate(index.classes) if index.groups.get(name) == "artefact"]
    counted = ~prepared.cells.touches_edge
    judged = quality.judge_debris(prepared.quality, calls, counted, artefacts, recipe.limits.max_debris)
    return Record(
        frame=prepared.frame,
        cells=prepared.cells,
        embeddings=embeddings,
        calls=calls,
        quality=judged,
        provenance=recipe.provenance,
        stage_seconds={**prepared.stage_seconds, **stage_seconds},
        classes=recipe.index.classes,
        groups=recipe.index.groups,
        missing_channels=missing_channels,
        revision=revision,
        confusion=decide.confusion_of(recipe.index, recipe.settings, recipe.rejection),
        confusion_overridden=decide.overrides(recipe.index, recipe.settings, recipe.rejection),
        aligned_from=aligned_from(recipe.index),
        signals=prepared.signals,
    )


def with_stage(prepared: Prepared, stage: str, seconds: float) -> Prepared:
    """The same, with the time of a stage that came before."""
    return replace(prepared, stage_seconds={stage: seconds, **prepared.stage_seconds})


def without_pictures(prepared: Prepared) -> Prepared:
    """The same without its cells' pictures, which weigh up to 3 MB each (`sam-vit-*`): they are embedded."""
    return replace(prepared, crops={})


def without_channels(prepared: Prepared, names: Sequence[str]) -> Prepared:
    """The same frame without some of its channels; its files stay, so that it counts as read."""
    frame = prepared.frame
    kept = [place for place, name in enumerate(frame.channels) if name not in names]
    fewer = replace(frame, pixels=frame.pixels[kept], channels=tuple(frame.channels[place] for place in kept))
    signals = {name: one for name, one in prepared.signals.items() if name not in names}
    return replace(prepared, frame=fewer, signals=signals)
