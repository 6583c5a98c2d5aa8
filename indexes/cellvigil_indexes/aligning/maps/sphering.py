"""Sphering: both sides whitened by their own statistics (Kessy, Lewin and Strimmer, The American Statistician 2018).

A map carries references into the target's space, where the target's cells stay as they are. Both sides whitened, and
the target's whitening undone, gives x -> W_r (x - mean) W_t^-1 + mean of the target. With their "ZCA" whitening this
is CORAL. We take "ZCA-cor", their recommendation, which keeps each whitened value as close as may be to the
standardised original: every dimension is divided by its own spread first, and the correlations are whitened. What a map
into the target's space cannot give is the whitened space's distances between its images and target cells: a voter that
searches along discriminant axes whitens anyway, within classes.
"""

from __future__ import annotations

import numpy as np

from cellvigil.data import F32, I16
from cellvigil_indexes.aligning.maps.affine import affine_of, applied, composed
from cellvigil_indexes.aligning.maps.coral import coral
from cellvigil_indexes.aligning.maps.domains import cell_masses, check_domains
from cellvigil_indexes.aligning.maps.gaussians import COMPONENTS, SHRINKAGE
from cellvigil_indexes.aligning.values import F64, Affine, Mapped


def sphering(
    references: F32,
    labels: I16,
    target: F32,
    shares: F64 | None,
    *,
    components: int = COMPONENTS,
    shrinkage: float = SHRINKAGE,
) -> Mapped:
    """References (N, d) whitened by their correlations and spreads, and un-whitened by the target's.

    With shares, the references' moments are those of cells weighted to these class shares. Dimensions in which a side
    does not vary are divided by its average spread.

    Raises UsageError for sides that cannot be mapped (`check_domains`).
    """
    check_domains(references, labels, target)
    own = standardised(references, cell_masses(labels, shares))
    theirs = standardised(target, np.full(len(target), 1.0 / len(target)))
    whitened, white_target = applied(own, references), applied(theirs, target)
    inner = coral(whitened, labels, white_target, shares, components=components, shrinkage=shrinkage)
    if inner.affine is None:
        raise ValueError("CORAL always has an affine map")
    affine = composed(composed(own, inner.affine), undone(theirs))
    return Mapped(applied(affine, references), inner.kept, affine, inner.told)


def standardised(vectors: F32, masses: F64) -> Affine:
    """Every dimension's mean set to 0 and spread to 1; one that does not vary is divided by the average spread."""
    mean = masses @ vectors
    spread = np.sqrt(masses @ np.square(vectors - mean))
    average = float(np.sqrt((spread**2).mean()))
    return affine_of(mean, 1.0 / np.where(spread > 1e-4 * average, spread, average), np.zeros_like(mean))


def undone(affine: Affine) -> Affine:
    """The inverse of a map that only stretches."""
    return affine_of(affine.after, 1.0 / affine.matrix, affine.before)
