"""A part of an index as an index of its own: what it would be had it been built without the cells left out.

In memory only. Scales and novelty are measured again on the cells that are kept, and calibration is dropped: nothing of
the cells left out is known any more. The image rule and the settings stay (unless others are given).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cellvigil.bundle.index import IndexEncoder, ReferenceIndex
from cellvigil.data import F32, I64, Calls, Embeddings, frozen_array
from cellvigil.decide import Rejection, Settings
from cellvigil.neighbours import ExactSearch
from cellvigil.pipeline import called
from cellvigil_indexes import discriminant, leaveout
from cellvigil_indexes.bank import bank_of
from cellvigil_indexes.calling import scale_of
from cellvigil_indexes.crossfit import leaving_groups_out
from cellvigil_indexes.sampling import ASKED_AT_MOST, sampled
from cellvigil_indexes.settings import IndexSettings, settings_of


def part_of(
    index: ReferenceIndex, rows: I64, settings: IndexSettings | None = None, encoders: Sequence[str] = ()
) -> ReferenceIndex:
    """An index of these rows alone, searched exactly. `settings` and `encoders` default to the index's own.

    Raises ValueError without a row; KeyError for an encoder whose vectors the index does not keep.
    """
    if not len(rows):
        raise ValueError("an index needs at least one cell")
    how = settings or settings_of(index.manifest)
    known = {encoder.name: encoder for encoder in (*index.encoders, *index.spare_encoders)}
    chosen = [known[name] for name in encoders] if encoders else list(index.encoders)
    blocks = {encoder.name: frozen_array(index.embeddings[encoder.name][rows]) for encoder in chosen}
    labels = np.asarray(index.labels[rows])
    axes = discriminant.fit_all(blocks, labels) if how.scaling == "discriminant" else {}
    part = replace(
        index,
        encoders=tuple(_scaled(encoder, blocks[encoder.name], how) for encoder in chosen),
        spare_encoders=(),
        k_min=how.k_min,
        k_max=how.k_max,
        threshold=how.threshold,
        reweight=how.reweight,
        metric=how.metric,
        search="exact",
        calibration=None,
        confusion=None,
        embeddings=blocks,
        projections=axes,
        projected={name: frozen_array(each.of(blocks[name])) for name, each in axes.items()},
        norms=None,
        labels=frozen_array(labels),
        cell_groups=frozen_array(index.cell_groups[rows]),
        novelty=frozen_array(np.full(len(rows), np.nan, dtype=np.float32)),
        thumbnails=index.thumbnails[:0],  # nobody looks at them here
    )
    return replace(part, novelty=frozen_array(own_novelty(part, how)))


def own_novelty(part: ReferenceIndex, settings: IndexSettings) -> F32:
    """Each cell's mean distance to its k_min nearest of other groups, (N,) f32; NaN where too few, or not asked."""
    names = [encoder.name for encoder in part.encoders]
    asked = sampled(part.labels, ASKED_AT_MOST)
    near = leaving_groups_out(bank_of(part), names, settings, part.k_min, rows=asked)
    novelty = np.full(len(part), np.nan, dtype=np.float32)
    novelty[asked] = leaveout.novelty(near, part.k_min)
    return novelty


def call(index: ReferenceIndex, embeddings: Embeddings, rejection: Rejection | None = None) -> Calls:
    """Call cells as the daemon does, with the index's own settings, by exact search."""
    return called(embeddings, index, ExactSearch.over(index), Settings.of(index), rejection=rejection)


def rows_of(index: ReferenceIndex, rows: I64) -> Embeddings:
    """The vectors of these reference cells, by encoder, used or not."""
    return {name: np.asarray(block[rows], dtype=np.float32) for name, block in index.embeddings.items()}


def _scaled(encoder: IndexEncoder, block: F32, settings: IndexSettings) -> IndexEncoder:
    return replace(encoder, scale=scale_of(block, settings), used=True)
