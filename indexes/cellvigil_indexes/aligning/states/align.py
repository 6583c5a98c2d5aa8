"""An index of cell states carried to another device from control cells alone; no class is ever dropped.

`methods.md`, "Transport", last point: the first cells of an assay are nearly all alive, so the device's shift is fitted
between the references of the classes known to be present and the target's control (or t0) cells, by an affine map, and
carried to the other classes (`shifting`). Those are then drawn in as near as control cells allow (`boundary`).

A fit is accepted on two things. Fits on two halves of the target call the same cells alike: the target's, and made
ones between carried references of every class, since of control cells, all alive, any two fits agree. And the voters
agree on the target's cells, those in the original space included: where the device makes live cells look like the
reference's dead ones, a shift fitted on live cells does not say where the dead ones are, and the two spaces part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from cellvigil.data import Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.states.boundary import mistaken
from cellvigil_indexes.aligning.states.fit import Fitted, StatesSettings, Task, fit, of_rows
from cellvigil_indexes.aligning.states.judging import asked_cells, split_half, told_votes, why_not
from cellvigil_indexes.aligning.states.shifting import KINDS
from cellvigil_indexes.aligning.values import ALIGNED, ORIGINAL, Alignment, VoterPlan
from cellvigil_indexes.bank import Bank, check_same_encoders

__all__ = ["FEWEST", "StatesSettings", "align_states"]

FEWEST = 30
"""Cells that either side must have for a shift to be fitted."""

DEFAULTS = StatesSettings()


def align_states(
    bank: Bank, target: Embeddings, present: Sequence[str], settings: StatesSettings = DEFAULTS
) -> Alignment:
    """Carry the references to the device of `target`, encoder -> (m, d_e), whose cells are of the classes `present`.

    A few percent of the target's cells may be of other classes. Every class and every reference is kept.

    Raises UsageError for classes that are not given or not in the index, for an encoder that one side lacks, for fewer
    than `FEWEST` cells on a side, and as the maps do (`domains.check_domains`).
    """
    own = _checked(bank, target, present, settings)
    cells = len(next(iter(target.values())))
    task = Task(bank, own, _limit(bank, own, settings), settings)
    fitted, trials = fit(task, target)
    halves = np.random.default_rng(settings.seed).permutation(cells)
    fixed = fitted.kinds
    one, two = (
        fit(task, of_rows(target, np.sort(rows)), fixed)[0] for rows in (halves[: cells // 2], halves[cells // 2 :])
    )
    asked = asked_cells(bank, fitted, target, settings)
    agreement = split_half(one, two, asked, settings)
    shares, voters = told_votes(fitted, bank, asked[0][0], settings)
    against = why_not(min(agreement.values()), voters, settings)
    told = {
        "mode": "states", "present": list(present), "cells": cells, "kinds": dict(fitted.kinds),
        "split_half": min(agreement.values()), "split_half_of": agreement, "voters_agreement": voters,
        "absent_limit": task.limit,
        "offsets": {"+".join(names): each.offset for names, each in fitted.voters.items()},
        "trials": {name: {**asdict(trial), "distances": dict(trial.distances)} for name, trial in trials.items()},
        "why_not": against, "warnings": [],
    }  # fmt: skip
    return Alignment(
        rows=frozen_array(np.arange(len(bank), dtype=np.int64)),
        classes=bank.classes,
        voters=_plans(fitted, settings),
        shares=dict(zip(bank.classes, shares.tolist(), strict=True)),
        shared=None,
        extra={},
        extra_labels=(),
        accepted=not against,
        told=told,
    )


def _checked(bank: Bank, target: Embeddings, present: Sequence[str], settings: StatesSettings) -> tuple[int, ...]:
    """Ids of the present classes."""
    if not present:
        raise UsageError("no class is said to be present", hint="name those of the control wells, e.g. --present live")
    if unknown := [name for name in present if name not in bank.classes]:
        what = f"{', '.join(unknown)} is no class of the index"
        raise UsageError(what, hint=f"there are: {', '.join(bank.classes)}")
    if settings.kind not in ("auto", *KINDS):
        raise UsageError(f"{settings.kind!r} is no map for states", hint=f"auto, {', '.join(KINDS)}")
    check_same_encoders(bank, target)
    own = tuple(bank.classes.index(name) for name in present)
    for what, count in (
        ("reference cells of the classes present", int(np.isin(bank.labels, own).sum())),
        ("target cells", min(len(block) for block in target.values())),
    ):
        if count < FEWEST:
            raise UsageError(f"{count} {what} say too little of a shift: {FEWEST} at least", hint="give more cells")
    return own


def _limit(bank: Bank, own: tuple[int, ...], settings: StatesSettings) -> float:
    """Share of the target's typical cells that may be called an absent class."""
    usual = mistaken(bank, own, settings.calling, seed=settings.seed)
    return settings.spontaneous + (0.0 if np.isnan(usual) else usual)


def _plans(fitted: Fitted, settings: StatesSettings) -> tuple[VoterPlan, ...]:
    """Every voter weighs the same."""
    plans = []
    for names, each in fitted.voters.items():
        space = ORIGINAL if all(fitted.kinds[name] == "none" for name in names) else ALIGNED
        vectors = {name: frozen_array(block) for name, block in each.bank.embeddings.items()}
        name = f"{'+'.join(names)}, {space}"
        plans.append(VoterPlan(name, names, space, 1.0 / len(fitted.voters), settings.calling.scaling, vectors))
    return tuple(plans)
