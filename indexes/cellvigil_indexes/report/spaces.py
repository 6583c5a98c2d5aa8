"""The vector spaces that a report compares: every encoder on its own, and the combination that calls use. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, I64

COMBINATION = "chosen combination"


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The vectors of m cells in one space."""

    name: str  # the encoder's, or COMBINATION
    vectors: F32  # (m, d), scaled as calls scale them
    blocks: tuple[tuple[str, slice], ...]  # encoder -> its columns
    chosen: bool  # calls look at this very space

    @property
    def dimension(self) -> int:
        """d, the number of columns."""
        return int(self.vectors.shape[1])


def spaces_of(index: ReferenceIndex, rows: I64) -> tuple[Space, ...]:
    """The spaces of these rows of an index: the encoders in use, then the spare ones, the combination last.

    Squared L2 over encoders with scales s_e is plain squared L2 over blocks times sqrt(s_e), so the combination is the
    concatenation of those. Canberra does not change with a block's unit: there the blocks stand as they are. Where
    calls use one encoder as it comes, that encoder is the chosen space, and there is no further one. Discriminant axes
    are a space of their own; the cells that they were fitted on lie better apart along them than new ones will.
    """
    used = [encoder.name for encoder in index.encoders]
    factor = {e.name: np.float32(e.scale**0.5 if index.metric == "l2" else 1.0) for e in index.encoders}
    blocks = {
        encoder.name: np.asarray(index.embeddings[encoder.name][rows], dtype=np.float32)
        for encoder in (*index.encoders, *index.spare_encoders)
    }
    along = {name: np.asarray(block[rows]) for name, block in index.projected.items()}
    singles = [
        Space(name, block, ((name, slice(0, block.shape[1])),), chosen=used == [name] and not along)
        for name, block in blocks.items()
    ]
    if len(used) == 1 and not along:
        return tuple(singles)
    parts = [along.get(name, blocks[name]) * factor[name] for name in used]
    ends = np.cumsum([0, *(part.shape[1] for part in parts)]).tolist()
    places = tuple((name, slice(start, end)) for name, start, end in zip(used, ends[:-1], ends[1:], strict=True))
    return (*singles, Space(COMBINATION, np.concatenate(parts, axis=1), places, chosen=True))
