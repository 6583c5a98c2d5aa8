"""Labels of some cells carried to the others by EWC: a nearest-neighbour search and its class-weighted vote.

"Optimal transport for feature alignment", appendix A.1, below step 12. Pure.
"""

from __future__ import annotations

import numpy as np

from cellvigil import decide
from cellvigil.data import F32, I32
from cellvigil.neighbours import ExactSearch

UNLABELLED = -1


def propagated(vectors: F32, labels: I32, depth: decide.Settings) -> I32:
    """Every cell's label, (n,): those of `labels` that are no -1 stay, the others are called by them.

    Args:
        vectors: (n, d) f32.
        labels: (n,) ids from 0 up, -1 where there is none. At least one cell has one.
        depth: how deep EWC looks and when it stops.
    """
    given = np.flatnonzero(labels != UNLABELLED)
    asked = np.flatnonzero(labels == UNLABELLED)
    out = labels.astype(np.int32)
    if not len(asked):
        return out
    search = ExactSearch.of(["cells"], [np.ascontiguousarray(vectors[given], dtype=np.float32)], [1.0])
    near = search.nearest({"cells": np.asarray(vectors[asked], dtype=np.float32)}, depth.k_max)
    known = labels[given].astype(np.int16)
    found = decide.labels_of(near.ids, known)
    classes = int(known.max()) + 1
    sizes = np.bincount(known, minlength=classes) if depth.reweight else np.ones(classes)
    out[asked] = decide.vote(decide.stop(found, classes, depth), found, near.distances, sizes.astype(np.int64))
    return out
