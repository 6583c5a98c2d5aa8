"""One fit of an index of states to control cells: every encoder's shift, every voter's boundary. Pure. See `states`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.data import F32, I16, I64, Embeddings
from cellvigil_indexes.aligning.maps.affine import applied
from cellvigil_indexes.aligning.maps.domains import check_side
from cellvigil_indexes.aligning.states.boundary import Bounded, bounded
from cellvigil_indexes.aligning.states.shifting import Trial, best_kind, shift, typical
from cellvigil_indexes.aligning.values import F64
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.settings import IndexSettings

ASKED = 400  # target cells, and made cells a class, by which boundaries are set and halves compared


@dataclass(frozen=True, slots=True)
class StatesSettings:
    """How a shift is fitted, and when it is accepted."""

    kind: str = "auto"  # one of shifting.KINDS, or the one that does best on cells kept out
    spontaneous: float = 0.01  # share of the typical control cells that may be dying or dead all the same
    least_agreement: float = 0.9  # of fits on two halves of the target, on every class's made cells and the target's
    least_voters: float = 0.8  # mean share of the voters, of both spaces, that agree with the call
    calling: IndexSettings = IndexSettings(scaling="discriminant")  # noqa: RUF009 - a frozen value
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What every fit, of the whole target or a half, is given alike."""

    bank: Bank
    own: tuple[int, ...]  # ids of the present classes
    limit: float  # share of the target's typical cells that may be called an absent class
    settings: StatesSettings


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """One fit: its voters, each with the encoders it asks."""

    voters: Mapping[tuple[str, ...], Bounded]
    kinds: Mapping[str, str]  # encoder -> kind of map

    def votes(self, cells: Embeddings, settings: IndexSettings) -> tuple[F64, I16]:
        """(n, classes) mean vote share of all voters, and (voters, n) what each called."""
        asked = [ewc(each.bank, cells, settings) for each in self.voters.values()]
        return np.mean([called.share for called in asked], axis=0), np.stack([called.best for called in asked])


def fit(task: Task, target: Embeddings, kinds: Mapping[str, str] | None = None) -> tuple[Fitted, dict[str, Trial]]:
    """Fit every encoder's shift and every voter's boundary; `kinds` already known are not tried again."""
    bank, own, settings = task.bank, task.own, task.settings
    here = np.flatnonzero(np.isin(bank.labels, own))
    carried: dict[str, F32] = {}
    usual: list[I64] = []
    trials: dict[str, Trial] = {}
    chosen: dict[str, str] = {}
    for name, block in bank.embeddings.items():
        mine, theirs = np.asarray(block[here], dtype=np.float32), np.asarray(target[name], dtype=np.float32)
        check_side("reference", mine)
        check_side("target", theirs)
        rows, seen = typical(mine), typical(theirs)
        if kinds is None and settings.kind == "auto":
            trials[name] = best_kind(mine[rows], bank.groups[here][rows], theirs[seen], seed=settings.seed)
        chosen[name] = kinds[name] if kinds else trials[name].kind if name in trials else settings.kind
        carried[name] = applied(shift(chosen[name], mine[rows], theirs[seen]), block)
        usual.append(seen)
    moved = replace(bank, embeddings=carried)
    voters = {}
    for names in _combinations(tuple(bank.embeddings)):
        alone = replace(moved, embeddings={name: carried[name] for name in names})
        if all(chosen[name] == "none" for name in names):
            voters[names] = Bounded(alone, 1.0, float("nan"))
            continue
        rows = _common([usual[place] for place, name in enumerate(carried) if name in names], settings.seed)
        voters[names] = bounded(alone, of_rows(target, rows, names), own, settings.calling, task.limit)
    return Fitted(voters, chosen), trials


def _combinations(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Each encoder alone, and all of them together."""
    return [(name,) for name in names] + ([names] if len(names) > 1 else [])


def _common(rows: list[I64], seed: int) -> I64:
    """Target cells that every encoder finds typical, of the first one where they share none; at most `ASKED`."""
    shared = rows[0]
    for more in rows[1:]:
        shared = np.intersect1d(shared, more)
    shared = shared if len(shared) else rows[0]
    return np.sort(np.random.default_rng(seed).permutation(shared)[:ASKED])


def of_rows(cells: Embeddings, rows: I64, names: Sequence[str] = ()) -> Embeddings:
    """Some cells' vectors, a copy; of all encoders where none is named."""
    return {name: np.asarray(cells[name][rows], dtype=np.float32) for name in names or cells}
