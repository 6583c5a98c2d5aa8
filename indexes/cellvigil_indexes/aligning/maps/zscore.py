"""Each dimension's mean and spread of the references set to the target's: the simplest shift between devices."""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16
from cellvigil_indexes.aligning.maps.affine import affine_of, applied
from cellvigil_indexes.aligning.maps.domains import cell_masses, check_domains
from cellvigil_indexes.aligning.values import F64, Affine, Mapped

_CONSTANT = 1e-4  # of the average spread: less is a dimension that does not vary


def zscore(references: F32, labels: I16, target: F32, shares: F64 | None) -> Mapped:
    """References (N, d) carried dimension by dimension: (x - mean) / std of theirs * std + mean of the target's.

    With shares, the references' moments are those of cells weighted to these class shares: else a class that is rarer
    in the target is taken for a shift. A dimension in which the references do not vary is shifted only.

    Raises UsageError for sides that cannot be mapped (`check_domains`).
    """
    check_domains(references, labels, target)
    affine = standardising(references, cell_masses(labels, shares), target)
    return Mapped(applied(affine, references), np.ones(len(references), dtype=bool), affine)


def standardising(references: F32, masses: F64, target: F32) -> Affine:
    """The map itself, for references whose cells weigh `masses` (N,), sum 1."""
    before, spread = _moments(references, masses)
    after, wanted = _moments(target, np.full(len(target), 1.0 / len(target)))
    still = spread <= _CONSTANT * float(np.sqrt((spread**2).mean()))
    stretch = np.where(still, 1.0, wanted / np.where(still, 1.0, spread))
    return affine_of(before, stretch, after)


def _moments(block: F32, masses: F64) -> tuple[F64, F64]:
    """Weighted mean and standard deviation of each dimension, both (d,)."""
    mean = masses @ block
    return mean, np.sqrt(masses @ np.square(block - mean))
