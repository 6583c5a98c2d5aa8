"""Whether an index gets an HNSW graph, and making one: what EWC-FAISS searches by (Frontiers in Oncology 2025, 2.3.2).

The graph stands over the leading principal components of the scaled, concatenated vectors, in half precision: a tenth
of their size, and as much faster to build and to walk. It only proposes; `cellvigil.neighbours.graph` takes the true
distances of what it proposes from the whole vectors. Cells with the very same vectors are one node: HNSW links copies
to each other only, and nothing finds its way in or out of them.

Seeded, and built on one thread: FAISS inserts from several threads in the order in which they come, so that two builds
would differ. On the same machine and libraries the same cells give the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from cellvigil.bundle.index_manifest import GRAPH, GRAPH_NODES
from cellvigil.data import F32, I32, Array
from cellvigil.errors import UsageError
from cellvigil.neighbours import ExactSearch, GraphSearch
from cellvigil_indexes.searching.components import Components, concatenated, principal_components
from cellvigil_indexes.settings import IndexSettings

PAYS_FROM = 50_000  # reference cells; below, exact search is as fast (benchmarks/README.md)
RECALL_WANTED = 0.95  # of the k_max nearest; below that, "auto" goes back to exact search
LINKS = 32  # M: links a node on the upper levels, twice as many on the lowest
EF_CONSTRUCTION = 200  # nodes that are kept in view while a new one is linked
_SEED = 0
_ROWS = 8192  # vectors at a time
_ASKED = 256  # cells whose neighbours are looked up both ways
_CODES_AT_MOST = 1024.0  # the largest component's size: far from half precision's 65,504, and from its small end

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class GraphFigures:
    """What an index's manifest says of its graph."""

    nodes: int  # different vectors
    links: int
    ef_construction: int
    components: int
    variance: float  # share of the vectors' variance that the components hold, 0..1
    recall: float  # share of the `recall_k` nearest cells that the search finds, 0..1, over a seeded sample of cells
    recall_k: int


def choose(cells: int, metric: str, wanted: str) -> tuple[str, str]:
    """("exact" or "hnsw", the reason as a sentence for `show`). Raises UsageError for a graph over Canberra."""
    if metric == "canberra":
        if wanted == "hnsw":
            raise UsageError("there is no HNSW search by Canberra distance", hint="use --search exact, or --metric l2")
        return "exact", "Canberra distance is searched exactly."
    if wanted != "auto":
        return wanted, f"{'Exact' if wanted == 'exact' else 'HNSW'} search was asked for."
    if cells < PAYS_FROM:
        return "exact", f"Below {PAYS_FROM:,} cells exact search is as fast as a graph; there are {cells:,}."
    return "hnsw", f"From {PAYS_FROM:,} cells on a graph is faster than exact search; there are {cells:,}."


def prepare(
    folder: Path, exact: ExactSearch, settings: IndexSettings, progress: Progress = lambda _done, _total: None
) -> dict[str, Any]:
    """Choose how an index is searched, and write its graph into `folder` if it gets one.

    Args:
        folder: the bundle that is being written.
        exact: search over the cells and encoders that calls will look at.
        settings: `metric`, `search` (what is wanted) and `k_max`.
        progress: told (cells in the graph, cells in all) while it grows.

    Returns:
        The manifest's `search`, `search_why` and `graph` (None, or `GraphFigures`).

    Raises UsageError as `choose` does.
    """
    kind, why = choose(len(exact), settings.metric, settings.search)
    if kind == "exact":
        return {"search": kind, "search_why": why, "graph": None}
    figures = write_graph(folder, exact, k=settings.k_max, progress=progress)
    found = f"{100 * figures.recall:.1f} % of the {figures.recall_k} nearest cells"
    if settings.search == "auto" and figures.recall < RECALL_WANTED:
        for name in (GRAPH, GRAPH_NODES):
            (folder / name).unlink()
        why = f"Exact search, though there are {len(exact):,} cells: a graph over them found only {found}."
        return {"search": "exact", "search_why": why, "graph": None}
    return {"search": kind, "search_why": f"{why} It finds {found}.", "graph": asdict(figures)}


def write_graph(
    folder: Path, exact: ExactSearch, *, k: int, progress: Progress = lambda _done, _total: None
) -> GraphFigures:
    """Build the graph of these cells and write `graph.faiss` and `graph_nodes.npy`, (N,) i32: the node of each cell.

    `k` is the depth at which its recall is measured.
    """
    nodes, firsts = _nodes(exact.blocks)
    axes = principal_components(exact.blocks, exact.scales, firsts, seed=_SEED)
    vectors = _projected(exact.blocks, firsts, axes)
    largest = float(np.abs(vectors).max(initial=0.0))
    if largest > 0:
        factor = np.float32(2.0 ** np.floor(np.log2(_CODES_AT_MOST / largest)))
        vectors *= factor
        axes = axes.times(factor)
    graph = _grown(vectors, progress)
    turn = faiss.LinearTransform(axes.matrix.shape[1], axes.matrix.shape[0], True)
    faiss.copy_array_to_vector(np.ascontiguousarray(axes.matrix).ravel(), turn.A)
    faiss.copy_array_to_vector(np.ascontiguousarray(axes.offset), turn.b)
    turn.is_trained = True
    faiss.write_index(faiss.IndexPreTransform(turn, graph), str(folder / GRAPH))
    np.save(folder / GRAPH_NODES, nodes)
    recall, at = _recall(GraphSearch.opened(folder / GRAPH, exact), exact, k)
    return GraphFigures(len(firsts), LINKS, EF_CONSTRUCTION, len(axes.matrix), axes.variance, recall, at)


def _nodes(blocks: Sequence[Array]) -> tuple[I32, I32]:
    """(node of each cell, first cell of each node). Nodes come in random order: HNSW does badly on sorted cells."""
    seen: dict[bytes, int] = {}
    cells = len(blocks[0])
    copies = np.empty(cells, dtype=np.int64)
    for cell in range(cells):
        digest = hashlib.blake2b(digest_size=16)
        for block in blocks:
            digest.update(np.ascontiguousarray(block[cell]).data)
        copies[cell] = seen.setdefault(digest.digest(), len(seen))
    _, firsts = np.unique(copies, return_index=True)
    order = np.random.default_rng(_SEED).permutation(len(seen))
    return np.argsort(order)[copies].astype(np.int32), firsts[order].astype(np.int32)


def _projected(blocks: Sequence[Array], rows: I32, axes: Components) -> F32:
    out = np.empty((len(rows), len(axes.matrix)), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        out[part] = concatenated(blocks, rows[part]) @ axes.matrix.T + axes.offset
    return out


def _grown(vectors: F32, progress: Progress) -> faiss.IndexHNSWSQ:
    half = faiss.ScalarQuantizer.QT_fp16
    graph = faiss.IndexHNSWSQ(vectors.shape[1], half, LINKS)  # type: ignore[arg-type]  # FAISS's stubs are wrong here
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    graph.train(vectors[:1])  # half precision has nothing to learn; FAISS asks for it all the same
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for start in range(0, len(vectors), _ROWS):
            graph.add(vectors[start : start + _ROWS])
            progress(min(start + _ROWS, len(vectors)), len(vectors))
    finally:
        faiss.omp_set_num_threads(threads)
    return graph


def _recall(graph: GraphSearch, exact: ExactSearch, k: int) -> tuple[float, int]:
    """Share of the k nearest cells (distances, so that copies count as each other) that the graph finds; and k."""
    cells = len(exact)
    rows = np.sort(np.random.default_rng(_SEED).choice(cells, min(cells, _ASKED), replace=False))
    queries = {name: np.asarray(b[rows], dtype=np.float32) for name, b in zip(exact.names, exact.blocks, strict=True)}
    width = min(k, cells)
    along = replace(exact, projections=())  # these cells come from the blocks, which are projected already
    found = replace(graph, exact=along).nearest(queries, width).distances
    true = along.nearest(queries, width, (width,)).distances
    # The graph's j-th nearest can only be farther than the true one; as many as are not beyond the k-th were found.
    return float(np.mean(found <= true.max(axis=1, keepdims=True) * (1 + 1e-6))), width
