"""Exact search for the nearest reference cells, over one encoder or the concatenation of several.

Pure arithmetic over an index's embeddings, which may be memory-mapped and are never copied whole. Squared L2 over
concatenated encoders is the sum of the encoders' squared distances (`Search` adds them up, each with its own scale).
EWC-FAISS (Frontiers in Oncology 2025, section 2.3.2) uses an approximate HNSW index; at up to about 50,000 cells exact
search is as fast and owes nothing to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I32, Bools, Embeddings, frozen_array

_BLOCK = 64  # query rows a matrix product: the distance table stays at 64 x N floats
_ROUNDING = 32 * float(np.finfo(np.float32).eps)  # of |x|^2 + |y|^2: more than the matrix product is ever off


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest reference cells of n cells: by distance, then by id."""

    ids: I32  # (n, k) i32 rows of the index; -1 where fewer were to be had (only after leaving groups out)
    distances: F32  # (n, k) f32 L2, in units of the (scaled) embeddings; infinite where the id is -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", frozen_array(self.ids))
        object.__setattr__(self, "distances", frozen_array(self.distances))

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Reference cells made ready to be searched.

    A matrix product finds the candidates, with room for its rounding; their distances are then taken pair by pair.
    So a cell's answer does not depend on which cells it is batched with, and equal references tie exactly.
    """

    names: tuple[str, ...]  # encoders
    blocks: tuple[F32, ...]  # one (N, d_e) f32 an encoder
    scales: tuple[float, ...]  # factor on each encoder's squared distance; 1 = as it comes
    norms: F32  # (N,) f32 scaled squared norms

    @classmethod
    def over(cls, index: ReferenceIndex) -> Search:
        """Search all cells of an index, each encoder scaled as its manifest says."""
        names = tuple(encoder.name for encoder in index.encoders)
        return cls.of(names, [index.embeddings[name] for name in names], [encoder.scale for encoder in index.encoders])

    @classmethod
    def of(cls, names: Sequence[str], blocks: Sequence[F32], scales: Sequence[float]) -> Search:
        """Search over plain arrays, one (N, d_e) f32 an encoder. Raises ValueError if they do not fit together."""
        if not len(names) == len(blocks) == len(scales) or len({len(block) for block in blocks}) != 1:
            raise ValueError("every encoder needs a name, a scale and a block of the same number of cells")
        ready = tuple(np.ascontiguousarray(block, dtype=np.float32) for block in blocks)
        norms = sum(scale * _squared_norms(block) for block, scale in zip(ready, scales, strict=True))
        return cls(tuple(names), ready, tuple(scales), np.asarray(norms, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.norms)

    def nearest(self, embeddings: Embeddings, k: int) -> Neighbours:
        """The k nearest reference cells (all, if there are fewer) of every cell.

        Raises ValueError for an encoder's block that is missing, of the wrong shape, or not finite.
        """
        queries = self._queries(embeddings)
        parts = [
            self._block([query[start : start + _BLOCK] for query in queries], min(k, len(self)))
            for start in range(0, len(queries[0]), _BLOCK)
        ]
        return _joined(parts, min(k, len(self)))

    def leaving_out(self, groups: I32, k: int) -> Neighbours:
        """The k nearest references of every reference outside its own group; -1 where the others are fewer.

        `groups` is (N,): the cells of one image, plate or sequence share a number.
        """
        parts = []
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, start + _BLOCK)
            own = groups[rows, None] == groups[None, :]
            parts.append(self._block([block[rows] for block in self.blocks], min(k, len(self)), forbidden=own))
        return _joined(parts, min(k, len(self)))

    def _queries(self, embeddings: Embeddings) -> list[F32]:
        queries = []
        for name, block in zip(self.names, self.blocks, strict=True):
            if name not in embeddings:
                raise ValueError(f"no embeddings of encoder {name}; there are {', '.join(embeddings) or 'none'}")
            query = np.ascontiguousarray(embeddings[name], dtype=np.float32)
            if query.ndim != 2 or query.shape[1] != block.shape[1]:
                raise ValueError(f"{name} gave embeddings {query.shape}, the index has (n, {block.shape[1]})")
            if not np.isfinite(query).all():
                raise ValueError(f"{name} gave embeddings that are not finite: try precision fp32")
            queries.append(query)
        return queries

    def _block(self, queries: list[F32], k: int, forbidden: Bools | None = None) -> tuple[I32, F32]:
        """(ids, squared distances) of one block of query rows."""
        table = np.repeat(self.norms[None, :], len(queries[0]), axis=0)
        for query, block, scale in zip(queries, self.blocks, self.scales, strict=True):
            table -= (2 * scale * query) @ block.T
        if forbidden is not None:
            table[forbidden] = np.inf
        own = sum(scale * _squared_norms(query) for query, scale in zip(queries, self.scales, strict=True))
        room = _ROUNDING * (np.asarray(own, dtype=np.float32) + self.norms.max())
        candidates = _candidates(table, k, room)
        squared = self._exact(queries, candidates)
        squared[~np.isfinite(np.take_along_axis(table, candidates, axis=1))] = np.inf
        order = np.lexsort((candidates, squared), axis=1)[:, :k]
        squared = np.take_along_axis(squared, order, axis=1)
        ids = np.take_along_axis(candidates, order, axis=1).astype(np.int32)
        ids[np.isinf(squared)] = -1
        return ids, squared

    def _exact(self, queries: list[F32], candidates: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> F32:
        """Scaled squared L2 of each query row to its candidates, pair by pair: (n, m) f32."""
        total = np.zeros(candidates.shape, dtype=np.float32)
        for query, block, scale in zip(queries, self.blocks, self.scales, strict=True):
            part = np.empty(candidates.shape, dtype=np.float32)
            faiss.fvec_L2sqr_by_idx(  # type: ignore[attr-defined]  # the stubs lack FAISS's free functions
                *(faiss.swig_ptr(array) for array in (part, np.ascontiguousarray(query), block, candidates)),
                block.shape[1],
                *candidates.shape,
            )
            total += np.float32(scale) * part
        return total


def pair_distance_shares(index: ReferenceIndex) -> dict[str, float]:
    """Each encoder's share, 0..1, of the mean squared distance between two reference cells, as scaled."""
    parts = {e.name: e.scale * mean_squared_distance(index.embeddings[e.name]) for e in index.encoders}
    whole = sum(parts.values())
    return {name: part / whole if whole else 0.0 for name, part in parts.items()}


def mean_squared_distance(block: F32) -> float:
    """Mean squared L2 over all ordered pairs of rows: twice the total variance. `block` is (N, d) f32."""
    mean = np.mean(block, axis=0, dtype=np.float64)
    return float(2 * (np.mean(_squared_norms(block), dtype=np.float64) - np.sum(mean * mean)))


def _squared_norms(block: F32) -> F32:
    return np.asarray(np.einsum("ij,ij->i", block, block), dtype=np.float32)


def _candidates(table: F32, k: int, room: F32) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Columns that may be among a row's k smallest, where entries may be off by `room`: (n, m) i64, m >= k."""
    kth = np.partition(table, k - 1, axis=1)[:, k - 1]
    wanted = max(k, int(np.count_nonzero(table <= (kth + 2 * room)[:, None], axis=1).max()))
    if wanted == table.shape[1]:
        return np.tile(np.arange(wanted, dtype=np.int64), (len(table), 1))
    return np.ascontiguousarray(np.argpartition(table, wanted - 1, axis=1)[:, :wanted], dtype=np.int64)


def _joined(parts: list[tuple[I32, F32]], k: int) -> Neighbours:
    if not parts:
        return Neighbours(np.zeros((0, k), dtype=np.int32), np.zeros((0, k), dtype=np.float32))
    ids, squared = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Neighbours(ids, np.sqrt(np.maximum(squared, 0)))
