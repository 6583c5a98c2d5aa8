"""What a weighted graph says of its nodes: degree, density, common neighbours, and the correlation made of these.

"Optimal transport for feature alignment", appendix A.1, equations 8 to 11. Pure. Boolean tables are multiplied as
float32, which counts exactly up to 16 million.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I64, Bools
from cellvigil_indexes.aligning.values import F64

U64 = npt.NDArray[np.uint64]


def weighted_degrees(weights: F64) -> F64:
    """Equation 8: the sum of the weights of each node's edges, (n, n) -> (n,)."""
    return np.asarray(weights.sum(axis=1))


def densities(adjacency: Bools, hops: int = 2) -> F64:
    """Equation 9, stretched so that the lowest is 0 and the highest 1: (n, n) bool -> (n,).

    The graph of a node is what stands within `hops` of it, itself included, with all edges between these. A node
    without edges has density 0; where all are equally dense, all are 1 if there is an edge at all, else 0.
    """
    found = plain_densities(adjacency, hops)
    low, high = float(found.min(initial=np.inf)), float(found.max(initial=0.0))
    if low >= high:
        return np.full(len(found), 1.0 if high > 0 else 0.0)
    return np.asarray((found - low) / (high - low))


def plain_densities(adjacency: Bools, hops: int = 2) -> F64:
    """Equation 9 as it stands, (n,) in 0..1."""
    near = within(adjacency, hops).astype(np.float32)
    edges = np.einsum("ij,ij->i", near @ adjacency.astype(np.float32), near, dtype=np.float64) / 2.0
    nodes = near.sum(axis=1, dtype=np.float64)
    return np.asarray(edges / np.maximum(nodes * (nodes - 1.0) / 2.0, 1.0))


def within(adjacency: Bools, hops: int) -> Bools:
    """Which nodes are at most `hops` hops from each, itself included: (n, n) bool."""
    table = adjacency.astype(np.float32)
    near = np.eye(len(adjacency), dtype=bool)
    for _ in range(hops):
        near |= (near.astype(np.float32) @ table) > 0
    return near


def jaccard(adjacency: Bools) -> F64:
    """Equation 10: common neighbours over all neighbours of two nodes, (n, n) in 0..1; 0 where neither has one."""
    table = adjacency.astype(np.float32)
    common = (table @ table).astype(np.float64)
    degrees = table.sum(axis=1, dtype=np.float64)
    either = degrees[:, None] + degrees[None, :] - common
    return np.asarray(common / np.maximum(either, 1.0))


def node_correlation(adjacency: Bools, hops: int = 2) -> F32:
    """Equation 11: C_ij = D_i D_j J_ij, (n, n) f32.

    Printed with matrix products throughout, (D D') J would have rank one, and nodes without a common neighbour would
    not come out at 0, which step 6 says they do: the last product is taken entry by entry.
    """
    dense = densities(adjacency, hops)
    return np.asarray(dense[:, None] * dense[None, :] * jaccard(adjacency), dtype=np.float32)


def packed(adjacency: Bools) -> U64:
    """Rows as bits, (n, words) u64: what `hops_from` walks along."""
    words = -(-len(adjacency) // 64)
    rows = np.zeros((len(adjacency), words * 8), dtype=np.uint8)
    bits = np.packbits(adjacency, axis=1, bitorder="little")
    rows[:, : bits.shape[1]] = bits
    return rows.view(np.uint64)


def hops_from(bits: U64, node: int, most: int) -> I64:
    """Hops from one node to every other, at most `most`: (n,), -1 where it takes more or there is no way."""
    hops = np.full(len(bits), -1, dtype=np.int64)
    hops[node] = 0
    newest = np.array([node])
    for hop in range(1, most + 1):
        reached = np.bitwise_or.reduce(bits[newest], axis=0)
        there = np.unpackbits(reached.view(np.uint8), count=len(bits), bitorder="little").astype(bool)
        newest = np.flatnonzero(there & (hops < 0))
        if not len(newest):
            break
        hops[newest] = hop
    return hops
