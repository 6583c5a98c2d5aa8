"""What a person should know before trusting a count: doubts about an index, a configuration that contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator

from cellvigil import config, decide
from cellvigil.bundle.index import ReferenceIndex
from cellvigil.bundle.segmenter import SegmenterBundle

_ALIKE = 1.25  # diameters this far apart make other outlines: a fifth too small or large costs 0.07 to 0.10 of F1


def store_doubts(store: config.Store) -> Iterator[str]:
    """What in the limits of the store contradicts itself."""
    floor = store.retention.free_floor_gb
    if floor is not None and floor * 1000 <= store.min_free_mb:
        yield "store: retention.free_floor_gb is not above min_free_mb, so writing waits before anything is deleted"


def outline_doubts(
    settings: config.Segment, index: ReferenceIndex, bundle: SegmenterBundle | None = None
) -> Iterator[str]:
    """What a person should know where live cells are blanked along other outlines than the index's cells were.

    `bundle` is the segmenter that outlines live cells; None: OpenCV alone.
    """
    provenance = index.manifest.get("provenance", {})
    diameter = provenance.get("cell_diameter_um")
    if not index.image_rule.mask or not diameter:
        return
    told = provenance.get("segmenter") or {}
    theirs, ours = told.get("name", ""), bundle.name if bundle else ""
    if theirs != ours:
        what = f"has cells that {theirs or 'OpenCV'} outlined, and live ones are outlined by {ours or 'OpenCV'}"
        again = f"with --segmenter {ours}" if ours else "without --segmenter"
        yield f"{what}, so their pictures differ: build it again {again}, or change segment.method"
    elif bundle is not None and told.get("sha256") != bundle.sha256:
        yield f"has cells that another segmenter {ours} outlined: build it again with this one, or bring that one"
    elif bundle is not None and settings.sam.prompts != "boxes":
        yield (
            f"has cells that {ours} outlined when asked by boxes, and live ones are found by a grid of points, so "
            "their pictures differ: set segment.sam.prompts: boxes"
        )
    if not 1 / _ALIKE <= settings.cell_diameter_um / diameter <= _ALIKE:
        yield (
            f"has cells that were outlined at a diameter of {diameter:g} um, and live ones are looked for at "
            f"{settings.cell_diameter_um:g} um, so their outlines differ: segment.cell_diameter_um"
        )


def doubts_of(source: config.Source, wanted: config.Classify, index: ReferenceIndex) -> Iterator[str]:
    """What to know about a source's index before trusting its counts, as sentences that begin after its name."""
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
        and settings_of(wanted, index) != decide.Settings.of(index)
    ):
        floor = "" if wanted.min_probability is None else ", and classify.min_probability has no effect"
        yield (
            "was calibrated for its own k_min, k_max and threshold: as classify overrides them, calls have no "
            f"probability{floor}"
        )
    if index.confusion is None or index.confusion.plain is None:
        why = "it is of an older version" if index.confusion is None else index.confusion.measured.get("why_not", "")
        yield f"does not know how its calls go wrong ({why}): shares are not corrected; build it again, or tune it"
    elif decide.overrides(index, settings_of(wanted, index), rejection_of(source, wanted)):
        yield "is overridden by classify: shares are not corrected, as how its calls go wrong was measured without that"
    if source.same_device_as_index and (calibration is None or calibration.novel_below is None):
        yield "is not calibrated for novelty: same_device_as_index has no effect; build it again"


def _aligned_doubts(source: config.Source, wanted: config.Classify, index: ReferenceIndex) -> Iterator[str]:
    """An index that was carried to another device: nothing was calibrated there but, perhaps, novelty."""
    told = index.alignment or {}
    yield "was aligned to another device, without labels: calls have no probability, and shares are not corrected"
    yield (
        "was aligned without labels: cells of a class that it lacks are mostly called the nearest one, which no figure "
        "tells here; have an expert look at the cells that its voters disagree on"
    )
    if wanted.min_probability is not None:
        yield "has no calibrated probability: classify.min_probability has no effect; see the voters' agreement instead"
    if not told.get("accepted", True):
        yield "was not accepted as a fit and was written all the same: its calls are not to be trusted"
    if source.same_device_as_index and (index.calibration is None or index.calibration.novel_below is None):
        yield "has too few witnesses of its target: same_device_as_index has no effect; align it with more cells"


def settings_of(wanted: config.Classify, index: ReferenceIndex) -> decide.Settings:
    """How an index calls, with what the configuration overrides."""
    return decide.Settings.of(index, k_min=wanted.k_min, k_max=wanted.k_max, threshold=wanted.threshold)


def rejection_of(source: config.Source, wanted: config.Classify) -> decide.Rejection:
    """Which cells a source leaves without a class."""
    return decide.Rejection(source.same_device_as_index, wanted.min_probability)
