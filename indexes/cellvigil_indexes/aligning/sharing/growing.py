"""Central nodes of clusters, grown one by one: the twelve steps.

"Optimal transport for feature alignment", appendix A.1, equations 12 to 16. As `methods.md` reads them: condition 15
takes the distances to the last central node, condition 16 the mean over the whole set, and its standard deviation is
the population's. Where nodes tie, the paper draws lots; here the lower row goes first. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I64, Bools
from cellvigil_indexes.aligning.sharing.correlation import U64, hops_from
from cellvigil_indexes.aligning.values import F64

FIRST_HOPS, LAST_HOPS = 2, 7  # how far the next central node is sought (steps 3 and 4)
_LEFT = 0.01  # share of nodes that may stay unplaced (step 12)
_WEAK = 0.01  # weighted degree, as it was at first, below which a node starts no cluster (step 12)
_NOTHING = 1e-5  # weighted degree, before it is stretched again, that counts as none (step 12)
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """What the steps look at, of n nodes."""

    similarity: F64  # (n, n) W of equation 6
    degrees: F64  # (n,) equation 8
    correlation: F32  # (n, n) equation 11
    bits: U64  # the adjacency, as `correlation.packed` gives it


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """One cluster's central nodes and what stands about them."""

    central: I64  # rows, in the order they were found
    around: Bools  # (n,) N_(c): correlated neighbours of the central nodes, which start no other cluster


def grow(structure: Structure, *, least_central: int = 10, jump: float = 2.5) -> tuple[Grown, ...]:
    """All clusters, in the order they are found; also those that end before they have `least_central` central nodes.

    Args:
        structure: the graph.
        least_central: from how many central nodes on a node is tested before it is added (step 7).
        jump: standard deviations of condition 16.
    """
    degrees = np.array(structure.degrees, dtype=np.float64)
    placed = np.zeros(len(degrees), dtype=bool)
    found = []
    while not _finished(structure.degrees, degrees, placed):
        degrees /= degrees.max()  # step 10
        one = _grown(structure, degrees, least_central, jump)
        degrees[one.around] = 0.0  # step 9
        placed[one.central] = True
        placed |= one.around
        found.append(one)
    return tuple(found)


def next_central(structure: Structure, last: int, degrees: F64) -> int | None:
    """Steps 3 and 4: the node with the largest degree among the last central node's nearer half; None: there is none.

    `degrees` are 0 for what is taken. 2 hops are looked at first, then up to 7.
    """
    for most in (FIRST_HOPS, LAST_HOPS):
        hops = hops_from(structure.bits, last, most)
        for limit in range(FIRST_HOPS if most == FIRST_HOPS else FIRST_HOPS + 1, most + 1):
            near = np.flatnonzero((hops >= 0) & (hops <= limit))
            candidates = near[nearer_than_mean(structure.similarity[last, near])]
            if len(candidates) and degrees[candidates].max() > 0:
                return int(candidates[degrees[candidates].argmax()])
    return None


def nearer_than_mean(similarity: F64) -> Bools:
    """Condition 15 takes away what lies at the mean of a neighbourhood or beyond; what stays, (m,) bool.

    The neighbourhood includes the central node itself, at 0.
    """
    return np.asarray(similarity < similarity.mean())


def belongs(mean_similarity: float, earlier: Sequence[float], jump: float = 2.5) -> bool:
    """Condition 16: whether a node's mean W to a cluster (equation 13) is no jump beyond `earlier` (equation 14)."""
    before = np.asarray(earlier, dtype=np.float64)
    return bool(mean_similarity - before.mean() <= jump * before.std() + _ROUNDING)


def _grown(structure: Structure, degrees: F64, least_central: int, jump: float) -> Grown:
    """One cluster, from the node with the largest degree on; central nodes' degrees are set to 0 in `degrees`."""
    last = int(degrees.argmax())
    central, earlier = [last], list[float]()
    degrees[last] = 0.0
    total = structure.similarity[last].copy()  # W summed over the central nodes
    correlated = structure.correlation[last] > 0  # none is negative: a mean (equation 12) is above 0 where any is
    around = np.zeros(len(degrees), dtype=bool)
    while (node := next_central(structure, last, degrees)) is not None:
        mean = float(total[node]) / len(central)
        if len(central) >= max(least_central, 2) and not belongs(mean, earlier, jump):
            break
        central.append(node)
        earlier.append(mean)
        degrees[node] = 0.0
        total += structure.similarity[node]
        correlated |= structure.correlation[node] > 0
        around |= correlated & (hops_from(structure.bits, last, 1) == 1)  # step 6
        last = node
    around |= correlated & (hops_from(structure.bits, last, 1) == 1)
    return Grown(np.asarray(central, dtype=np.int64), around)


def _finished(first: F64, degrees: F64, placed: Bools) -> bool:
    """Step 12, before any cluster too: `first` are the degrees before they were ever stretched."""
    left = ~placed
    return bool(left.mean() < _LEFT or first[left].max(initial=0.0) < _WEAK or degrees.max(initial=0.0) < _NOTHING)
