"""One reference data set fitted to one target: the shipped default, and any single map beside it.

The default: class shares and common frame (`masses`, `frame`), one transport for all encoders with these shares as
masses (`coupling`), the voters' consensus on the target's cells, smoothed over their graph; a second transport that
this consensus informs, with the shares that it tells; and the classes drawn towards their surest cells (`drawing`).
Its figures were chosen on a panel and not on any one pair: `pbc` and `bccd` both ways at two crops, parts of them with
other class shares, and altered pictures of `pbc` with even and uneven shares. Nothing here sees a label of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.data import I16, Bools, Embeddings
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.aligning.maps.catalogue import MAPS, mapper_of
from cellvigil_indexes.aligning.maps.domains import cell_masses
from cellvigil_indexes.aligning.settings import AUTO, AlignSettings
from cellvigil_indexes.aligning.types.coupling import Side, transported
from cellvigil_indexes.aligning.types.coupling import joined as side_by_side
from cellvigil_indexes.aligning.types.drawing import drawn
from cellvigil_indexes.aligning.types.frame import carried, framed, standardised
from cellvigil_indexes.aligning.types.masses import class_shares
from cellvigil_indexes.aligning.values import ALIGNED, F64, ORIGINAL, VoterPlan
from cellvigil_indexes.aligning.voters import DRAWN, FRAME_WEIGHT, along_axes, asked, halved, plans, with_originals

NEIGHBOURS = 10  # of a target cell, over which the consensus is smoothed
AGAINST = 1.0  # what it costs to lay a class where nobody sees it, in usual costs between cells


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The voters over all references that were given, of which some say nothing."""

    voters: list[VoterPlan]
    kept: Bools  # (N,)
    shares: F64  # (classes,) of the target
    told: dict[str, Any]  # for a person; JSON values


def fitted(references: Embeddings, labels: I16, target: Embeddings, classes: int, settings: AlignSettings) -> Fitted:
    """Carry references, encoder -> (N, d_e), with labels (N,), to a target, encoder -> (M, d_e), by the chosen method.

    Raises UsageError for sides that cannot be mapped, saying what to do.
    """
    if settings.method != AUTO:
        return _fitted_by(references, labels, target, classes, settings)
    if len(np.unique(labels)) < 2:
        return _fitted_shift(references, labels, target, classes, settings)
    return _fitted_auto(references, labels, target, classes, settings)


def _fitted_by(
    references: Embeddings, labels: I16, target: Embeddings, classes: int, settings: AlignSettings
) -> Fitted:
    """One map, an encoder at a time, every reference weighing alike."""
    mapper = mapper_of(
        settings.method, alpha=settings.alpha, k=settings.graph_k, subset=settings.subset, seed=settings.seed
    )
    mapped = {name: mapper(np.asarray(block), labels, target[name], None) for name, block in references.items()}
    kept = np.logical_and.reduce([each.kept for each in mapped.values()])
    space = ORIGINAL if settings.method == "none" else ALIGNED
    voters = plans({name: each.vectors for name, each in mapped.items()}, space, settings.voting)
    voters = with_originals(voters, references, settings.voting) if space == ALIGNED else voters
    shares = asked(voters, labels, classes, target).shares.mean(axis=0)
    return Fitted(voters, kept, shares, {"maps": {name: dict(each.told) for name, each in mapped.items()}})


def _fitted_shift(
    references: Embeddings, labels: I16, target: Embeddings, classes: int, settings: AlignSettings
) -> Fitted:
    """One class alone: nothing parts classes, and each dimension's mean and spread is all there is to carry."""
    mapped = {
        name: MAPS["zscore"](np.asarray(block), labels, target[name], None).vectors
        for name, block in references.items()
    }
    shares = np.bincount(labels, minlength=classes) / len(labels)
    voters = with_originals(plans(mapped, ALIGNED, settings.voting), references, settings.voting)
    return Fitted(voters, np.ones(len(labels), dtype=bool), shares, {})


def _fitted_auto(
    references: Embeddings, labels: I16, target: Embeddings, classes: int, settings: AlignSettings
) -> Fitted:
    found = class_shares(references, labels, target, classes, seed=settings.seed)
    masses = cell_masses(labels, found.values)
    both = standardised(references, target, masses, list(references))
    frame = framed(both, labels)
    laid = frame.laid(masses)
    own, theirs = Side(laid, references), Side(frame.theirs, target)
    shifted = along_axes(carried(both, frame, laid), weight=FRAME_WEIGHT)
    first = transported(own, labels, masses, theirs, settings)
    voters = [shifted, *plans(first.vectors, ALIGNED, settings.voting, weight=1.0 - FRAME_WEIGHT)]
    said = asked(voters, labels, classes, target).shares
    seen = 0.5 * said + 0.5 * smoothed(said, target)
    shares = 0.5 * found.values + 0.5 * _told_shares(seen, found.values)
    again = transported(own, labels, cell_masses(labels, shares), theirs, settings, against=AGAINST * (1.0 - seen))
    nearer = standardised(references, target, cell_masses(labels, shares), list(references))
    voters = [
        *halved([shifted, *plans(again.vectors, ALIGNED, settings.voting, weight=1.0 - FRAME_WEIGHT)]),
        *halved(plans(drawn(nearer, labels, seen), ALIGNED, settings.voting, how=DRAWN, scaling="discriminant")),
    ]
    told = {"likeliest_shares": found.likeliest.tolist(), "doubt": found.doubt, "plans": [first.told, again.told]}
    return Fitted(with_originals(voters, references, settings.voting), first.kept & again.kept, shares, told)


def smoothed(shares: F64, cells: Embeddings) -> F64:
    """Each cell's shares (M, classes) averaged over its neighbours, itself among them."""
    blocks = side_by_side(cells)
    near = ExactSearch.of(("all",), [blocks], [1.0]).nearest({"all": blocks}, min(NEIGHBOURS, len(blocks)))
    return np.asarray(shares[near.ids].mean(axis=1))


def _told_shares(seen: F64, prior: F64) -> F64:
    """Class shares that calls with even class weights tell, where the classes had the shares `prior`."""
    parts = seen * prior
    return np.asarray((parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12)).mean(axis=0))
