"""Is a fit to be trusted, asked without a label: two halves of the target fitted apart, and the voters' agreement.

Transport can hurt (table 9 of the transfer paper), and neither its cost nor the calls' entropy tells (`methods.md`). A
fit that follows the target's cells says the same whichever half of them it saw; one that follows chance does not.
Agreement is no proof: a fit can be wrong and stable. Where one class alone is seen in the target it is no sign either:
halves of one clump agree on anything. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import I64

SPLIT_HALF = 0.9
"""Of the target's cells: this share must be called alike by the fits on either half of them."""

VOTERS = 0.75
"""The weight of the voters that agree with a call, on average over the target's cells, must be this much."""

FEWEST = 20
"""Cells of a target below which nothing is fitted: there would be no halves."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a fit is accepted, and on what."""

    split_half: float  # share of the cells on which the fits on two halves agree
    voters_agreement: float
    why_not: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Nothing speaks against it."""
        return not self.why_not


def halves(cells: int, seed: int) -> tuple[I64, I64]:
    """Rows of two random halves, both sorted."""
    order = np.random.default_rng(seed).permutation(cells)
    return np.sort(order[: cells // 2]), np.sort(order[cells // 2 :])


def judged(split_half: float, voters_agreement: float, *, alone: str = "") -> Verdict:
    """The verdict on these two figures, each 0..1; `alone`: the only class that is seen in the target, if so."""
    why_not = []
    if alone:
        why_not.append(
            f"no class is seen in the target but {alone}: one clump of cells looks like that too, "
            "and its halves agree whatever it is"
        )
    if not split_half >= SPLIT_HALF:
        why_not.append(
            f"fits on two halves of the target call {split_half:.0%} of its cells alike, "
            f"and {SPLIT_HALF:.0%} are asked for: give more target cells"
        )
    if not voters_agreement >= VOTERS:
        why_not.append(f"the voters agree by {voters_agreement:.0%}, and {VOTERS:.0%} is asked for")
    return Verdict(split_half, voters_agreement, tuple(why_not))
