"""EWC-FAISS over plain arrays: what an index of these cells would call. No bundle, no calibration.

The rules are `cellvigil.decide`'s and `cellvigil.neighbours`'; this file only puts them together for cells that are in
no index (folds, splits, trials).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil import decide
from cellvigil.data import F32, I16, I32, Embeddings
from cellvigil.neighbours import ExactSearch, Neighbours, mean_distance
from cellvigil_indexes import discriminant
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.settings import IndexSettings


@dataclass(frozen=True, slots=True, eq=False)
class Called:
    """What n cells were called by the cells of a bank."""

    best: I16  # (n,) class ids
    share: F32  # (n, classes) weighted vote share, rows sum to 1
    entropy: F32  # (n,) at the k used
    k: I32  # (n,) neighbours used
    novelty: F32  # (n,) mean distance to the k_min nearest
    near: Neighbours  # (n, k_max) ids are rows of the bank


def ewc(reference: Bank, queries: Embeddings, settings: IndexSettings, encoders: Sequence[str] | None = None) -> Called:
    """Call the queries by the reference cells, over these encoders (default: all of the bank's)."""
    search = search_over(reference, settings, encoders)
    cuts = decide.depths(settings.depth, len(reference))
    near = search.nearest({name: queries[name] for name in search.names}, settings.k_max, cuts)
    return decided(near, reference, settings)


def search_over(reference: Bank, settings: IndexSettings, encoders: Sequence[str] | None = None) -> ExactSearch:
    """Exact search over a bank's cells, scaled as the settings say; discriminant axes are fitted on these cells.

    Raises UsageError for discriminant axes of cells that have none, see `discriminant.fit`.
    """
    names = tuple(encoders or reference.embeddings)
    blocks = [reference.embeddings[name] for name in names]
    if settings.scaling == "discriminant":
        axes = [discriminant.fit(block, reference.labels) for block in blocks]
        along = [each.of(block) for each, block in zip(axes, blocks, strict=True)]
        return ExactSearch.of(names, along, [1.0] * len(names), projections=axes)
    scales = [scale_of(block, settings) for block in blocks]
    return ExactSearch.of(names, blocks, scales, metric=settings.metric)


def scale_of(block: F32, settings: IndexSettings) -> float:
    """The factor on an encoder's distances (squared, for L2) that makes their mean 1; 1 where nothing is scaled.

    All cells alike: 1.
    """
    spread = mean_distance(block, settings.metric) if settings.scaling == "unit" else 1.0
    return 1.0 / spread if spread > 0 else 1.0


def decided(near: Neighbours, reference: Bank, settings: IndexSettings) -> Called:
    """Depth and vote for neighbours that were found among the reference cells (every row of one width)."""
    found = np.asarray(reference.labels[near.ids], dtype=np.int64)
    sizes = reference.class_counts if settings.reweight else np.ones(len(reference.classes), dtype=np.int64)
    depth = decide.stop(found, len(reference.classes), settings.depth)
    return Called(
        best=decide.vote(depth, found, near.distances, sizes),
        share=decide.vote_share(depth.counts, sizes),
        entropy=depth.entropy,
        k=depth.k,
        novelty=np.asarray(near.distances[:, : settings.k_min].mean(axis=1), dtype=np.float32),
        near=near,
    )
