"""From a table of distances that may be off by rounding to sorted neighbours that are not. Pure.

Rows are queries. An entry's `room` is how far it may be off its exact value; the candidates of a row are the entries
that may be among its k smallest, and those that stand within rounding of a cut are measured again, pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from cellvigil.data import F32, I32, I64, Bools

ORDERED = 32  # neighbours whose order is exact, wherever the cuts are
NOBODY = np.iinfo(np.int32).max  # the id of an entry that only fills a row up; its distance is infinite


def candidates(table: F32, ids: I32, k: int, room: F32) -> tuple[F32, I32]:
    """The entries that may be among a row's k smallest, where each may be off by the row's `room`.

    Args:
        table: (n, m) f32, infinite where an entry does not count.
        ids: (m,) or (n, m) i32, what the entries are.
        k: how many are wanted, 1 or more.
        room: (n,) f32.

    Returns:
        (entries, ids), both (n, w): all that may be among the k smallest, in no order; filled up with infinity and
        NOBODY.
    """
    if table.shape[1] <= k:
        return table, np.broadcast_to(ids, table.shape)
    kth = np.partition(table, k - 1, axis=1)[:, k - 1]
    limit = np.minimum(kth + 2 * room, np.finfo(np.float32).max)  # of fewer than k that count, no others are taken
    places = np.flatnonzero(table <= limit[:, None])
    bounds = np.searchsorted(places, np.arange(len(table) + 1) * table.shape[1])
    counts = np.diff(bounds)
    entries = np.full((len(table), int(counts.max(initial=k))), np.inf, dtype=np.float32)
    names = np.full(entries.shape, NOBODY, dtype=np.int32)
    there = np.arange(entries.shape[1]) < counts[:, None]
    entries[there] = table.reshape(-1)[places]
    names[there] = ids.reshape(-1)[places] if ids.ndim == 2 else ids[places % table.shape[1]]
    return entries, names


def ranked(entries: F32, ids: I32) -> tuple[F32, I32]:
    """Every row sorted by entry, then by id. `entries` is (n, w) f32, 0 or more; `ids` is (n, w) i32, 0 or more."""
    # Floats of one sign sort like their bits: both go into one integer, which sorts several times faster than two keys.
    bits = np.maximum(entries, np.float32(0)) + np.float32(0)  # -0 becomes 0
    keys = bits.view(np.uint32).astype(np.uint64) << np.uint64(32) | ids.astype(np.uint64)
    keys.sort(axis=1)
    return (keys >> np.uint64(32)).astype(np.uint32).view(np.float32), keys.astype(np.uint32).view(np.int32)


def settled(
    entries: F32, ids: I32, cuts: Iterable[int], room: F32, *, first: int, exact: Callable[[I64, I64], F32]
) -> tuple[F32, I32]:
    """Ranked rows in which the first entries, the order of the first ORDERED and who stands before a cut are exact.

    With E the exact c-th smallest, A the approximate one and r the room, |E - A| <= r: an entry below A - 2 r is before
    the cut for certain, one above A + 2 r behind it, and only those between are measured. Sorting measured among
    unmeasured entries keeps every such certainty, as none of them moves by more than r. Neighbours in the order that
    are more than 4 r apart are in their order for certain.

    Args:
        entries: (n, w) f32 that may be off by `room`; `ids` (n, w) beside them.
        ids: what the entries are.
        cuts: depths from 1 on; those behind w are ignored.
        room: (n,) f32.
        first: how many are to be exact in value too.
        exact: (rows of the table, ids) -> their exact entries, all one-dimensional.
    """
    entries, ids = ranked(entries, ids)
    width = entries.shape[1]
    if not entries.size:
        return entries, ids
    doubtful = entries <= (entries[:, min(first, width) - 1] + 2 * room)[:, None]
    close = entries[:, 1 : ORDERED + 1] <= entries[:, :ORDERED][:, : width - 1] + 4 * room[:, None]
    doubtful[:, : close.shape[1]] |= close
    doubtful[:, 1 : close.shape[1] + 1] |= close
    for cut in (*cuts, ORDERED):
        if cut <= width:
            doubtful |= _near(entries, entries[:, cut - 1], 2 * room)
    doubtful &= np.isfinite(entries)
    rows, _ = np.nonzero(doubtful)
    entries[doubtful] = exact(rows.astype(np.int64), ids[doubtful].astype(np.int64))
    return ranked(entries, ids)


def _near(entries: F32, middle: F32, reach: F32) -> Bools:
    return np.asarray((entries >= (middle - reach)[:, None]) & (entries <= (middle + reach)[:, None]))
