"""What a search gives back, and what every search can do. Pure values: no arithmetic, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cellvigil.data import F32, I32, Embeddings, frozen_array


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest reference cells of n cells.

    By distance, then by id: exactly so for the order of the first 32, and for which ids stand before every cut
    (see `Search.nearest`); between cuts, distances equal within float32 rounding may stand in either order.
    """

    ids: I32  # (n, k) i32 rows of the index; -1 where fewer were to be had (only after leaving groups out)
    distances: F32  # (n, k) f32: L2 or Canberra, in units of the (scaled) embeddings; infinite where the id is -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", frozen_array(self.ids))
        object.__setattr__(self, "distances", frozen_array(self.distances))

    def __len__(self) -> int:
        return len(self.ids)


class Search(Protocol):
    """Reference cells made ready to be searched, exactly or by a graph."""

    @property
    def deepens(self) -> bool:
        """Whether a search for more neighbours costs more.

        False (exact): fetch the deepest list once. True (a graph): fetch the first cut, then more only for the cells
        that entropy leaves open.
        """
        ...

    def __len__(self) -> int:
        """How many reference cells there are."""
        ...

    def nearest(self, embeddings: Embeddings, k: int, cuts: Sequence[int] = ()) -> Neighbours:
        """The k nearest reference cells (all, if there are fewer) of every cell.

        Args:
            embeddings: an (n, d_e) f32 block for each encoder that the search looks at; others are not read.
            k: how many, 1 or more.
            cuts: the depths, 1..k, at which the caller will cut the lists. Which ids stand before a cut does not
                depend on the batch, and is exact where the search is.

        Raises ValueError for an encoder's block that is missing, of the wrong shape, or not finite.
        """
        ...
