"""Whether a fit of states is to be trusted: by halves of the target, and by its voters. Pure. See `states`."""

from __future__ import annotations

import numpy as np

from cellvigil.data import I64, Embeddings
from cellvigil_indexes.aligning.states.fit import ASKED, Fitted, StatesSettings, of_rows
from cellvigil_indexes.aligning.values import F64
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc


def asked_cells(
    bank: Bank, fitted: Fitted, target: Embeddings, settings: StatesSettings
) -> list[tuple[Embeddings, I64 | None]]:
    """Cells to compare calls on: of the target, and made ones halfway between two carried references of a class."""
    rng = np.random.default_rng(settings.seed)
    everything = list(fitted.voters.values())[-1].bank
    first, second = [], []
    for label in range(len(bank.classes)):
        rows = np.flatnonzero(bank.labels == label)
        if len(rows) > 1:
            pairs = rng.permuted(np.tile(rows[:, None], 2), axis=0)
            pairs = pairs[pairs[:, 0] != pairs[:, 1]][:ASKED]
            first.append(pairs[:, 0])
            second.append(pairs[:, 1])
    one, two = np.concatenate(first), np.concatenate(second)
    made = {name: ((block[one] + block[two]) / 2).astype(np.float32) for name, block in everything.embeddings.items()}
    rows = np.sort(rng.permutation(len(next(iter(target.values()))))[:ASKED])
    return [(of_rows(target, rows), None), (made, bank.labels[one].astype(np.int64))]


def split_half(
    one: Fitted, two: Fitted, asked: list[tuple[Embeddings, I64 | None]], settings: StatesSettings
) -> dict[str, float]:
    """Share of cells that two fits call alike: of the target, and of made cells, every class counting the same."""
    found = {}
    for cells, labels in asked:
        same = one.votes(cells, settings.calling)[0].argmax(axis=1) == two.votes(cells, settings.calling)[0].argmax(
            axis=1
        )
        if labels is None:
            found["target"] = float(same.mean())
        else:
            found["carried"] = float(np.mean([same[labels == label].mean() for label in np.unique(labels)]))
    return found


def told_votes(fitted: Fitted, bank: Bank, cells: Embeddings, settings: StatesSettings) -> tuple[F64, float]:
    """The target's class shares as called, and the mean share of voters of both spaces that agree with the call."""
    share, each = fitted.votes(cells, settings.calling)
    before = [ewc(bank, cells, settings.calling, names).best for names in fitted.voters]
    best = share.argmax(axis=1)
    counts = np.bincount(best, minlength=share.shape[1])
    return counts / counts.sum(), float((np.stack([*each, *before]) == best).mean())


def why_not(halves: float, voters: float, settings: StatesSettings) -> list[str]:
    """What speaks against a fit, in words; nothing: it is accepted."""
    found = []
    if not halves >= settings.least_agreement:
        found.append(
            f"fits on two halves of the control cells call {halves:.0%} of the cells of a class alike, "
            f"and {settings.least_agreement:.0%} is asked for"
        )
    if not voters >= settings.least_voters:
        found.append(
            f"{voters:.0%} of the voters, aligned and not, agree on the control cells, and {settings.least_voters:.0%} "
            "is asked for: this device may change live cells as death does; label some of its cells and add them"
        )
    return found
