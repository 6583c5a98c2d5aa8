"""Which cells of a large index are looked at: a seeded sample that keeps every class. Pure."""

from __future__ import annotations

import numpy as np

from cellvigil.data import I16, I64

KEPT_A_CLASS = 200
"""Cells of a rare class that a sample keeps (all, where it has fewer), so that its p-values can be small."""

ASKED_AT_MOST = 5_000
"""Reference cells that are looked up among the others; the rest of a larger index is not asked."""


def sampled(labels: I16, at_most: int, seed: int = 0) -> I64:
    """Rows of about `at_most` cells, ascending; all rows where there are no more.

    Every class keeps its share, and no fewer than `KEPT_A_CLASS` cells; many rare classes may so exceed `at_most`.
    `labels` is (n,) class ids; returns (m,) i64.
    """
    if len(labels) <= at_most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    share = at_most / len(labels)
    parts = []
    for class_id in np.unique(labels):
        members = np.flatnonzero(labels == class_id)
        wanted = max(round(share * len(members)), min(KEPT_A_CLASS, len(members)))
        parts.append(rng.choice(members, wanted, replace=False))
    return np.sort(np.concatenate(parts)).astype(np.int64)
