"""Single-cell images, called by an index one by one: what each is, how sure, and which reference cells say so.

Every picture passes through the steps that the index's own pictures passed through (`normalize`), and is called like a
live cell. What stands beside the call is the papers' application (EWC-FAISS, Frontiers in Oncology 2025, section 3.3):
their certainty C = (1 - H) x 100 %, and the nearest reference cells with their pictures. Reads images and bundles only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil import channels, config, decide, normalize, pipeline
from cellvigil.bundle.index import ReferenceCell, ReferenceIndex, reference_cells
from cellvigil.bundle.index_manifest import THUMBNAIL_PX
from cellvigil.data import I32, U8, UNKNOWN, Array, Calls, Embeddings, Fit, Frame, FrameKey, ImageRule, frozen_array
from cellvigil.encoder import Encoder
from cellvigil.errors import UsageError
from cellvigil.neighbours import Neighbours, Search, VotersSearch, open_search
from cellvigil.ruled import ruled
from cellvigil.segment import Segmenter, cells_from_labels, opencv_segmenter
from cellvigil.segment.sam import sam_segmenter
from cellvigil.segment.sam_model import SamModel
from cellvigil.stills import read_channels, read_image

_THUMBNAIL = Fit(THUMBNAIL_PX)
_TOGETHER = 64  # images that are read before the encoders run
_SAMPLED = 32  # images that the intensity range is taken from, where the index's rule takes percentiles


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """A reference cell that a call rests on."""

    cell: int  # its id in the index
    class_name: str
    image: str  # where it came from
    distance: float  # in the index's metric
    picture: U8  # (64, 64, C)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What one image was called, and why."""

    image: str
    picture: U8  # (64, 64, C), as the encoders saw it, but for their fits
    label: str  # class name, or "unknown"
    best: str  # class name, whether or not it was rejected
    unknown_reason: str  # "" where it was not
    probability: float | None  # of being right; None where the index is not calibrated
    possible: tuple[str, ...] | None  # classes that cannot be ruled out, at the index's promise; None: not calibrated
    certainty: float  # the papers' C, per cent: a stopping rule, not a confidence
    k: int  # neighbours that voted
    vote_share: dict[str, float]  # by class, weighted
    novelty_p: float | None  # of belonging to `best`; None where the index cannot say
    nearest: tuple[Witness, ...]
    reference: int | None = None  # the reference cell whose very picture this is: its call says nothing new
    agreement: float | None = None  # weight of the index's voters whose own call is `best`; None where it has one voter
    voters: dict[str, str] | None = None  # what each of them calls it
    for_expert: bool = False  # unknown, or the voters disagree: see `decide.for_expert`

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `--json`: everything but the pictures."""
        left_out = ("picture", "nearest")
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        names = [name for name in Witness.__dataclass_fields__ if name != "picture"]
        return {**plain, "nearest": [{name: getattr(each, name) for name in names} for each in self.nearest]}


def told(answer: Answer) -> str:
    """An answer in one line."""
    sure = "" if answer.probability is None else f", probability {answer.probability:.2f}"
    why = f" ({answer.unknown_reason}; would be {answer.best})" if answer.unknown_reason else ""
    near = ", ".join(f"{each.class_name} {each.cell}" for each in answer.nearest)
    same = "" if answer.reference is None else f"; this very picture is reference cell {answer.reference}"
    agree = "" if answer.agreement is None else f", {answer.agreement:.0%} of the voters agree"
    look = ", for an expert" if answer.agreement is not None and answer.for_expert else ""
    told = f"{answer.image}: {answer.label}{why}{sure}{agree}{look}, C {answer.certainty:.0f} %, k {answer.k}"
    return f"{told}; nearest: {near}{same}"


@dataclass(frozen=True, slots=True, eq=False)
class _How:
    """What must be known of these very images to make pictures of them."""

    planes: tuple[str, ...]  # channels to read of each image, for a rule of channels; () = all that it has
    shows: str  # the one of them that shows the cell's outline; "" = the first
    pixel_size_um: float | None  # of the images; None: each is fitted whole
    intensity: tuple[float, float] | None  # raw values that become 0 and 255; None: each pixel type has its own
    ranges: channels.Ranges  # the same by channel, for a rule of channels
    segmenter: Segmenter | None  # outlines cells, for a rule that blanks what is outside


def classify(
    paths: Sequence[Path],
    index: ReferenceIndex,
    encoders: Sequence[Encoder],
    *,
    nearest: int = 5,
    pixel_size_um: float | None = None,
    rejection: decide.Rejection | None = None,
    sam: SamModel | None = None,
) -> Iterator[Answer]:
    """Call single-cell images, in their order.

    Args:
        paths: images, one cell each, in its middle.
        index: what they are called by.
        encoders: the index's, in its order.
        nearest: reference cells to show, 1 or more.
        pixel_size_um: micrometres a pixel of these images; needed exactly where the index was built with one.
        rejection: what makes a cell unknown.
        sam: what outlined the index's cells (`sam_session.open_same_sam`); None: OpenCV alone.

    Raises UsageError for a pixel size that is missing or of no use, BadFile for an image that does not open.
    """
    if nearest < 1:
        raise UsageError("--nearest must be 1 or more")
    if index.image_rule.frame_normalised and pixel_size_um is None:
        what = f"index {index.name} was built at {index.image_rule.pixel_size_um:g} um a pixel"
        raise UsageError(what, hint="say how large a pixel of these images is with --pixel-size")
    if not index.image_rule.frame_normalised and pixel_size_um is not None:
        raise UsageError(f"index {index.name} was built from whole pictures", hint="leave --pixel-size out")
    search, cells, how = open_search(index), reference_cells(index), _how(paths, index, pixel_size_um, sam)
    rule, used = index.image_rule, [ruled(encoder, index.image_rule) for encoder in encoders]
    for start in range(0, len(paths), _TOGETHER):
        part = paths[start : start + _TOGETHER]
        fits = (_THUMBNAIL, *(encoder.bundle.fit for encoder in used))
        pictures = [_pictures(_read(path, how.planes), rule, how, fits) for path in part]
        vectors = {e.name: e.embed(np.concatenate([each[e.bundle.fit] for each in pictures])) for e in used}
        called = _called(vectors, index, search, rejection, min(nearest, len(index)))
        for row, path in enumerate(part):
            witnesses = tuple(_witnesses(index, cells, called.near, row))
            picture = frozen_array(channels.shown(pictures[row][_THUMBNAIL], rule)[0])
            yield _answer(path, called, row, picture=picture, index=index, witnesses=witnesses)


@dataclass(frozen=True, slots=True, eq=False)
class _Called:
    """Several images' calls, and what they rest on."""

    calls: Calls
    near: Neighbours  # as many as are to be shown; by the voter that speaks for the call, where there are several
    opinions: Sequence[Calls]  # of each voter; empty where the index has none


def _called(
    vectors: Embeddings, index: ReferenceIndex, search: Search, rejection: decide.Rejection | None, nearest: int
) -> _Called:
    settings = decide.Settings.of(index)
    if not isinstance(search, VotersSearch):
        calls = pipeline.called(vectors, index, search, settings, rejection=rejection)
        return _Called(calls, search.nearest(vectors, nearest), ())
    opinions, scores = pipeline.opinions_of(vectors, index, search, settings)
    calls = decide.combine(opinions, scores, index, rejection=rejection)
    speaker, rows = decide.speakers(opinions, calls.best_ids, index.voters), np.arange(len(calls))
    found = [one.nearest(vectors, nearest) for one in search.searches]
    ids, distances = np.stack([near.ids for near in found]), np.stack([near.distances for near in found])
    return _Called(calls, Neighbours(ids[speaker, rows], distances[speaker, rows]), opinions)


def _read(path: Path, planes: tuple[str, ...]) -> Array:
    return read_channels(path, planes) if planes else read_image(path)


def _pictures(pixels: Array, rule: ImageRule, how: _How, fits: Sequence[Fit]) -> dict[Fit, U8]:
    """One image's cell by each fit, (1, side, side, C) u8, as the index's own cells were made."""
    intensity = how.intensity or normalize.full_range(pixels.dtype)
    if how.pixel_size_um is None:
        plain = replace(rule, clahe=None)  # contrast is equalised after fitting, at the picture's own scale
        frame = _frame(pixels, how.planes, rule.pixel_size_um)
        shown = normalize.analysis_image(frame, how.shows, plain, intensity)
        images = channels.picture_images(frame, shown, plain, how.ranges)
        whole = [image.pixels for image in images]
        return {fit: channels.fit_singles(whole, rule, fit)[None] for fit in dict.fromkeys(fits)}
    frame = _frame(pixels, how.planes, how.pixel_size_um)
    scaled = normalize.analysis_image(frame, how.shows, rule, intensity)
    images = channels.picture_images(frame, scaled, rule, how.ranges)
    shape = pixels.shape[1:]
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    labels = _outline(scaled, shape, middle, how) if rule.mask else None
    return {fit: channels.cut(images, [middle], rule, fit=fit, labels=labels).pixels for fit in dict.fromkeys(fits)}


def _outline(scaled: normalize.AnalysisImage, shape: tuple[int, ...], middle: tuple[float, float], how: _How) -> I32:
    """The mask of the cell in the middle as label 1; everything, where the segmenter finds no cell there."""
    if how.segmenter is None or how.pixel_size_um is None:
        return np.ones(shape, dtype=np.int32)
    found = how.segmenter(normalize.grey(scaled), scaled.pixel_size_um)
    cells = cells_from_labels(found, (shape[0], shape[1]), (how.pixel_size_um, how.pixel_size_um))
    own = int(cells.labels[round(middle[0]), round(middle[1])])
    return (cells.labels == own).astype(np.int32) if own else np.ones(shape, dtype=np.int32)


def _how(paths: Sequence[Path], index: ReferenceIndex, pixel_size_um: float | None, sam: SamModel | None) -> _How:
    """Settle the intensity range: that of the index's pictures, else percentiles over these images."""
    rule, provenance = index.image_rule, index.manifest["provenance"]
    shows = str(provenance.get("channel", "")) if rule.channels and rule.mask else ""
    planes = tuple(dict.fromkeys((*rule.channels, *([shows] if shows else []))))
    intensity, ranges = None, {}
    known = provenance.get("intensity_range")
    if known is not None:
        intensity = (float(known[0]), float(known[1]))
        ranges = {name: (float(a), float(b)) for name, (a, b) in (provenance.get("channel_ranges") or {}).items()}
    elif rule.intensity.kind != "full":
        sample = paths[:: -(-len(paths) // _SAMPLED)] if rule.intensity.kind == "percentiles" else []
        frames = [_frame(_read(path, planes), planes, 1.0) for path in sample]
        intensity = normalize.intensity_range([normalize.plane_of(frame, shows) for frame in frames], rule.intensity)
        ranges = channels.ranges_of(frames, rule)
    diameter = provenance.get("cell_diameter_um")
    outlines = config.Segment(cell_diameter_um=diameter) if diameter else config.Segment()
    plain = opencv_segmenter(outlines)
    segmenter = sam_segmenter(outlines, sam, plain) if sam else plain
    return _How(planes, shows, pixel_size_um, intensity, ranges, segmenter if rule.mask else None)


def _frame(pixels: Array, planes: tuple[str, ...], pixel_size_um: float) -> Frame:
    names = planes or (normalize.RED_GREEN_BLUE if len(pixels) == 3 else ("",))
    key = FrameKey("", "", "", "", "", 0)
    return Frame(key, datetime.fromtimestamp(0, UTC), pixels, names, (pixel_size_um, pixel_size_um), ())


def _witnesses(index: ReferenceIndex, cells: Sequence[ReferenceCell], near: Neighbours, row: int) -> Iterator[Witness]:
    for cell, distance in zip(near.ids[row].tolist(), near.distances[row].tolist(), strict=True):
        if cell >= 0:
            yield Witness(cell, cells[cell].class_name, cells[cell].image, distance, index.thumbnails[cell])


def _answer(
    path: Path, called: _Called, row: int, *, picture: U8, index: ReferenceIndex, witnesses: tuple[Witness, ...]
) -> Answer:
    calls = called.calls
    best = int(calls.best_ids[row])
    name = index.classes[best]
    probability, novelty = float(calls.probabilities[row, best]), float(calls.novelty_p[row])
    calibration = index.calibration
    sets = calibration is not None and calibration.conformal is not None
    return Answer(
        image=str(path),
        picture=picture,
        label=UNKNOWN if calls.unknown[row] else name,
        best=name,
        unknown_reason=calls.unknown_reason[row],
        probability=probability if np.isfinite(probability) else None,
        possible=tuple(np.array(index.classes)[calls.conformal_set[row]].tolist()) if sets else None,
        certainty=100.0 * (1.0 - float(calls.entropy[row])),
        k=int(calls.k[row]),
        vote_share=dict(zip(index.classes, calls.vote_share[row].tolist(), strict=True)),
        novelty_p=novelty if np.isfinite(novelty) else None,
        nearest=witnesses,
        agreement=float(calls.agreement[row]) if called.opinions else None,
        voters=_opinions(index, called, row),
        for_expert=bool(decide.for_expert(calls.agreement, calls.unknown)[row]),
        reference=next((each.cell for each in witnesses if np.array_equal(each.picture, picture)), None),
    )


def _opinions(index: ReferenceIndex, called: _Called, row: int) -> dict[str, str] | None:
    """What each voter calls an image, by the voter's name."""
    if not called.opinions:
        return None
    told = zip(index.voters, called.opinions, strict=True)
    return {voter.name: index.classes[int(calls.best_ids[row])] for voter, calls in told}
