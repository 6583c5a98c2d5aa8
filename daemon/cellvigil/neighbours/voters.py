"""The searches of an index's voters, behind one of them: an index that asks several is opened like any other.

How far out a cell lies is measured apart from the votes: over all encoders, in the space of the target, and never along
axes that were fitted to part the classes: they are blind to what no class differs in. (pbc and bccd, one class of four
withheld: along such axes novelty told it from the others with a mean AUROC of 0.52, so with 0.60.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import F32, Embeddings
from cellvigil.neighbours.exact import ExactSearch
from cellvigil.neighbours.tables import mean_distance
from cellvigil.neighbours.values import Neighbours


@dataclass(frozen=True, slots=True, eq=False)
class VotersSearch:
    """One exact search a voter. On its own it is the search of the heaviest voter: whose neighbours are shown."""

    deepens: ClassVar[bool] = False

    searches: tuple[ExactSearch, ...]  # in the voters' order
    first: int  # the heaviest voter, of equals the first
    whole: ExactSearch  # all encoders, each with a mean distance of 1 between references: what `far` measures in

    @classmethod
    def over(cls, index: ReferenceIndex) -> VotersSearch:
        """Search as each voter of an index does. Raises ValueError for an index without voters."""
        if not index.voters:
            raise ValueError(f"index {index.name} has no voters")
        heaviest = max(range(len(index.voters)), key=lambda number: index.voters[number].weight)
        return cls(tuple(ExactSearch.over(voter.index) for voter in index.voters), heaviest, _whole(index))

    def __len__(self) -> int:
        return len(self.searches[0])

    def nearest(self, embeddings: Embeddings, k: int, cuts: Sequence[int] = ()) -> Neighbours:
        """The k nearest as the heaviest voter sees them; see `values.Search.nearest`."""
        return self.searches[self.first].nearest(embeddings, k, cuts)

    def far(self, embeddings: Embeddings, k: int) -> F32:
        """How far out each cell lies, (n,) f32: the mean distance to its k nearest references. Raises as `nearest`."""
        return np.asarray(self.whole.nearest(embeddings, k, (min(k, len(self)),)).distances.mean(axis=1), np.float32)


def _whole(index: ReferenceIndex) -> ExactSearch:
    """The references as the heaviest voter of each encoder has them, an aligned one where there is one."""
    names = [encoder.name for encoder in index.encoders]
    blocks = []
    for name in names:
        holders = [voter for voter in index.voters if name in voter.index.embeddings]
        best = max(holders, key=lambda voter: (voter.space == "aligned", voter.weight))
        blocks.append(best.index.embeddings[name])
    spreads = [mean_distance(block) for block in blocks]
    return ExactSearch.of(names, blocks, [1 / spread if spread > 0 else 1.0 for spread in spreads])
