"""How far the classes that no control well shows may stand off from those it shows, after a shift was carried to them.

A carried class has never been seen on the target: its references lie beside the target's own cells, so that nearly
every cell is nearest to references of the classes present, and hardly a death is called (`benchmarks/align_guards.py`
prints what a plain carried shift loses). What is known is how often a cell of a control well may be called dead: about
as often as a reference of its class is by references of other images, and a few percent that truly die. So the absent
classes are drawn towards the present ones, each as a whole, as near as that allows. Not in the papers. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.data import F32, I16, Embeddings
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.settings import IndexSettings

OFFSETS = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Shares of its carried offset that an absent class may keep, the largest first."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """References whose absent classes are as near to the present ones as the control cells allow."""

    bank: Bank
    offset: float  # one of OFFSETS
    called_absent: float  # share of the target's typical cells that is called one of the absent classes


def drawn_in(vectors: F32, labels: I16, present: Sequence[int], offset: float) -> F32:
    """References (n, d) whose absent classes keep only a share of their offset from the present classes' middle.

    A class is moved as a whole: how its cells vary stays.
    """
    out = np.array(vectors, dtype=np.float32)
    middle = np.mean([vectors[labels == c].mean(axis=0) for c in present if (labels == c).any()], axis=0)
    for absent in set(np.unique(labels).tolist()) - set(present):
        rows = labels == absent
        out[rows] += np.float32(1.0 - offset) * (middle - vectors[rows].mean(axis=0))
    return out


def bounded(bank: Bank, target: Embeddings, present: Sequence[int], settings: IndexSettings, limit: float) -> Bounded:
    """Draw the absent classes in while at most `limit` of the target's typical cells are called one of them.

    Where even the full offset is too near, it stays: nothing is pushed away.
    """
    best: Bounded | None = None
    for offset in OFFSETS:
        blocks = {name: drawn_in(block, bank.labels, present, offset) for name, block in bank.embeddings.items()}
        tried = replace(bank, embeddings=blocks)
        absent = float((~np.isin(ewc(tried, target, settings).best, present)).mean())
        if best is not None and absent > limit:
            break
        best = Bounded(tried, offset, absent)
        if absent > limit:
            break
    if best is None:
        raise ValueError("there is no offset to try")
    return best


def mistaken(bank: Bank, present: Sequence[int], settings: IndexSettings, *, seed: int = 0) -> float:
    """Share of the present classes' references that the other half of the images calls an absent class.

    NaN where there are fewer than four groups, or a half lacks a class.
    """
    groups = np.unique(bank.groups)
    chosen = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
    first = np.isin(bank.groups, chosen)
    wrong, asked = 0, 0
    for half in (first, ~first):
        reference, own = bank.rows(np.flatnonzero(half)), np.flatnonzero(~half & np.isin(bank.labels, present))
        if len(groups) < 4 or (reference.class_counts[np.unique(bank.labels)] < 2).any() or not len(own):
            return float("nan")
        called = ewc(reference, {name: block[own] for name, block in bank.embeddings.items()}, settings).best
        wrong, asked = wrong + int((~np.isin(called, present)).sum()), asked + len(own)
    return wrong / asked
