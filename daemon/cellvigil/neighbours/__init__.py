"""The nearest reference cells of a cell, by L2 or Canberra, exactly or by a graph. Pure but for a graph's file.

`values` what a search gives back; `exact` every reference looked at; `graph` HNSW; `voters` one exact search a voter;
`opening` which of them an index wants; `deepening` more neighbours where they are needed; `tables` whole tables of
distances; `canberra` that metric, right at zeros; `ranking` candidates and ties; `halves` half precision made single.
"""

from cellvigil.neighbours.canberra import engine
from cellvigil.neighbours.deepening import deepened, worthwhile
from cellvigil.neighbours.exact import ExactSearch
from cellvigil.neighbours.graph import GraphSearch
from cellvigil.neighbours.opening import open_search
from cellvigil.neighbours.tables import distance_table, mean_distance, pair_distance_shares
from cellvigil.neighbours.values import Neighbours, Search
from cellvigil.neighbours.voters import VotersSearch

__all__ = [
    "ExactSearch",
    "GraphSearch",
    "Neighbours",
    "Search",
    "VotersSearch",
    "deepened",
    "distance_table",
    "engine",
    "mean_distance",
    "open_search",
    "pair_distance_shares",
    "worthwhile",
]
