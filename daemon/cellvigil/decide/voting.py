"""What several voters called a cell, made into one call: weighted vote shares, and how far the voters agree. Pure.

The optimal-transport paper, section 3.4: classifiers on mapped and on unmapped embeddings, one an encoder and
combination, each with a weight, vote together. The paper counts labels; here every voter gives the shares that its
neighbours gave (EWC-FAISS, equation 2), so that a voter in doubt says so. Every step is elementwise and in the voters'
order: a cell's call does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellvigil.bundle.index import ReferenceIndex, Voter
from cellvigil.data import F32, I16, Array, Bools, Calls
from cellvigil.decide import certainty
from cellvigil.decide.call import Rejection, reasons

F64 = npt.NDArray[np.float64]

_DECIMALS = 6
"""Of a weighted share, when shares are compared: they come in single precision, and 0.1 + 0.2 is to tie with 0.3."""

EXPERT_BELOW = 2 / 3
"""A call on which less than this weight of the voters agrees is one for an expert: a third of them says otherwise."""


def combine(
    opinions: Sequence[Calls], scores: F32, index: ReferenceIndex, *, rejection: Rejection | None = None
) -> Calls:
    """One call a cell from what each of the index's voters called it.

    Args:
        opinions: the n cells' calls by each voter, in the index's order.
        scores: (n,) how far out they lie: `neighbours.VotersSearch.far`.
        index: with voters; its novelty, calibration and classes.
        rejection: what makes a cell unknown.

    Returns:
        Calls. `vote_share` is the voters' weighted mean; the best class has the largest to six decimals, the lower id
        of two alike. `agreement` is the weight of the voters whose own best class that is. `entropy`, `k` and
        `neighbours` are those of the heaviest voter that agrees (of equals the first; the heaviest of all where none
        does): they belong together, and are why. `novelty_p` is the p-value of belonging to the best class. There
        is no probability, and every set holds every class.

    Raises ValueError if there are not as many opinions as voters.
    """
    voters = index.voters
    if not len(voters) == len(opinions) > 0:
        raise ValueError(f"{len(voters)} voters cannot have {len(opinions)} opinions")
    share = np.zeros((len(opinions[0]), len(index.classes)))
    for voter, calls in zip(voters, opinions, strict=True):
        share += voter.weight * calls.vote_share.astype(np.float64)
    best = np.round(share, _DECIMALS).argmax(axis=1).astype(np.int16)
    agreeing = _agreeing(opinions, best)
    speaker = speakers(opinions, best, voters)
    novelty = certainty.novelty_p(scores, best, index.novelty, index.novelty_classes)
    probabilities = np.full(share.shape, np.nan, dtype=np.float32)
    why = reasons(index, rejection or Rejection(), novelty, best, probabilities)
    return Calls(
        best_ids=best,
        unknown=np.array([bool(reason) for reason in why], dtype=bool),
        unknown_reason=why,
        probabilities=probabilities,
        conformal_set=np.ones(share.shape, dtype=bool),
        vote_share=share.astype(np.float32),
        entropy=_spoken([calls.entropy for calls in opinions], speaker),
        k=_spoken([calls.k for calls in opinions], speaker),
        novelty_p=novelty,
        agreement=_agreement(agreeing, voters),
        neighbours=_spoken([calls.neighbours for calls in opinions], speaker),
        bundle_sha256=index.sha256,
        voters=len(voters),
    )


def for_expert(agreement: F32, unknown: Bools) -> Bools:
    """Which calls an expert should see, (n,): the voters disagree (`EXPERT_BELOW`), or the cell is unknown."""
    return np.asarray((agreement < EXPERT_BELOW - 1e-6) | unknown)


def speakers(opinions: Sequence[Calls], best: I16, voters: Sequence[Voter]) -> I16:
    """Whose neighbours say why each cell is called `best`, (n,) voter numbers.

    The heaviest voter that agrees; where none does, the heaviest of all; of equals the first.
    """
    weights, agreeing = np.array([voter.weight for voter in voters]), _agreeing(opinions, best)
    heard = np.where(agreeing.any(axis=1, keepdims=True), agreeing * weights, weights)
    return np.asarray(heard.argmax(axis=1), dtype=np.int16)


def _agreeing(opinions: Sequence[Calls], best: I16) -> Bools:
    """Which voters' own best class it is, (n, voters)."""
    return np.column_stack([calls.best_ids == best for calls in opinions])


def _agreement(agreeing: Bools, voters: Sequence[Voter]) -> F32:
    """The weight of those that agree, (n,) f32; exactly 1 where all do."""
    out = np.zeros(len(agreeing))
    for column, voter in enumerate(voters):
        out += voter.weight * agreeing[:, column]
    return np.where(agreeing.all(axis=1), 1.0, np.minimum(out, 1.0)).astype(np.float32)


def _spoken(columns: Sequence[Array], speaker: I16) -> Array:
    """What each cell's speaker says: V arrays (n, ...) -> (n, ...)."""
    return np.asarray(np.stack(columns)[speaker, np.arange(len(speaker))])
