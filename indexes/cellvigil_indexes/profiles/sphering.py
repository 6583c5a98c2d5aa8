"""Sphering: vectors turned and stretched so that untreated wells vary alike in every direction.

What differs between control wells is no effect of a treatment: it is where they stand, when they were pictured, and on
which plate. "Cell-DINO" (PLOS Computational Biology 2025; Results, batch effects, and Table 4) spheres "right after
per-well data aggregation, and before treatment-level aggregation", by the transform of its reference 32 (Moshkov et
al., "Learning representations for image-based profiling of perturbations", Nature Communications 2024):
W = V (L + a I)^(-1/2) V', with V L V' the covariance of the control wells.

Ours beside that: a is given as a share of the median variance along the directions that the controls span, so that it
means the same for every encoder (the mean is the few largest, which are what is to be flattened: on made wells of
steep spectra a tenth of it leaves half as many treatments beside their like as a tenth of the median); and controls
are centred within their own plate and time point (`strata`), so that neither a plate nor the passing of time is taken
for an effect. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.values import F64

REGULARISATION = 0.1  # of the median variance along the controls' own directions
_NEGLIGIBLE = 1e-10  # of the largest variance: rounding, not a direction


@dataclass(frozen=True, slots=True, eq=False)
class Sphering:
    """A fitted transform of (d,) vectors."""

    centres: Mapping[Hashable, F64]  # stratum -> (d,) mean of its controls
    directions: F64  # (d, r) orthonormal: those that the controls differ along
    variances: F64  # (r,) along them, descending
    floor: float  # a: added to every variance, and the variance of directions in which no two controls differ

    def of(self, vectors: F32, strata: Sequence[Hashable]) -> F32:
        """(n, d) vectors, each of the stratum beside it -> (n, d) f32. Raises KeyError for a stratum without controls.

        Without forming the (d, d) matrix: along r directions by (variance + a)^(-1/2), along all others by a^(-1/2).
        """
        centred = np.asarray(vectors, dtype=np.float64) - np.stack([self.centres[stratum] for stratum in strata])
        along = centred @ self.directions
        rest = self.floor**-0.5
        stretched = along * ((self.variances + self.floor) ** -0.5 - rest)
        return np.asarray(rest * centred + stretched @ self.directions.T, dtype=np.float32)


def fit(controls: F32, strata: Sequence[Hashable], *, regularisation: float = REGULARISATION) -> Sphering:
    """Fit to control wells.

    Args:
        controls: (n, d), one row a control well and time point.
        strata: what each is centred within, (n,): its plate and time point, say.
        regularisation: above 0; the more, the nearer to mere centring.

    Raises UsageError where no stratum has two controls that differ, or the regularisation is not above 0.
    """
    if not regularisation > 0:
        raise UsageError(f"regularisation {regularisation} must be above 0", hint="0.1 is usual")
    centres = {each: _centre(controls, strata, each) for each in dict.fromkeys(strata)}
    freedom = len(controls) - len(centres)
    few = "two control wells or more, pictured at the same time, are needed for sphering"
    if freedom < 1:
        raise UsageError(few, hint="name more control wells in the plate map, or take --plain")
    residuals = np.asarray(controls, dtype=np.float64) - np.stack([centres[each] for each in strata])
    _, lengths, turned = np.linalg.svd(residuals, full_matrices=False)
    variances = lengths**2 / freedom
    kept = variances > _NEGLIGIBLE * variances.max(initial=0.0)
    if not kept.any():
        raise UsageError("the control wells are all alike: there is nothing to sphere by", hint="take --plain")
    variances = variances[kept]
    return Sphering(centres, turned[kept].T, variances, regularisation * float(np.median(variances)))


def _centre(controls: F32, strata: Sequence[Hashable], stratum: Hashable) -> F64:
    mine = np.array([each == stratum for each in strata])
    return np.asarray(controls[mine].mean(axis=0, dtype=np.float64))
