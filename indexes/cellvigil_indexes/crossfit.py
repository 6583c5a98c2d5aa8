"""Reference cells among the others in axes that were fitted without them: how live cells will lie among them.

Discriminant axes are made to the measure of the cells they are fitted on: with about as many cells as dimensions, those
lie nearer to each other than cells that come later do. Novelty, calibration and the index's first figure must not be
taken from that. So the groups are dealt into parts, and each part is looked up among the others by the others' axes.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil.data import F32, I64
from cellvigil.neighbours import ExactSearch, Neighbours
from cellvigil_indexes import discriminant
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.splitting import dealt

PARTS = 10
"""Of 1,096 stained blood cells by 1,280 dimensions, p-values below 0.05 are given to 4 in 100 of those that come later;
with 5 parts to 2, and to 24 if references are looked up in axes that were fitted on them too.
"""
_SEED = 0  # of the parts; always the same


def leaving_parts_out(
    bank: Bank, names: Sequence[str], k: int, rows: I64 | None = None, cuts: Sequence[int] = ()
) -> Neighbours:
    """The k nearest references of other parts of every cell (of `rows`, if given), by axes fitted on those parts.

    What `ExactSearch.leaving_out` gives for axes that owe nothing to the cells: ids are rows of the bank, -1 where the
    other parts have fewer than k cells. Raises UsageError as `discriminant.fit` does.
    """
    asked = np.arange(len(bank)) if rows is None else np.asarray(rows)
    _, units = np.unique(bank.groups, return_inverse=True)
    part = dealt(bank.labels, units.astype(np.int64), [1 / PARTS] * PARTS, _SEED)
    ids = np.full((len(asked), min(k, len(bank))), -1, dtype=np.int32)
    distances = np.full(ids.shape, np.inf, dtype=np.float32)
    for number in np.unique(part[asked]):
        here, others = np.flatnonzero(part[asked] == number), np.flatnonzero(part != number)
        search, queries = _among(bank, names, others, asked[here])
        near = search.nearest(queries, k, cuts)
        width = near.ids.shape[1]
        ids[here, :width] = np.where(near.ids >= 0, others[near.ids], -1)
        distances[here, :width] = near.distances
    return Neighbours(ids, distances)


def _among(bank: Bank, names: Sequence[str], others: I64, asked: I64) -> tuple[ExactSearch, dict[str, F32]]:
    """A search over the `others` in their own axes, and the cells `asked` in these; its ids are places in `others`."""
    blocks, queries = [], {}
    for name in names:
        block = bank.embeddings[name]
        reference = block[others]
        axes = discriminant.fit(reference, bank.labels[others])
        blocks.append(axes.of(reference))
        queries[name] = axes.of(block[asked])
    return ExactSearch.of(names, blocks, [1.0] * len(names)), queries
