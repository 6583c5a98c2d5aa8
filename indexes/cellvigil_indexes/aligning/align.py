"""All of an alignment in one call: shared classes, fit, voters, and whether to trust it; the target has no labels.

Section 3.2 (which classes are there), 3.3 (transport) and 3.4 (voting) of the transfer paper, with `methods.md`'s
corrections. Several labelled references are each fitted on its own and pooled (section 5.2). Pure but for seeded draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np

from cellvigil.data import I16, I32, I64, Bools, Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning import voters as voting
from cellvigil_indexes.aligning.choosing import FEWEST, Verdict, halves, judged
from cellvigil_indexes.aligning.foreign import NONE, Foreign, foreign
from cellvigil_indexes.aligning.settings import AUTO, METHODS, AlignSettings
from cellvigil_indexes.aligning.sharing.find import SharingSettings, shared_classes
from cellvigil_indexes.aligning.sharing.told import seen_alone
from cellvigil_indexes.aligning.types.fitting import Fitted, fitted
from cellvigil_indexes.aligning.values import Alignment, Shared, VoterPlan
from cellvigil_indexes.bank import Bank, check_same_encoders

__all__ = ["METHODS", "AlignSettings", "align"]

DEFAULTS = AlignSettings()
FEW_CELLS = 200
"""Target cells below which shares and moments are rough."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """What is fitted: kept classes alone, the target's cells but those of no class of the reference."""

    references: Embeddings
    labels: I16
    origins: I32  # one id a labelled reference data set
    classes: int
    target: Embeddings


def align(
    bank: Bank,
    target: Embeddings,
    settings: AlignSettings = DEFAULTS,
    *,
    shared: Shared | None = None,
    origins: I32 | None = None,
    further: Sequence[Embeddings] = (),
) -> Alignment:
    """Carry labelled cells to a target of which no cell is labelled.

    Args:
        bank: the reference's cells.
        target: encoder -> (M, d_e) f32 cells of the other device.
        settings: how; the default is what is shipped.
        shared: which classes the target has, where that is known; None: it is found out, if `settings.filter`.
        origins: (N,) one id a labelled reference data set, which are fitted apart; None: all are one.
        further: more unlabelled sets of such cells, for `sharing`.

    Returns:
        The alignment; `accepted` on split-half and voters' agreement, if more than one class is seen: see `choosing`.
        `told` holds both figures ("split_half", "voters_agreement"), "why_not", "warnings" and "foreign_cells":
        how many may be of a class that the reference lacks, whether or not they were made one.

    Raises UsageError for an encoder that one side lacks, fewer than 20 cells, cells that are not finite or all the
    same, or where POT is missing.
    """
    names = _check(bank, target)
    whole = {name: np.asarray(target[name], dtype=np.float32) for name in names}
    if shared is None and settings.filter:
        looked = replace(SharingSettings(), subset=settings.subset, runs=settings.runs, seed=settings.seed)
        shared = shared_classes(bank, whole, looked, others=further)
    kept = bank.classes if shared is None else shared.kept
    rows = np.flatnonzero(np.isin(np.array(bank.classes)[bank.labels], kept))
    sides = _sides(bank, whole, rows, kept, extra=NONE.rows, origins=origins)
    every = _fitted(sides, settings)
    said = _asked(sides, every, _some(sides.target, settings))
    strange = _foreign(sides, every, said, settings)
    taken = strange if settings.unmatched else NONE
    if len(taken.rows):  # fitted again without them: their places tell nothing of the device
        sides = _sides(bank, whole, rows, kept, extra=taken.rows, origins=origins)
        every = _fitted(sides, settings)
        said = _asked(sides, every, _some(sides.target, settings))
    verdict = _verdict(sides, said, settings, alone="" if shared is None else seen_alone(shared.told))
    present = every.kept
    return Alignment(
        rows=frozen_array(rows[present].astype(np.int64)),
        classes=tuple(kept),
        voters=tuple(voting.rows_of(every.voters, present)),
        shares=dict(zip(kept, every.shares.tolist(), strict=True)),
        shared=shared,
        extra={name: frozen_array(block[taken.rows]) for name, block in whole.items()},
        extra_labels=taken.names,
        accepted=verdict.accepted,
        told=_told(sides, every, verdict, settings, strange),
    )


def _check(bank: Bank, target: Embeddings) -> tuple[str, ...]:
    """The encoders, in the bank's order. Raises UsageError."""
    check_same_encoders(bank, target)
    if not len(bank):
        raise UsageError("the reference has no cells")
    sizes = {name: len(block) for name, block in target.items()}
    if len(set(sizes.values())) != 1:
        raise UsageError(f"the target's cells differ between encoders: {sizes}", hint="embed it again")
    cells = next(iter(sizes.values()))
    if cells < FEWEST:
        raise UsageError(f"{cells} target cells tell nothing of a device: {FEWEST} at least", hint="give more images")
    for name, block in target.items():
        if not np.isfinite(block).all():
            raise UsageError(f"some target cells have vectors of {name} that are not finite", hint="embed it again")
        if not np.ptp(block, axis=0).any():
            raise UsageError(f"all {cells} target cells are the same to {name}", hint="give cells of several images")
    return tuple(bank.embeddings)


def _foreign(sides: _Sides, every: Fitted, said: voting.Opinions, settings: AlignSettings) -> Foreign:
    """Target rows of clusters of no class, at most a subset's worth looked at; none but with the method "auto"."""
    if settings.method != AUTO:
        return NONE
    rows = _looked_at(sides.target, settings)
    part = np.arange(len(rows))
    if len(rows) > settings.subset:
        part = np.sort(np.random.default_rng(settings.seed).choice(len(rows), settings.subset, replace=False))
    drawn = [voter for voter in voting.rows_of(every.voters, every.kept) if voter.name.endswith(voting.DRAWN)]
    cells = {name: block[rows[part]] for name, block in sides.target.items()}
    found = foreign(cells, said.agreement[part], drawn, seed=settings.seed)
    return replace(found, rows=rows[part[found.rows]])


def _sides(
    bank: Bank, target: Embeddings, rows: I64, kept: Sequence[str], *, extra: I64, origins: I32 | None
) -> _Sides:
    ids = np.array([kept.index(name) if name in kept else -1 for name in bank.classes])
    known = np.ones(len(next(iter(target.values()))), dtype=bool)
    known[extra] = False
    if np.count_nonzero(known) < FEWEST:
        known[:] = True
    return _Sides(
        {name: np.asarray(block[rows], dtype=np.float32) for name, block in bank.embeddings.items()},
        ids[bank.labels[rows]].astype(np.int16),
        np.zeros(len(rows), dtype=np.int32) if origins is None else origins[rows],
        len(kept),
        {name: block[known] for name, block in target.items()},
    )


def _fitted(sides: _Sides, settings: AlignSettings) -> Fitted:
    """Every reference data set on its own, then pooled."""
    target = _some(sides.target, settings)
    places = [np.flatnonzero(sides.origins == origin) for origin in np.unique(sides.origins)]
    parts = [
        fitted(
            {name: block[rows] for name, block in sides.references.items()},
            sides.labels[rows], target, sides.classes, settings,
        )
        for rows in places
    ]  # fmt: skip
    if len(parts) == 1:
        return replace(parts[0], voters=_weighed(parts[0].voters, settings))
    kept = np.zeros(len(sides.labels), dtype=bool)
    for part, rows in zip(parts, places, strict=True):
        kept[rows] = part.kept
    shares = np.mean([part.shares for part in parts], axis=0)
    told = {"references": [part.told for part in parts]}
    voters = _weighed(voting.pooled([part.voters for part in parts], places), settings)
    return Fitted(voters, kept, shares, told)


def _some(target: Embeddings, settings: AlignSettings) -> Embeddings:
    """The cells that are looked at."""
    rows = _looked_at(target, settings)
    return {name: block[rows] for name, block in target.items()}


def _looked_at(target: Embeddings, settings: AlignSettings) -> I64:
    """Rows of at most as many target cells as all runs hold."""
    cells, most = len(next(iter(target.values()))), settings.subset * settings.runs
    if cells <= most:
        return np.arange(cells)
    return np.sort(np.random.default_rng(settings.seed).choice(cells, most, replace=False))


def _verdict(sides: _Sides, said: voting.Opinions, settings: AlignSettings, *, alone: str) -> Verdict:
    """Fits on two halves of the target, held against each other on all of it, of which the fit has `said`."""
    cells = _some(sides.target, settings)

    def called(rows: I64) -> I16:
        half = _fitted(replace(sides, target={name: block[rows] for name, block in cells.items()}), settings)
        return _asked(sides, half, cells).best

    # The network simplex and half of NumPy run on one core, and let go of the interpreter's lock.
    with ThreadPoolExecutor(min(2, faiss.omp_get_max_threads())) as pool:
        one, other = pool.map(called, halves(len(next(iter(cells.values()))), settings.seed))
    return judged(float(np.mean(one == other)), float(np.mean(said.agreement)), alone=alone)


def _asked(sides: _Sides, fit: Fitted, cells: Embeddings) -> voting.Opinions:
    present: Bools = fit.kept
    return voting.asked(voting.rows_of(fit.voters, present), sides.labels[present], sides.classes, cells)


def _weighed(voters: Sequence[VoterPlan], settings: AlignSettings) -> list[VoterPlan]:
    """With its encoders' weight each (of several: their mean), all summing to 1."""
    given = dict(settings.weights)
    weights = [voter.weight * float(np.mean([given.get(name, 1.0) for name in voter.encoders])) for voter in voters]
    return [replace(voter, weight=weight / sum(weights)) for voter, weight in zip(voters, weights, strict=True)]


def _told(
    sides: _Sides, every: Fitted, verdict: Verdict, settings: AlignSettings, strange: Foreign
) -> Mapping[str, Any]:
    cells = len(next(iter(sides.target.values())))
    warnings = []
    if cells < FEW_CELLS:
        warnings.append(f"{cells} target cells are few: class shares told from them are rough")
    if sides.classes < 2 and settings.method == AUTO:
        warnings.append("one class is left, and every cell will be called that: only means and spreads were carried")
    elif float(np.max(every.shares)) > 0.95:
        warnings.append("nearly all of the target seems to be of one class: a fit tells nothing of the others")
    if len(strange.rows) and not settings.unmatched:
        warnings.append(
            f"{len(strange.rows)} target cells lie in clusters that may be of no class of the reference: look at them; "
            "with `unmatched` they become a class of their own"
        )
    return {
        "method": settings.method,
        "foreign_cells": len(strange.rows),
        "split_half": verdict.split_half,
        "voters_agreement": verdict.voters_agreement,
        "why_not": list(verdict.why_not),
        "warnings": warnings,
        "target_cells": cells,
        **every.told,
    }
