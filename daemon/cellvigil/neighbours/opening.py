"""The search that an index was built for."""

from __future__ import annotations

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.neighbours.exact import ExactSearch
from cellvigil.neighbours.graph import GraphSearch
from cellvigil.neighbours.values import Search
from cellvigil.neighbours.voters import VotersSearch


def open_search(index: ReferenceIndex) -> Search:
    """Exact search or the index's graph, as its manifest says; one exact search a voter, where it has voters.

    Raises BundleError for a graph that cannot be read or is of other cells.
    """
    if index.voters:
        return VotersSearch.over(index)
    return GraphSearch.over(index) if index.search == "hnsw" else ExactSearch.over(index)
