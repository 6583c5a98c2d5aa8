"""Several labelled references carried to one target: each on its own, then pooled (section 5.2 of the paper).

Mapped together, the shift between two references would be taken for structure. Pure: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cellvigil.data import F32, I16, I64, Bools, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.values import F64, Mapped, Mapper


def mapped_each(
    mapper: Mapper, references: Sequence[tuple[F32, I16]], target: F32, shares: F64 | None
) -> tuple[Mapped, ...]:
    """Each reference's cells (N, d) with labels (N,), in class ids that all references share, through `mapper`.

    With shares, a class that one reference lacks is spread over those it has (`domains.cell_masses`).

    Raises UsageError for no references, and as the mapper does, saying which reference.
    """
    if not references:
        raise UsageError("there is no reference to map", hint="give at least one labelled index")
    out = []
    for place, (vectors, labels) in enumerate(references, 1):
        try:
            out.append(mapper(vectors, labels, target, shares))
        except UsageError as error:
            raise UsageError(error.what, where=error.where or f"reference {place}", hint=error.hint) from error
    return tuple(out)


def pooled(mapped: Sequence[Mapped], labels: Sequence[I16], *, cap: int | None = None, seed: int = 0) -> Mapped:
    """All rows below each other, in the order given; without a map for further cells unless there was one reference.

    With `cap`, at most so many kept cells a class: taken in turns from the references, at random within one, so that a
    large reference does not outvote a small one. The others stay as rows that are not kept.

    Raises UsageError for a cap below 1.
    """
    if cap is not None and cap < 1:
        raise UsageError(f"a cap of {cap} cells a class keeps none", hint="1 or more, or no cap")
    if len(mapped) == 1 and cap is None:
        return mapped[0]
    origins = np.repeat(np.arange(len(mapped)), [len(part.kept) for part in mapped])
    kept = np.concatenate([part.kept for part in mapped])
    if cap is not None:
        kept = kept & _capped(np.concatenate(labels), origins, kept, cap, np.random.default_rng(seed))
    whole = Mapped(
        frozen_array(np.concatenate([part.vectors for part in mapped])),
        frozen_array(kept),
        None,
        {"references": [dict(part.told) for part in mapped]},
    )
    return replace(whole, affine=mapped[0].affine) if len(mapped) == 1 else whole


def _capped(labels: I16, origins: I64, kept: Bools, cap: int, rng: np.random.Generator) -> Bools:
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        turns = np.full(len(labels), len(labels))
        for origin in np.unique(origins):
            rows = np.flatnonzero(kept & (labels == label) & (origins == origin))
            turns[rows] = rng.permutation(len(rows))
        rows = np.flatnonzero(kept & (labels == label))
        chosen[rows[np.argsort(turns[rows], kind="stable")][:cap]] = True
    return chosen
