"""Well profiles held against their controls, averaged by treatment, and the treatments that look alike. Pure.

"Cell-DINO" (PLOS Computational Biology 2025), Results, batch effects: sphering right after wells, before treatments.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32
from cellvigil.errors import UsageError
from cellvigil.platemap import BLANK, CONTROL
from cellvigil_indexes.profiles.aggregate import means_by
from cellvigil_indexes.profiles.nearest import nearest
from cellvigil_indexes.profiles.sphering import REGULARISATION, fit
from cellvigil_indexes.profiles.values import Near, WellProfile

_FOLDS = 10  # control wells are left out one by one, or in tenths


@dataclass(frozen=True, slots=True, eq=False)
class Sphered:
    """Well profiles that could be held against controls; row i of `vectors` is profile i's."""

    profiles: tuple[WellProfile, ...]
    encoders: tuple[str, ...]
    vectors: F32  # (n, d) all encoders side by side, each weighing the same
    unplanned: int  # profiles left out: their well is not in the plate map, or blank
    without_control: int  # profiles left out: no control well of their cell line was pictured at their time


@dataclass(frozen=True, slots=True)
class Treatment:
    """One arm at one time point."""

    arm: str
    wells: int
    effect: float  # length of its profile; a control well's is about 1, held against the other controls
    nearest: tuple[Near, ...]


def encoders_of(profiles: Sequence[WellProfile]) -> tuple[str, ...]:
    """The encoders that every profile has a vector of. Raises UsageError if there is none."""
    if not profiles:
        raise UsageError("there is no well profile", hint="keep embeddings with store.embeddings: true")
    shared = tuple(name for name in profiles[0].vectors if all(name in each.vectors for each in profiles))
    if not shared:
        raise UsageError("no encoder has embedded every well", hint="choose wells of one run")
    return shared


def plain(profiles: Sequence[WellProfile], encoders: Sequence[str]) -> F32:
    """The profiles as they are, encoders side by side, (n, d)."""
    return np.stack([np.concatenate([each.vectors[name] for name in encoders]) for each in profiles])


def sphered(profiles: Sequence[WellProfile], *, regularisation: float = REGULARISATION) -> Sphered:
    """Every profile held against the controls of its plate, time point and cell line.

    Each encoder is sphered on its own, then scaled so that a control well has a length of about 1 if the sphering is
    fitted to the other control wells. (Fitted to the well itself too, it would be shorter than any other well that got
    nothing.) Raises UsageError where there are no controls, or too few, as `sphering.fit` does.
    """
    encoders = encoders_of(profiles)
    planned = [each for each in profiles if each.plan is not None and each.plan.role != BLANK]
    controls = [each for each in planned if _is_control(each)]
    if not controls:
        what = "no control well has a profile"
        raise UsageError(what, hint="mark control wells in the plate map (--plate-map), or take --plain")
    known = {_stratum(each) for each in controls}
    kept = [each for each in planned if _stratum(each) in known]
    blocks = [_sphered_block(name, kept, controls, regularisation) for name in encoders]
    return Sphered(
        profiles=tuple(kept),
        encoders=encoders,
        vectors=np.concatenate(blocks, axis=1) / np.float32(np.sqrt(len(blocks))),
        unplanned=len(profiles) - len(planned),
        without_control=len(planned) - len(kept),
    )


def treatments(found: Sphered, timepoint: int, *, count: int = 3) -> tuple[Treatment, ...]:
    """Each arm of treated wells at one time point, the strongest first, with its `count` nearest.

    Wells of one arm are averaged over plates too.
    """
    here = [
        (each.arm, vector)
        for each, vector in zip(found.profiles, found.vectors, strict=True)
        if each.timepoint == timepoint and not _is_control(each)
    ]
    means = means_by(here)
    if not means:
        return ()
    names, vectors = list(means), np.stack(list(means.values()))
    near = nearest(names, vectors, count)
    effects = dict(zip(names, np.linalg.norm(vectors, axis=1).tolist(), strict=True))
    wells = {name: sum(arm == name for arm, _ in here) for name in names}
    ordered = sorted(names, key=lambda name: (-effects[name], name))
    return tuple(Treatment(name, wells[name], effects[name], near[name]) for name in ordered)


def _sphered_block(
    name: str, kept: Sequence[WellProfile], controls: Sequence[WellProfile], regularisation: float
) -> F32:
    """One encoder's vectors, sphered and scaled, (n, d_e)."""
    fitted = fit(_block(controls, name), _strata(controls), regularisation=regularisation)
    lengths = _held_out_lengths(name, controls, regularisation)
    typical = float(np.sqrt(np.mean(np.square(lengths)))) if lengths else float(np.sqrt(len(fitted.variances)))
    return np.asarray(fitted.of(_block(kept, name), _strata(kept)) / typical, dtype=np.float32)


def _held_out_lengths(name: str, controls: Sequence[WellProfile], regularisation: float) -> list[float]:
    """Lengths of control profiles whose well was kept out of the fit, well by well (or tenth by tenth).

    None where leaving a well out leaves too few: then a length of 1 is what a control would have at best.
    """
    wells = list(dict.fromkeys((each.series, each.well) for each in controls))
    folds = min(len(wells), _FOLDS)
    lengths: list[float] = []
    for fold in range(folds):
        away = set(wells[fold::folds])
        rest = [each for each in controls if (each.series, each.well) not in away]
        known = set(_strata(rest))
        asked = [each for each in controls if (each.series, each.well) in away and _stratum(each) in known]
        try:
            fitted = fit(_block(rest, name), _strata(rest), regularisation=regularisation) if asked else None
        except UsageError:  # too few are left
            continue
        if fitted is not None:
            lengths += np.linalg.norm(fitted.of(_block(asked, name), _strata(asked)), axis=1).tolist()
    return lengths


def _block(profiles: Sequence[WellProfile], name: str) -> F32:
    return np.stack([each.vectors[name] for each in profiles])


def _strata(profiles: Sequence[WellProfile]) -> list[Hashable]:
    return [_stratum(each) for each in profiles]


def _stratum(profile: WellProfile) -> Hashable:
    line = profile.plan.cell_line if profile.plan is not None else ""
    return (profile.series, profile.timepoint, line)


def _is_control(profile: WellProfile) -> bool:
    return profile.plan is not None and profile.plan.role == CONTROL
