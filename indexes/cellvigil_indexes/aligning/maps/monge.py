"""The linear Monge map: the optimal transport between two Gaussians (Flamary, Lounici, Ferrari 2019, equation 3)."""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16
from cellvigil_indexes.aligning.maps.affine import applied
from cellvigil_indexes.aligning.maps.domains import cell_masses, check_domains
from cellvigil_indexes.aligning.maps.gaussians import COMPONENTS, SHRINKAGE, carrying, gaussians, powered
from cellvigil_indexes.aligning.values import F64, Mapped


def monge(
    references: F32,
    labels: I16,
    target: F32,
    shares: F64 | None,
    *,
    components: int = COMPONENTS,
    shrinkage: float = SHRINKAGE,
) -> Mapped:
    """References (N, d) moved the shortest way to the target's mean and covariance.

    x -> (x - mean) A + mean of the target, A = S_r^-1/2 (S_r^1/2 S_t S_r^1/2)^1/2 S_r^-1/2, symmetric and positive.
    Own formula, not POT's `ot.gaussian`: covariances are shrunk along joint principal components (see `gaussians`).
    With shares, the references' moments are those of cells weighted to these class shares.

    Raises UsageError for sides that cannot be mapped (`check_domains`).
    """
    check_domains(references, labels, target)
    masses = cell_masses(labels, shares)
    both = gaussians(references, masses, target, components=components, shrinkage=shrinkage)
    root, back = powered(both.source, 0.5), powered(both.source, -0.5)
    affine = carrying(both, back @ powered(root @ both.target @ root, 0.5) @ back)
    told = {"components": both.axes.shape[1], "shrinkage": shrinkage}
    return Mapped(applied(affine, references), np.ones(len(references), dtype=bool), affine, told)
