"""Exact search for the nearest reference cells, over one encoder or the concatenation of several.

Pure arithmetic over an index's embeddings, which may be memory-mapped and are never copied whole. Over concatenated
encoders squared L2 and Canberra are the sums of the encoders' distances, each with its own scale. EWC-FAISS (Frontiers
in Oncology 2025, section 2.3.2) uses an approximate HNSW index; at up to about 50,000 cells exact search is as fast and
owes nothing to chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.bundle.projection import Projection
from cellvigil.data import F32, I32, I64, Embeddings
from cellvigil.neighbours import ranking, tables
from cellvigil.neighbours.canberra import canberra_table
from cellvigil.neighbours.halves import single
from cellvigil.neighbours.values import Neighbours

_QUERIES = 1024  # rows that are looked up at once
_TABLE = 16 * 2**20  # float32 a table of distances: 64 MiB
_EXACT = 8  # neighbours whose distance is taken pair by pair
_EXACT_AT_MOST = 256  # the same, where the first cut lies deeper


@dataclass(frozen=True, slots=True, eq=False)
class ExactSearch:
    """Reference cells made ready to be searched.

    L2: a matrix product finds the candidates, with room for its rounding. Pair by pair are then taken the distances of
    the first 8 (of the first cut, up to 256), of those among the first 32 whose order rounding leaves open, and of
    those that stand within rounding of a cut. So which cells stand before a cut, and the order of the first 32, do not
    depend on which cells a cell is batched with, and equal references tie exactly. Canberra is taken pair by pair
    throughout.
    """

    deepens: ClassVar[bool] = False

    names: tuple[str, ...]  # encoders
    blocks: tuple[F32, ...]  # one (N, d_e) f32 or f16 an encoder
    scales: tuple[float, ...]  # factor on each encoder's distance (L2: squared); 1 = as it comes
    metric: str  # "l2" or "canberra"
    norms: F32  # (N,) f32 scaled squared lengths; zeros for Canberra, which needs none
    projections: tuple[Projection, ...] = ()  # one an encoder, where the blocks are projected: live cells pass it too

    @classmethod
    def over(cls, index: ReferenceIndex) -> ExactSearch:
        """Search all cells of an index, each encoder scaled as its manifest says, by the index's metric."""
        names = [encoder.name for encoder in index.encoders]
        if index.projections:
            blocks = [index.projected[name] for name in names]
            return cls.of(names, blocks, [1.0] * len(names), projections=[index.projections[name] for name in names])
        return cls.of(
            names,
            [index.embeddings[name] for name in names],
            [encoder.scale for encoder in index.encoders],
            metric=index.metric,
            norms=[index.norms_of(name) for name in names],
        )

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        blocks: Sequence[F32],
        scales: Sequence[float],
        *,
        metric: str = "l2",
        norms: Sequence[F32 | None] | None = None,
        projections: Sequence[Projection] = (),
    ) -> ExactSearch:
        """Search over plain arrays.

        Args:
            names: encoders.
            blocks: (N, d_e) f32 or f16 an encoder; kept as they are, and not read if `norms` are given.
            scales: factor on each encoder's distance (L2: on the squared one), above 0.
            metric: "l2" or "canberra".
            norms: each encoder's (N,) f32 squared lengths, not scaled; None where they must be computed.
            projections: one an encoder, if the blocks are projected; cells that are asked for come as they are.

        Raises ValueError if they do not fit together, or reference cells are not finite (as far as norms tell).
        """
        given = [None] * len(names) if norms is None else list(norms)
        if not 0 < len(names) == len(blocks) == len(scales) == len(given) or len({len(each) for each in blocks}) != 1:
            raise ValueError("every encoder needs a name, a scale and a block of the same number of cells")
        if not len(blocks[0]):
            raise ValueError("there are no reference cells to search")
        if projections and [each.dimension for each in projections] != [block.shape[1] for block in blocks]:
            raise ValueError("the blocks are not what the projections give")
        if metric not in tables.METRICS:
            raise ValueError(f"metric {metric!r} is none of {', '.join(tables.METRICS)}")
        ready = tuple(_ready(block) for block in blocks)
        lengths = np.zeros(len(ready[0]), dtype=np.float32)
        if metric == "l2":
            for block, scale, known in zip(ready, scales, given, strict=True):
                lengths += np.float32(scale) * (tables.squared_norms(block) if known is None else known)
            if not np.isfinite(lengths).all():
                raise ValueError("some reference cells are not finite: build the index again")
        return cls(tuple(names), ready, tuple(scales), metric, lengths, tuple(projections))

    def __len__(self) -> int:
        return len(self.norms)

    def nearest(self, embeddings: Embeddings, k: int, cuts: Sequence[int] = ()) -> Neighbours:
        """The k nearest reference cells (all, if there are fewer) of every cell; see `values.Search.nearest`.

        Raises ValueError for an encoder's block that is missing, of the wrong shape, or not finite.
        """
        queries = self.queries(embeddings)
        parts = [
            self._found([query[start : start + _QUERIES] for query in queries], k, cuts)
            for start in range(0, len(queries[0]), _QUERIES)
        ]
        return self._joined(parts, k)

    def leaving_out(self, groups: I32, k: int, rows: I64 | None = None, cuts: Sequence[int] = ()) -> Neighbours:
        """The k nearest references of every reference outside its own group; -1 where the others are fewer.

        Args:
            groups: (N,); the cells of one image, plate or sequence share a number.
            k: how many, 1 or more.
            rows: the references to look up, (n,); default: all.
            cuts: as for `nearest`.
        """
        asked = np.arange(len(self)) if rows is None else np.asarray(rows)
        parts = []
        for start in range(0, len(asked), _QUERIES):
            own = asked[start : start + _QUERIES]
            queries = [single(block[own]) for block in self.blocks]
            parts.append(self._found(queries, k, cuts, forbidden=(groups[own], groups)))
        return self._joined(parts, k)

    def queries(self, embeddings: Embeddings) -> list[F32]:
        """The embeddings, checked, in the encoders' order: (n, d_e) f32 each. Raises ValueError as `nearest` does."""
        queries: list[F32] = []
        for place, (name, block) in enumerate(zip(self.names, self.blocks, strict=True)):
            if name not in embeddings:
                raise ValueError(f"no embeddings of encoder {name}; there are {', '.join(embeddings) or 'none'}")
            width = len(self.projections[place].mean) if self.projections else block.shape[1]
            query = np.ascontiguousarray(embeddings[name], dtype=np.float32)
            if query.ndim != 2 or query.shape[1] != width:
                raise ValueError(f"{name} gave embeddings {query.shape}, the index has (n, {width})")
            if queries and len(query) != len(queries[0]):
                raise ValueError(f"{name} gave {len(query)} embeddings, {self.names[0]} {len(queries[0])}")
            if not np.isfinite(query).all():
                raise ValueError(f"{name} gave embeddings that are not finite: try precision fp32")
            queries.append(self.projections[place].of(query) if self.projections else query)
        return queries

    def pairs(self, queries: Sequence[F32], ids: I64) -> F32:
        """Distance of each query row to its references, pair by pair: ids (n, m) i64 -> (n, m) f32; infinite where -1.

        `queries` are as `queries()` gives them. A pair's distance does not depend on what it is computed beside.
        """
        there = ids >= 0
        distances = np.full(ids.shape, np.inf, dtype=np.float32)
        distances[there] = self._exactly(queries, np.nonzero(there)[0].astype(np.int64), ids[there])
        return np.sqrt(distances) if self.metric == "l2" else distances

    def _exactly(self, queries: Sequence[F32], rows: I64, ids: I64) -> F32:
        """Scaled distance (L2: squared) of query rows[i] to reference ids[i], (m,) f32."""
        measure = tables.squared_distances if self.metric == "l2" else tables.canberra_distances
        total = np.zeros(len(rows), dtype=np.float32)
        for query, block, scale in zip(queries, self.blocks, self.scales, strict=True):
            total += np.float32(scale) * measure(query, rows, block, ids)
        return total

    def _found(
        self, queries: list[F32], k: int, cuts: Sequence[int], forbidden: tuple[I32, I32] | None = None
    ) -> tuple[F32, I32]:
        """(distances, ids) of one block of query rows, (n, k); L2 squared. `forbidden`: groups of queries and cells."""
        k = min(k, len(self))
        room, own = self._room(queries)
        kept = np.zeros((len(own), 0), dtype=np.float32), np.zeros((len(own), 0), dtype=np.int32)
        span = max(1, _TABLE // len(own))
        for start in range(0, len(self), span):
            rows = slice(start, min(start + span, len(self)))
            table = self._table(queries, rows)
            if forbidden is not None:
                table[forbidden[0][:, None] == forbidden[1][rows][None, :]] = np.inf
            entries, ids = ranking.candidates(table, np.arange(rows.start, rows.stop, dtype=np.int32), k, room)
            here = entries + own[:, None], ids
            if start:
                both = np.hstack([kept[0], here[0]]), np.hstack([kept[1], here[1]])
                here = ranking.candidates(*both, k, room)
            kept = here
        if self.metric == "l2":
            first = max(_EXACT, min(_EXACT_AT_MOST, *cuts)) if cuts else _EXACT
            kept = ranking.settled(*kept, (*cuts, k), room, first=first, exact=partial(self._exactly, queries))
        else:
            kept = ranking.ranked(*kept)
        return kept[0][:, :k], kept[1][:, :k]

    def _room(self, queries: list[F32]) -> tuple[F32, F32]:
        """How far a row's entries in the table may be off, and the queries' squared lengths: (n,), (n,)."""
        own = np.zeros(len(queries[0]), dtype=np.float32)
        if self.metric != "l2":
            return own, own
        for query, scale in zip(queries, self.scales, strict=True):
            own += np.float32(scale) * tables.squared_norms(query)
        # Rounding adds up like a random walk over the dimensions: 5 to 8 of these units at most in 200,000 pairs of
        # 64 to 5,376 dimensions, where this allows for 20 to 53.
        steps = 16 + math.sqrt(sum(block.shape[1] for block in self.blocks)) / 2
        return steps * np.finfo(np.float32).eps * (own + self.norms.max()), own

    def _table(self, queries: list[F32], rows: slice) -> F32:
        """Scaled distances to these references, (n, rows); L2: squared, less the queries' own squared lengths.

        L2 is rounded as a matrix product rounds. One buffer, filled by the first encoder's product.
        """
        table = np.empty((len(queries[0]), rows.stop - rows.start), dtype=np.float32)
        for number, (query, block, scale) in enumerate(zip(queries, self.blocks, self.scales, strict=True)):
            if self.metric == "l2" and number == 0:
                tables.fill_with_products(table, np.float32(-2 * scale) * query, block[rows])
            elif self.metric == "l2":
                tables.subtract_products(table, np.float32(2 * scale) * query, block[rows])
            elif number == 0:
                table[:] = np.float32(scale) * canberra_table(query, block[rows])
            else:
                table += np.float32(scale) * canberra_table(query, block[rows])
        return np.add(table, self.norms[None, rows], out=table)

    def _joined(self, parts: list[tuple[F32, I32]], k: int) -> Neighbours:
        nobody = np.zeros((0, min(k, len(self))), dtype=np.float32)
        entries = np.concatenate([nobody, *(part[0] for part in parts)])
        ids = np.concatenate([nobody.astype(np.int32), *(part[1] for part in parts)])
        ids[np.isinf(entries)] = -1
        return Neighbours(ids, np.sqrt(entries) if self.metric == "l2" else entries)


def _ready(block: F32) -> F32:
    """The block itself where it is f32 or f16 in C order, mapped or not; else a copy in f32."""
    if block.ndim == 2 and block.dtype in (np.float32, np.float16) and block.flags.c_contiguous:
        return np.asarray(block)
    return np.ascontiguousarray(block, dtype=np.float32)
