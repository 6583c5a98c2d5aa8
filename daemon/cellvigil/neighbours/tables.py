"""Whole tables of distances between cells: what the exact search looks through, and what index builders add up.

Pure arithmetic; references may be memory-mapped, in half precision too, and are never copied whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I64
from cellvigil.neighbours.canberra import TINY, canberra_table
from cellvigil.neighbours.halves import single

METRICS = ("l2", "canberra")
_FLOATS = 16 * 2**20  # float32 a temporary block: 64 MiB
_CONVERTED = 4 * 2**20  # float32 that halves are converted to at once: 16 MiB, in the cache until they are used
_PAIRS = 20_000  # that a mean Canberra distance is estimated from: within about 0.2 % of all pairs'


def distance_table(queries: F32, references: F32, metric: str = "l2") -> F32:
    """Distance of every query to every reference in one encoder, unscaled: squared L2, or Canberra with 0/0 = 0.

    Args:
        queries: (n, d) f32 or f16.
        references: (N, d) f32 or f16.
        metric: "l2" or "canberra".

    Returns:
        (n, N) f32. Squared L2 comes from a matrix product: rounding is relative to the vectors' squared lengths.

    Raises ValueError for another metric, or for vectors of different lengths.
    """
    if queries.shape[1] != references.shape[1]:
        raise ValueError(f"vectors of {queries.shape[1]} and of {references.shape[1]} dimensions have no distance")
    asked = single(queries)
    if metric == "canberra":
        return canberra_table(asked, references)
    if metric != "l2":
        raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    table = np.empty((len(asked), len(references)), dtype=np.float32)
    np.add(squared_norms(asked)[:, None], squared_norms(references)[None, :], out=table)
    subtract_products(table, 2 * asked, references)
    return np.maximum(table, 0, out=table)


def fill_with_products(table: F32, queries: F32, references: F32) -> None:
    """Fill a table (n, N) with queries (n, d) times references (N, d) transposed, a block at a time."""
    for start, block in float_blocks(references, max(1, _FLOATS // max(1, len(queries)))):
        np.matmul(queries, block.T, out=table[:, start : start + len(block)])


def subtract_products(table: F32, queries: F32, references: F32) -> None:
    """Subtract queries (n, d) times references (N, d) transposed from a table (n, N), a block at a time."""
    rows = max(1, _FLOATS // max(1, len(queries)))
    space = np.empty(len(queries) * min(rows, len(references)), dtype=np.float32)
    for start, block in float_blocks(references, rows):
        product = space[: len(queries) * len(block)].reshape(len(queries), len(block))
        np.matmul(queries, block.T, out=product)
        part = table[:, start : start + len(block)]
        np.subtract(part, product, out=part)


def float_blocks(block: F32, rows: int | None = None) -> Iterator[tuple[int, F32]]:
    """(first row, float32 rows) of (N, d) f32 or f16: views of f32, copies of 16 MiB at most of anything else.

    `rows` limits the views too.
    """
    most = max(1, (_FLOATS if block.dtype == np.float32 else _CONVERTED) // max(1, block.shape[1]))
    step = min(rows or most, most) if block.dtype != np.float32 or rows is None else rows
    for start in range(0, len(block), step):
        yield start, single(block[start : start + step])


def squared_norms(block: F32) -> F32:
    """Squared length of every row, (N,) f32."""
    norms = np.empty(len(block), dtype=np.float32)
    for start, part in float_blocks(block):
        norms[start : start + len(part)] = np.einsum("ij,ij->i", part, part)
    return norms


def squared_distances(queries: F32, rows: I64, block: F32, ids: I64) -> F32:
    """Squared L2 of query `rows[i]` to reference `ids[i]`, pair by pair: (m,) f32.

    A pair's distance is the same bits whatever it is computed beside, and equal references are equally far.
    """
    order = np.argsort(ids)  # a reference that several queries ask for is read once
    rows, ids = rows[order], ids[order]
    sorted_ = np.empty(len(rows), dtype=np.float32)
    step = max(1, len(rows) if block.dtype == np.float32 else _FLOATS // block.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        if block.dtype == np.float32:
            _pair_by_pair(queries, rows, block, ids, sorted_)
        else:
            gathered, places = np.unique(ids[part], return_inverse=True)
            _pair_by_pair(queries, rows[part], single(block[gathered]), places, sorted_[part])
    found = np.empty_like(sorted_)
    found[order] = sorted_
    return found


def canberra_distances(queries: F32, rows: I64, block: F32, ids: I64) -> F32:
    """Canberra distance of query `rows[i]` to reference `ids[i]`, pair by pair: (m,) f32."""
    found = np.empty(len(rows), dtype=np.float32)
    step = max(1, _FLOATS // 8 // block.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        x, y = single(queries[rows[part]]), single(block[ids[part]])
        sums = np.abs(x) + np.abs(y) + TINY
        found[part] = (np.abs(np.subtract(x, y, out=x), out=x) / sums).sum(axis=1)
    return found


def mean_distance(block: F32, metric: str = "l2") -> float:
    """Mean distance of two rows of (N, d): squared L2 over all ordered pairs (twice the total variance), or Canberra.

    Canberra's is over all ordered pairs where they are few, else over 20,000 drawn with a fixed seed. No rows: 0.
    """
    if not len(block):
        return 0.0
    if metric == "canberra":
        return _mean_canberra(block)
    if metric != "l2":
        raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    total, norms = np.zeros(block.shape[1]), 0.0
    for _, part in float_blocks(block):
        total += part.sum(axis=0, dtype=np.float64)
        norms += float(np.einsum("ij,ij->i", part, part).sum(dtype=np.float64))
    mean = total / len(block)
    return max(0.0, 2 * (norms / len(block) - float(mean @ mean)))


def pair_distance_shares(index: ReferenceIndex) -> dict[str, float]:
    """Each used encoder's share, 0..1, of the mean (L2: squared) distance between two reference cells, as scaled."""
    blocks = index.projected or index.embeddings
    parts = {e.name: e.scale * mean_distance(blocks[e.name], index.metric) for e in index.encoders}
    whole = sum(parts.values())
    return {name: part / whole if whole else 0.0 for name, part in parts.items()}


def _pair_by_pair(queries: F32, rows: I64, block: F32, ids: I64, found: F32) -> None:
    faiss.pairwise_indexed_L2sqr(  # type: ignore[attr-defined]  # the stubs lack FAISS's free functions
        queries.shape[1], len(rows), *(faiss.swig_ptr(array) for array in (queries, rows, block, ids, found))
    )


def _mean_canberra(block: F32) -> float:
    if len(block) ** 2 <= _PAIRS:
        return float(canberra_table(single(block), block).mean(dtype=np.float64))
    one, other = np.random.default_rng(0).integers(0, len(block), (2, _PAIRS))
    return float(canberra_distances(block, one, block, other).mean(dtype=np.float64))
