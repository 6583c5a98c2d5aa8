"""No map: references stay where they are. What every map must beat."""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16, frozen_array
from cellvigil_indexes.aligning.maps.affine import affine_of
from cellvigil_indexes.aligning.maps.domains import check_domains
from cellvigil_indexes.aligning.values import F64, Mapped


def unmoved(references: F32, labels: I16, target: F32, shares: F64 | None) -> Mapped:
    """References (N, d) as they are; shares change nothing.

    Raises UsageError for sides that no other map would take either (`check_domains`).
    """
    del shares
    check_domains(references, labels, target)
    zero = np.zeros(references.shape[1])
    same = affine_of(zero, np.ones(references.shape[1]), zero)
    return Mapped(frozen_array(np.array(references, dtype=np.float32)), np.ones(len(references), dtype=bool), same)
