"""An index carried to a target as a person asked for it: which fit is run, on which encoders, and how it scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.bundle.index import ReferenceIndex, reference_cells
from cellvigil.data import I32, Embeddings
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.align import align
from cellvigil_indexes.aligning.settings import AUTO, METHODS, AlignSettings
from cellvigil_indexes.aligning.states.align import StatesSettings, align_states
from cellvigil_indexes.aligning.states.shifting import KINDS
from cellvigil_indexes.aligning.values import Alignment
from cellvigil_indexes.bank import Bank, bank_of, check_same_encoders
from cellvigil_indexes.settings import settings_of
from cellvigil_indexes.threads import one_thread

MODES = ("types", "states")
CHOICES = {"types": METHODS, "states": (AUTO, *KINDS)}
"""What `--align` takes in each mode: one map, or the one that is chosen without labels."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a fit is to be made; None: as `AlignSettings` says."""

    mode: str = "types"
    method: str = AUTO
    present: tuple[str, ...] = ()  # states: the classes that the target's cells are of
    filters: bool = True  # types: drop the classes that the target does not have
    unmatched: bool = False  # types, auto: clusters that seem to be of no class become a class of their own
    voting: str | None = None  # types: who votes, see `AlignSettings`
    references_by: str | None = None  # types: an expression over image paths that tells labelled data sets apart
    alpha: float | None = None
    graph_k: int | None = None
    weights: tuple[tuple[str, float], ...] = ()  # types: encoder and its weight in the vote
    seed: int = 0


def carried(index: ReferenceIndex, target: Embeddings, asked: Asked, further: Sequence[Embeddings] = ()) -> Alignment:
    """Fit an alignment of the index to target cells, encoder -> (m, d_e) f32, by the encoders that calls look at.

    `further` are more unlabelled sets of the same kind of cells. Raises UsageError for an encoder that is missing on
    one side, and as `align` and `align_states` do.
    """
    bank = used_bank(index)
    for cells in (target, *further):
        check_same_encoders(bank, cells)
    with one_thread():
        if asked.mode == "states":
            calling = replace(settings_of(index.manifest), scaling="discriminant", metric="l2")
            how = StatesSettings(kind=asked.method, calling=calling, seed=asked.seed)
            return align_states(bank, target, asked.present, how)
        origins = None if asked.references_by is None else _origins(index, asked.references_by)
        return align(bank, target, settings_of_fit(asked), origins=origins, further=tuple(further))


def used_bank(index: ReferenceIndex) -> Bank:
    """The reference cells with the vectors that calls look at."""
    whole = bank_of(index)
    return replace(whole, embeddings={each.name: whole.embeddings[each.name] for each in index.encoders})


def settings_of_fit(asked: Asked) -> AlignSettings:
    """What was asked for of cell types, as the fit takes it."""
    usual = AlignSettings()
    return AlignSettings(
        method=asked.method,
        filter=asked.filters,
        unmatched=asked.unmatched,
        voting=usual.voting if asked.voting is None else asked.voting,
        alpha=asked.alpha,
        weights=asked.weights,
        graph_k=usual.graph_k if asked.graph_k is None else asked.graph_k,
        seed=asked.seed,
    )


def _origins(index: ReferenceIndex, expression: str) -> I32:
    """(N,) which labelled data set each reference cell is of: what the expression's first bracket finds in its path.

    Raises UsageError for no expression, or a cell that it does not fit.
    """
    try:
        rule = re.compile(expression)
    except re.error as error:
        raise UsageError(f"--references-by {expression!r} is no expression: {error}") from None
    found = []
    for cell in reference_cells(index):
        match = rule.search(cell.image)
        if match is None:
            raise UsageError(f"--references-by {expression!r} does not fit {cell.image}", hint="every cell needs one")
        found.append(next((part for part in match.groups() if part), match.group()))
    return np.unique(found, return_inverse=True)[1].astype(np.int32)
