"""All of an alignment in one call: shared classes, fit, voters, and whether to trust it; the target has no labels.

Section 3.2 (which classes are there), 3.3 (transport) and 3.4 (voting) of the transfer paper, with `methods.md`'s
corrections. Several labelled references are each fitted on its own and pooled (section 5.2). Pure but for seeded draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellvigil.data import I16, I32, I64, Bools, Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning import voters as voting
from cellvigil_indexes.aligning.choosing import FEWEST, Verdict, halves, judged
from cellvigil_indexes.aligning.settings import AUTO, METHODS, AlignSettings
from cellvigil_indexes.aligning.sharing.find import SharingSettings, shared_classes
from cellvigil_indexes.aligning.types.fitting import Fitted, fitted
from cellvigil_indexes.aligning.values import Alignment, Shared, VoterPlan
from cellvigil_indexes.bank import Bank

__all__ = ["METHODS", "AlignSettings", "align"]

DEFAULTS = AlignSettings()
FEW_CELLS = 200
"""Target cells below which shares and moments are rough."""

FEW_UNMATCHED = 10
"""Cells of an unmatched cluster below which it is no class."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """What is fitted: kept classes alone, the target's cells but those of unmatched clusters."""

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
        The alignment; `accepted` on split-half and voters' agreement, see `choosing`. `told` holds both figures
        ("split_half", "voters_agreement"), "why_not" and "warnings".

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
    extra_rows, extra_labels = _unmatched(shared, settings)
    sides = _sides(bank, whole, rows, kept, extra=extra_rows, origins=origins)
    every = _fitted(sides, settings)
    verdict = _verdict(sides, every, settings)
    present = every.kept
    return Alignment(
        rows=frozen_array(rows[present].astype(np.int64)),
        classes=tuple(kept),
        voters=tuple(_weighed(voting.rows_of(every.voters, present))),
        shares=dict(zip(kept, every.shares.tolist(), strict=True)),
        shared=shared,
        extra={name: frozen_array(block[extra_rows]) for name, block in whole.items()},
        extra_labels=extra_labels,
        accepted=verdict.accepted,
        told=_told(sides, every, verdict, settings),
    )


def _check(bank: Bank, target: Embeddings) -> tuple[str, ...]:
    """The encoders, in the bank's order. Raises UsageError."""
    if missing := sorted(set(bank.embeddings) ^ set(target)):
        side = "the target" if missing[0] in bank.embeddings else "the reference"
        raise UsageError(f"{side} has no vectors of {', '.join(missing)}", hint="embed both with the same encoders")
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


def _unmatched(shared: Shared | None, settings: AlignSettings) -> tuple[I64, tuple[str, ...]]:
    """Target rows of clusters that match no class, and the names of the classes that these become."""
    nothing = np.empty(0, dtype=np.int64)
    if shared is None or not settings.unmatched or not len(shared.unmatched):
        return nothing, ()
    clusters = shared.clusters.labels[shared.unmatched]
    ids, sizes = np.unique(clusters, return_counts=True)
    large = ids[sizes >= FEW_UNMATCHED]
    rows = shared.unmatched[np.isin(clusters, large)]
    if len(rows) > len(shared.clusters.labels) / 2:
        return nothing, ()  # what matches nothing for the most part is not a new class but a failed match
    numbers = {cluster: place for place, cluster in enumerate(large.tolist(), 1)}
    return rows, tuple(f"unmatched {numbers[cluster]}" for cluster in shared.clusters.labels[rows].tolist())


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
        return parts[0]
    kept = np.zeros(len(sides.labels), dtype=bool)
    for part, rows in zip(parts, places, strict=True):
        kept[rows] = part.kept
    shares = np.mean([part.shares for part in parts], axis=0)
    told = {"references": [part.told for part in parts]}
    return Fitted(voting.pooled([part.voters for part in parts], places), kept, shares, told)


def _some(target: Embeddings, settings: AlignSettings) -> Embeddings:
    """At most as many target cells as all runs hold."""
    cells, most = len(next(iter(target.values()))), settings.subset * settings.runs
    if cells <= most:
        return target
    rows = np.sort(np.random.default_rng(settings.seed).choice(cells, most, replace=False))
    return {name: block[rows] for name, block in target.items()}


def _verdict(sides: _Sides, every: Fitted, settings: AlignSettings) -> Verdict:
    """Fits on two halves of the target, held against each other on all of it."""
    cells = _some(sides.target, settings)
    said = _asked(sides, every, cells)
    called = []
    for rows in halves(len(next(iter(cells.values()))), settings.seed):
        half = _fitted(replace(sides, target={name: block[rows] for name, block in cells.items()}), settings)
        called.append(_asked(sides, half, cells).best)
    return judged(float(np.mean(called[0] == called[1])), float(np.mean(said.agreement)))


def _asked(sides: _Sides, fit: Fitted, cells: Embeddings) -> voting.Opinions:
    present: Bools = fit.kept
    return voting.asked(voting.rows_of(fit.voters, present), sides.labels[present], sides.classes, cells)


def _weighed(voters: Sequence[VoterPlan]) -> list[VoterPlan]:
    total = sum(voter.weight for voter in voters)
    return [replace(voter, weight=voter.weight / total) for voter in voters]


def _told(sides: _Sides, every: Fitted, verdict: Verdict, settings: AlignSettings) -> Mapping[str, Any]:
    cells = len(next(iter(sides.target.values())))
    warnings = []
    if cells < FEW_CELLS:
        warnings.append(f"{cells} target cells are few: class shares told from them are rough")
    if sides.classes < 2 and settings.method == AUTO:
        warnings.append("one class is left, and every cell will be called that: only means and spreads were carried")
    elif float(np.max(every.shares)) > 0.95:
        warnings.append("nearly all of the target seems to be of one class: a fit tells nothing of the others")
    return {
        "method": settings.method,
        "split_half": verdict.split_half,
        "voters_agreement": verdict.voters_agreement,
        "why_not": list(verdict.why_not),
        "warnings": warnings,
        "target_cells": cells,
        **every.told,
    }
