"""Looking deeper only where it is needed: for searches whose cost grows with the number of neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from cellvigil.data import I32, Bools, Embeddings
from cellvigil.neighbours.values import Neighbours, Search

CHEAP = 64  # neighbours that a graph finds at the price of three, see `graph.EF_LEAST`


def deepened(
    search: Search, embeddings: Embeddings, widths: Sequence[int], is_open: Callable[[I32], Bools]
) -> Neighbours:
    """Look every cell up among its widths[0] nearest, those that stay open among widths[1], and so on.

    Args:
        search: where to look.
        embeddings: an (n, d_e) f32 block for each encoder that the search looks at.
        widths: how many neighbours, ascending; the last one at most the number of reference cells.
        is_open: (m, width) ids of m cells -> (m,) whether they need more.

    Returns:
        n rows of widths[-1] neighbours; where a cell needed fewer, -1 and infinite behind.

    Raises ValueError as the search does.
    """
    first = search.nearest(embeddings, widths[0], widths[:1])
    ids = np.full((len(first), widths[-1]), -1, dtype=np.int32)
    distances = np.full(ids.shape, np.inf, dtype=np.float32)
    ids[:, : widths[0]], distances[:, : widths[0]] = first.ids, first.distances
    rows = np.arange(len(first))
    for narrow, width in pairwise(widths):
        rows = rows[is_open(ids[rows, :narrow])]
        if not rows.size:
            break
        some = {name: block[rows] for name, block in embeddings.items()}
        near = search.nearest(some, width, [cut for cut in widths if cut <= width])
        ids[rows, :width], distances[rows, :width] = near.ids, near.distances
    return Neighbours(ids, distances)


def worthwhile(depths: Sequence[int], least: int) -> tuple[int, ...]:
    """Of the depths at which a call may stop, ascending, those to which neighbours are fetched; the last is one.

    The first is the deepest that comes at the price of the shallowest (`CHEAP`), or where that is not `least` deep,
    the first that is; and one that the last exceeds by less than half is not worth a search of its own.
    """
    if depths[-1] <= CHEAP:
        return (depths[-1],)
    deep = [depth for depth in depths if depth >= least and 3 * depth <= 2 * depths[-1]]
    cheap = sum(depth <= CHEAP for depth in deep)
    return (*deep[max(cheap - 1, 0) :], depths[-1])
