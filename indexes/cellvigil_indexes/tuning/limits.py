"""What a search can take on, and what a person must be told of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellvigil.data import I64
from cellvigil.errors import UsageError
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import Split
from cellvigil_indexes.tuning.grid import Grid

_ROWS = 65_536  # that are looked at in one go


def check_bank(bank: Bank) -> None:
    """Raises UsageError for cells that are all of one class, for no encoder, and for vectors that are not finite."""
    there = np.flatnonzero(bank.class_counts)
    if len(there) < 2:
        only = f"class {bank.classes[there[0]]}" if len(there) else "no class"
        raise UsageError(f"the cells are all of {only}: there is nothing to choose by", hint="two classes or more")
    if not bank.embeddings:
        raise UsageError("there are no encoders to choose from")
    for name, block in bank.embeddings.items():
        for start in range(0, len(block), _ROWS):
            bad = np.flatnonzero(~np.isfinite(block[start : start + _ROWS]).all(axis=1))
            if bad.size:
                first = start + int(bad[0])
                what = f"encoder {name} has vectors that are not finite, first that of cell {first}"
                raise UsageError(what, hint="leave the encoder out, or export it in fp32 and build again")


def fitting(bank: Bank, split: Split, room: int) -> Split:
    """The split, with no more validation cells than tables of all encoders have room for: of each class its share.

    The cells are drawn with a fixed seed. Raises UsageError for a split with nothing to ask or nobody to answer, or
    without room for a cell of each class.
    """
    if not len(split.validation) or not len(split.reference):
        raise UsageError("a split has no validation cells, or no reference cells")
    most = room // (4 * len(bank.embeddings) * len(split.reference))
    if len(split.validation) <= most:
        return split
    labels = bank.labels[split.validation]
    if most < len(np.unique(labels)):
        raise UsageError(f"the distances of {len(split.reference)} cells do not fit in {room} bytes", hint="more room")
    rng = np.random.default_rng(0)
    kept: list[I64] = []
    for class_id in np.unique(labels):
        rows = split.validation[labels == class_id]
        kept.append(rng.permutation(rows)[: max(1, len(rows) * most // len(labels))])
    return Split(split.reference, np.sort(np.concatenate(kept)))


def edges(grid: Grid, chosen: IndexSettings) -> list[str]:
    """Chosen values at the end of a list of three or more, beyond which better ones may lie, in words."""
    found = []
    for name, ends in (("k_min", (2, None)), ("k_max", (None, None)), ("threshold", (0.0, 1.0))):
        listed, value = getattr(grid, name), getattr(chosen, name)
        at_end = value in (min(listed), max(listed)) and value not in ends
        if len(listed) > 2 and at_end:
            side = "smallest" if value == min(listed) else "largest"
            found.append(f"{name} {value:g} is the {side} that was tried: try beyond it")
    return found


def notes_on(bank: Bank, grid: Grid, asked: Sequence[Split], kept: Sequence[Split]) -> list[str]:
    """What was cut down, and what is thin, in words."""
    found = []
    references = min(len(split.reference) for split in kept)
    if deep := [k for k in sorted({*grid.k_min, *grid.k_max}) if k > references]:
        found.append(
            f"k of {', '.join(map(str, deep))} is above the {references} reference cells: all of them were asked"
        )
    before, after = sum(len(split.validation) for split in asked), sum(len(split.validation) for split in kept)
    if after < before:
        found.append(f"{after} of {before} validation cells were scored, for want of memory for more")
    counts = np.min([np.bincount(bank.labels[s.reference], minlength=len(bank.classes)) for s in kept], axis=0)
    for name, count, own in zip(bank.classes, counts.tolist(), bank.class_counts.tolist(), strict=True):
        if own and (few := [k for k in grid.k_min if k > count]):
            found.append(f"class {name} has {count} reference cells, fewer than k_min {', '.join(map(str, few))}")
    return found
