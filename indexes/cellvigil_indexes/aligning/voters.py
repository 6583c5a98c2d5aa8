"""Who votes: each encoder and all together, over references that were carried to the target (section 3.4).

A call is the daemon's: every voter searches its own references (`calling.ewc`) and the weighted mean of their vote
shares decides. Pure but for the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.data import I16, I64, Bools, Embeddings, frozen_array
from cellvigil_indexes.aligning.settings import BOTH, ONE
from cellvigil_indexes.aligning.values import ALIGNED, F64, ORIGINAL, VoterPlan
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.settings import IndexSettings

FRAME_WEIGHT = 0.25
"""Of the voter that looks along the common axes, beside those that look at transported references."""

DRAWN = "drawn"
"""How the voters of drawn references end their names."""


@dataclass(frozen=True, slots=True, eq=False)
class Opinions:
    """What voters say of M cells."""

    shares: F64  # (M, classes) weighted mean of their vote shares
    best: I16  # (M,)
    agreement: F64  # (M,) weight of the voters that say `best`
    each: I16  # (voters, M) what each says


def teams(encoders: Sequence[str], voting: str) -> tuple[tuple[str, ...], ...]:
    """The encoders that look together: each alone and all, or all only."""
    everyone = tuple(encoders)
    if voting == ONE or len(everyone) == 1:
        return (everyone,)
    return (*((name,) for name in everyone), everyone)


def plans(
    vectors: Embeddings, space: str, voting: str, *, weight: float = 1.0, how: str = "", scaling: str = ""
) -> list[VoterPlan]:
    """One voter a team over these references, encoder -> (N, d_e); they weigh alike, `weight` together.

    `scaling` "": as the vectors come, and encoders that look together alike.
    """
    found = teams(list(vectors), voting)
    return [
        VoterPlan(
            ", ".join(part for part in ("+".join(team), space, how) if part),
            team,
            space,
            weight / len(found),
            scaling or ("unit" if len(team) > 1 else "none"),
            {name: frozen_array(vectors[name]) for name in team},
        )
        for team in found
    ]


def along_axes(vectors: Embeddings, *, weight: float) -> VoterPlan:
    """All encoders together, along the axes that part the classes of these references, encoder -> (N, d_e)."""
    team = tuple(vectors)
    held = {name: frozen_array(block) for name, block in vectors.items()}
    return VoterPlan(f"{'+'.join(team)}, {ALIGNED}, along axes", team, ALIGNED, weight, "discriminant", held)


def with_originals(voters: Sequence[VoterPlan], references: Embeddings, voting: str) -> list[VoterPlan]:
    """With `voting` "both": the unmapped references vote too, and weigh half of all; else the voters as they are."""
    if voting != BOTH:
        return list(voters)
    return [*halved(voters), *plans(references, ORIGINAL, voting, weight=0.5)]


def halved(voters: Sequence[VoterPlan]) -> list[VoterPlan]:
    """The same voters at half of their weights."""
    return [replace(voter, weight=voter.weight / 2) for voter in voters]


def asked(voters: Sequence[VoterPlan], labels: I16, classes: int, cells: Embeddings) -> Opinions:
    """What the voters call `cells`, encoder -> (M, d_e), by references with labels (N,)."""
    groups = np.zeros(len(labels), dtype=np.int32)
    names = tuple(str(label) for label in range(classes))
    votes, each = [], []
    for voter in voters:
        bank = Bank(names, voter.vectors, labels, groups)
        told = ewc(bank, cells, IndexSettings(scaling=voter.scaling), voter.encoders)
        votes.append(voter.weight * told.share.astype(np.float64))
        each.append(told.best)
    shares, said = np.sum(votes, axis=0), np.stack(each)
    best = np.round(shares, 6).argmax(axis=1).astype(np.int16)
    weights = np.array([voter.weight for voter in voters])
    return Opinions(shares, best, weights @ (said == best), said)


def rows_of(voters: Sequence[VoterPlan], rows: I64 | Bools) -> list[VoterPlan]:
    """The voters with these references only."""
    return [
        replace(voter, vectors={name: frozen_array(block[rows]) for name, block in voter.vectors.items()})
        for voter in voters
    ]


def pooled(parts: Sequence[Sequence[VoterPlan]], rows: Sequence[I64]) -> list[VoterPlan]:
    """The voters of several references as one: `rows[p]` says where part p's references go among all of them."""
    cells = sum(len(each) for each in rows)
    out = []
    for same in zip(*parts, strict=True):
        vectors = {}
        for name, block in same[0].vectors.items():
            whole = np.empty((cells, block.shape[1]), dtype=np.float32)
            for voter, places in zip(same, rows, strict=True):
                whole[places] = voter.vectors[name]
            vectors[name] = frozen_array(whole)
        out.append(replace(same[0], vectors=vectors))
    return out
