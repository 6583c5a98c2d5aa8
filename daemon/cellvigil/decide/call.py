"""From a cell's neighbours to its call: depth, vote, certainty, and whether to call it at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I16, I32, I64, NEIGHBOURS_KEPT, NOVEL, UNCERTAIN, Bools, Calls
from cellvigil.decide import certainty, conformal, ewc


@dataclass(frozen=True, slots=True)
class Rejection:
    """What makes a cell unknown; by default nothing does."""

    same_device: bool = False  # the cells come from the device of the index's own cells: novel ones are rejected
    min_probability: float | None = None  # cells less probable are rejected, where the index has a probability


def neighbours_needed(index: ReferenceIndex, settings: ewc.Settings) -> int:
    """How many neighbours `call` may want of a cell (all, if the index has fewer)."""
    return max(settings.k_max, first_depth(index, settings))


def first_depth(index: ReferenceIndex, settings: ewc.Settings) -> int:
    """How many neighbours `call` wants of every cell, however soon its entropy stops."""
    return max(settings.k_min, index.k_min, NEIGHBOURS_KEPT, _conformal_k(index))


def call(
    ids: I32, distances: F32, index: ReferenceIndex, settings: ewc.Settings, *, rejection: Rejection | None = None
) -> Calls:
    """Call n cells from their nearest reference cells.

    Args:
        ids: (n, k) i32 reference cells, nearest first; -1 behind the last one that was fetched, which is never before
            `first_depth` or the depth at which a cell's entropy stops, or the index is smaller.
        distances: (n, k) f32 to them, ascending; what stands beside a -1 is not read.
        index: the reference cells, for labels, class counts, novelty and calibration.
        settings: depth, threshold, reweighting. Where they are not the index's own, there is no probability: it was
            fitted for those.
        rejection: what makes a cell unknown.

    Returns:
        Calls with every field. Without calibration `probabilities` is NaN, every set holds every class, and no cell is
        unknown. Raises ValueError for a cell with too few neighbours.
    """
    found = ewc.labels_of(ids, index.labels)
    classes = len(index.classes)
    sizes = index.class_counts if settings.reweight else np.ones(classes, dtype=np.int64)
    depth = ewc.stop(found, classes, settings)
    best = ewc.vote(depth, found, distances, sizes)
    share = ewc.vote_share(depth.counts, sizes)
    novelty = certainty.novelty_p(distances[:, : index.k_min].mean(axis=1), best, index.novelty, index.novelty_classes)
    right = _probability(index, settings, share[np.arange(len(ids)), best], depth.k, novelty)
    probabilities = np.full(share.shape, np.nan, dtype=np.float32)
    if right is not None:
        probabilities = certainty.probabilities(right, best, share)
    why = reasons(index, rejection or Rejection(), novelty, best, probabilities)
    return Calls(
        best_ids=best,
        unknown=np.array([bool(reason) for reason in why], dtype=bool),
        unknown_reason=why,
        probabilities=probabilities,
        conformal_set=_sets(index, found, distances),
        vote_share=share,
        entropy=depth.entropy,
        k=depth.k,
        novelty_p=novelty,
        agreement=np.ones(len(ids), dtype=np.float32),
        neighbours=_first(ids, NEIGHBOURS_KEPT),
        bundle_sha256=index.sha256,
    )


def reasons(
    index: ReferenceIndex, rejection: Rejection, novelty: F32, best: I16, probabilities: F32
) -> tuple[str, ...]:
    """Why each cell is unknown, "" where it is not; a comparison with NaN is never true."""
    below = index.calibration.novel_below if index.calibration is not None and rejection.same_device else None
    floor = rejection.min_probability
    nothing = np.zeros(len(best), dtype=bool)
    novel = nothing if below is None else novelty < below
    uncertain = nothing if floor is None else probabilities[np.arange(len(best)), best] < floor
    return tuple(np.where(novel, NOVEL, np.where(uncertain, UNCERTAIN, "")).tolist())


def _conformal_k(index: ReferenceIndex) -> int:
    calibration = index.calibration
    return calibration.conformal.k if calibration is not None and calibration.conformal is not None else 0


def _probability(
    index: ReferenceIndex, settings: ewc.Settings, share: F32, k: I32, novelty: F32
) -> certainty.F64 | None:
    calibration = index.calibration
    if calibration is None or calibration.confidence is None or settings != ewc.Settings.of(index):
        return None
    return certainty.probability_right(calibration.confidence, certainty.features(share, k, novelty, index.k_min))


def _sets(index: ReferenceIndex, found: I64, distances: F32) -> Bools:
    """Without calibration, and in a part of an index that is smaller than the k it was calibrated for: every class."""
    k = _conformal_k(index)
    if index.calibration is None or index.calibration.conformal is None or found.shape[1] < k:
        return np.ones((len(found), len(index.classes)), dtype=bool)
    if (found[:, :k] < 0).any():
        raise ValueError(f"a cell has fewer than the {k} neighbours that its conformal set needs")
    scores = conformal.nonconformity(found[:, :k], distances[:, :k], len(index.classes))
    return conformal.sets(index.calibration.conformal, scores)


def _first(ids: I32, kept: int) -> I32:
    """The first `kept` columns, (n, kept) i32, filled up with -1."""
    out = np.full((len(ids), kept), -1, dtype=np.int32)
    width = min(kept, ids.shape[1])
    out[:, :width] = ids[:, :width]
    return out
