"""Reference cells looked up among the others, as live cells will lie among them: their own group, or part, left out.

Discriminant axes are made to the measure of the cells they are fitted on: with about as many cells as dimensions, those
lie nearer to each other than cells that come later do. Novelty, calibration and the index's first figure must not be
taken from that. So groups are dealt into parts, and each part is looked up among the others by the others' axes.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil import decide
from cellvigil.data import I32, I64
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import search_over
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import dealt

PARTS = 10
"""Of 1,096 stained blood cells by 1,280 dimensions, p-values below 0.05 are given to 4 in 100 of those that come later;
with 5 parts to 2, and to 24 if references are looked up in axes that were fitted on them too.
"""
_SEED = 0  # of the parts; always the same


def parts_of(bank: Bank) -> I32:
    """The part of every cell, (N,) i32: whole groups, each class as evenly as can be."""
    _, units = np.unique(bank.groups, return_inverse=True)
    return dealt(bank.labels, units.astype(np.int64), [1 / PARTS] * PARTS, _SEED).astype(np.int32)


def sizes_outside(bank: Bank, rows: I64) -> I64:
    """Cells of each class outside the part of each of these cells, (len(rows), classes): what weighs their votes.

    The same for every cell of a part, so it does not tell which class a cell is of. With its own group alone left out
    it would: its class would be the smaller one, and win every tie; with nothing left out, deep votes would lean
    against that class.
    """
    part = parts_of(bank)
    table = np.zeros((int(part.max()) + 1, len(bank.classes)), dtype=np.int64)
    np.add.at(table, (part, bank.labels), 1)
    return np.asarray((bank.class_counts - table)[part[rows]], dtype=np.int64)


def leaving_groups_out(
    bank: Bank, names: Sequence[str], settings: IndexSettings, k: int, *, rows: I64, cuts: Sequence[int] = ()
) -> Neighbours:
    """The k nearest references of the cells `rows` outside each one's own group, over these encoders.

    For discriminant axes: outside its part. Ids are rows of the bank; -1 behind where others have fewer than k cells.
    """
    if settings.scaling == "discriminant":
        return leaving_parts_out(bank, names, settings, k, rows=rows, cuts=cuts)
    return search_over(bank, settings, names).leaving_out(bank.groups, k, rows, cuts)


def leaving_parts_out(
    bank: Bank, names: Sequence[str], settings: IndexSettings, k: int, *, rows: I64, cuts: Sequence[int] = ()
) -> Neighbours:
    """The same, outside each one's whole part: what an index without that part would have found."""
    part = parts_of(bank)
    if settings.scaling != "discriminant":
        return search_over(bank, settings, names).leaving_out(part, k, rows, cuts)
    ids = np.full((len(rows), min(k, len(bank))), -1, dtype=np.int32)
    distances = np.full(ids.shape, np.inf, dtype=np.float32)
    for number in np.unique(part[rows]):
        here, others = np.flatnonzero(part[rows] == number), np.flatnonzero(part != number)
        if len(np.unique(bank.labels[others])) < 2:
            continue  # one class has no axes; these cells find nobody
        search = search_over(bank.rows(others), settings, names)
        near = search.nearest({name: np.asarray(bank.embeddings[name][rows[here]]) for name in names}, k, cuts)
        width = near.ids.shape[1]
        ids[here, :width] = np.where(near.ids >= 0, others[near.ids], -1)
        distances[here, :width] = near.distances
    return Neighbours(ids, distances)


def grouped_neighbours(
    bank: Bank, names: Sequence[str], settings: IndexSettings, rows: I64, *, least: int = 0
) -> Neighbours:
    """What novelty and conformal depths rest on: k_max neighbours (or `least`) outside each cell's own group."""
    cuts = decide.depths(settings.depth, len(bank))
    return leaving_groups_out(bank, names, settings, max(settings.k_max, least), rows=rows, cuts=cuts)


def parted_neighbours(
    bank: Bank, names: Sequence[str], settings: IndexSettings, rows: I64, *, grouped: Neighbours
) -> Neighbours:
    """What calls of these cells by the other parts rest on: k_max neighbours or more, exact at every depth.

    `grouped` is what `grouped_neighbours` gave: for discriminant axes that is it already.
    """
    if settings.scaling == "discriminant":
        return grouped
    cuts = decide.depths(settings.depth, len(bank))
    return leaving_parts_out(bank, names, settings, settings.k_max, rows=rows, cuts=cuts)
