"""CORAL: the references whitened, then coloured as the target is (Sun, Feng and Saenko, AAAI 2016, algorithm 1)."""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16
from cellvigil_indexes.aligning.maps.affine import applied
from cellvigil_indexes.aligning.maps.domains import cell_masses, check_domains
from cellvigil_indexes.aligning.maps.gaussians import COMPONENTS, SHRINKAGE, Gaussians, carrying, gaussians, powered
from cellvigil_indexes.aligning.values import F64, Affine, Mapped


def coral(
    references: F32,
    labels: I16,
    target: F32,
    shares: F64 | None,
    *,
    components: int = COMPONENTS,
    shrinkage: float = SHRINKAGE,
) -> Mapped:
    """References (N, d) with the target's mean and covariance: x -> (x - mean) S_r^-1/2 S_t^1/2 + mean of the target.

    Our departures from the paper: means are matched too (they assume centred features), covariances are shrunk and
    taken along joint principal components (see `gaussians`) where they add the identity, and with shares the
    references' moments are those of cells weighted to these class shares.

    Raises UsageError for sides that cannot be mapped (`check_domains`).
    """
    check_domains(references, labels, target)
    masses = cell_masses(labels, shares)
    both = gaussians(references, masses, target, components=components, shrinkage=shrinkage)
    affine = colouring(both)
    told = {"components": both.axes.shape[1], "shrinkage": shrinkage}
    return Mapped(applied(affine, references), np.ones(len(references), dtype=bool), affine, told)


def colouring(both: Gaussians) -> Affine:
    """The map itself."""
    return carrying(both, powered(both.source, -0.5) @ powered(both.target, 0.5))
