"""Approximate search through an HNSW graph, with true distances: for indexes too large to be searched whole.

EWC-FAISS (Frontiers in Oncology 2025, section 2.3.2) searches by HNSW (Malkov and Yashunin 2020). Here the graph
stands over the leading principal components of the vectors (`cellvigil_indexes.graphs` makes it, and says why) and
only proposes cells: their distances are taken pair by pair from the whole vectors. Reads two files of an index, both
memory-mapped; searching changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.bundle.index_manifest import GRAPH_NODES
from cellvigil.data import F32, I32, I64, Embeddings
from cellvigil.errors import BundleError
from cellvigil.neighbours.exact import ExactSearch
from cellvigil.neighbours.values import Neighbours

EF_LEAST = 128  # nodes that a search keeps in view at least: up to 64 neighbours cost no more than three
_EF_A_NEIGHBOUR = 2  # nodes kept in view for each neighbour wanted: the graph sees components, not whole vectors
_WHOLE_FROM = 4  # one neighbour in so many cells: a search that wide is exact
_REMAKE = "build the index again"
_BLOCK = 64  # query rows whose candidates are compared in one go


@dataclass(frozen=True, slots=True, eq=False)
class GraphSearch:
    """Reference cells with their graph. A cell's answer does not depend on its batch, nor on the number of threads.

    Rows for which the graph finds too few cells are searched exactly.
    """

    exact: ExactSearch  # the same cells: true distances, and what the graph cannot answer
    whole: faiss.IndexPreTransform  # as read; it owns `graph`
    graph: faiss.IndexHNSW
    matrix: F32  # (p, sum of d_e) f32: concatenated vectors -> components
    offset: F32  # (p,) f32, added to them
    cells: I32  # (N,) i32 cell ids by node, then by id
    starts: I64  # (nodes + 1,) where a node's cells begin in `cells`
    deepens: bool = field(default=True, init=False)

    @classmethod
    def over(cls, index: ReferenceIndex) -> GraphSearch:
        """The graph of an index. Raises BundleError if it cannot be read, or is not of these cells."""
        return cls.opened(index.graph_path, ExactSearch.over(index))

    @classmethod
    def opened(cls, path: Path, exact: ExactSearch) -> GraphSearch:
        """The graph in the file `path`, over the cells of `exact`. Raises BundleError as `over` does."""
        try:
            whole = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            nodes = np.load(path.with_name(GRAPH_NODES), mmap_mode="r", allow_pickle=False)
        except (RuntimeError, OSError, ValueError) as error:
            raise BundleError(f"the graph cannot be opened: {error}", where=path, hint=_REMAKE) from None
        other = BundleError("the graph is not of these cells", where=path, hint=_REMAKE)
        width = sum(block.shape[1] for block in exact.blocks)
        if not isinstance(whole, faiss.IndexPreTransform) or (whole.d, nodes.shape) != (width, (len(exact),)):
            raise other
        graph = faiss.downcast_index(whole.index)
        turn = faiss.downcast_VectorTransform(whole.chain.at(0))  # type: ignore[attr-defined]  # no list, as FAISS's stubs say
        sizes = np.bincount(nodes, minlength=graph.ntotal)
        if not isinstance(graph, faiss.IndexHNSW) or not isinstance(turn, faiss.LinearTransform):
            raise other
        if len(sizes) != graph.ntotal or not sizes.all():
            raise other
        return cls(
            exact,
            whole,
            graph,
            faiss.vector_to_array(turn.A).reshape(graph.d, width),
            faiss.vector_to_array(turn.b),
            np.argsort(nodes, kind="stable").astype(np.int32),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.exact)

    def nearest(self, embeddings: Embeddings, k: int, cuts: Sequence[int] = ()) -> Neighbours:
        """The k nearest cells that the graph finds (all, if there are fewer) of every cell; see `Search.nearest`.

        Raises ValueError for an encoder's block that is missing, of the wrong shape, or not finite.
        """
        if k * _WHOLE_FROM >= len(self):
            return self.exact.nearest(embeddings, k, cuts)
        queries = self.exact.queries(embeddings)
        ids = np.empty((len(queries[0]), k), dtype=np.int32)
        distances = np.empty(ids.shape, dtype=np.float32)
        for start in range(0, len(ids), _BLOCK):
            rows = slice(start, start + _BLOCK)
            part = [query[rows] for query in queries]
            ids[rows], distances[rows] = self._ranked(part, self._proposed(part, k), k)
        short = np.flatnonzero(ids[:, -1] < 0)
        if short.size:
            again = {name: embeddings[name][short] for name in self.exact.names}  # as they came: not yet projected
            whole = self.exact.nearest(again, k, cuts)
            ids[short], distances[short] = whole.ids, whole.distances
        return Neighbours(ids, distances)

    def _proposed(self, queries: list[F32], k: int) -> I64:
        """Cells near each query by their components, (n, ef) i64, the nearest first; -1 behind where they are fewer."""
        ef = max(_EF_A_NEIGHBOUR * k, EF_LEAST)
        # Row by row: a matrix product may round a row differently beside others.
        components = np.stack([self.matrix @ row + self.offset for row in np.hstack(queries)])
        wide = faiss.SearchParametersHNSW(efSearch=ef)  # type: ignore[attr-defined]  # FAISS's stubs lack it
        _, nodes = self.graph.search(components, ef, params=wide)
        if len(self.starts) == len(self) + 1:  # no copies: a cell a node
            return np.where(nodes < 0, -1, self.cells[nodes]).astype(np.int64)
        return np.stack([self._cells_of(row[row >= 0], ef) for row in nodes])

    def _cells_of(self, nodes: I64, count: int) -> I64:
        """The first `count` cells of these nodes, node by node; -1 behind where they are fewer."""
        sizes = np.minimum(self.starts[nodes + 1] - self.starts[nodes], count)
        ends = np.cumsum(sizes)
        places = np.arange(min(int(ends[-1]), count) if len(ends) else 0)
        which = np.searchsorted(ends, places, side="right")
        cells = self.cells[self.starts[nodes[which]] + places - (ends - sizes)[which]]
        return np.pad(cells.astype(np.int64), (0, count - len(cells)), constant_values=-1)

    def _ranked(self, queries: list[F32], candidates: I64, k: int) -> tuple[I32, F32]:
        """The k nearest candidates by true distance, then by id: ids, distances; -1 and infinite behind."""
        distances = self.exact.pairs(queries, candidates)
        order = np.lexsort((candidates, distances), axis=1)[:, :k]
        ids = np.take_along_axis(candidates, order, axis=1).astype(np.int32)
        return ids, np.take_along_axis(distances, order, axis=1)
