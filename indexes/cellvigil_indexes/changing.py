"""Cells are added to an index, or taken out: pure changes of a draft, which `versions.succeed` then writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from cellvigil.bundle.index import ReferenceCell
from cellvigil.data import I64, Bools
from cellvigil.errors import UsageError
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.inputs.fitting import check_same_rule


@dataclass(frozen=True, slots=True)
class Choice:
    """Which reference cells are meant: those that every part which is given is true of."""

    ids: Sequence[int] = ()  # reference ids, as `classify` and "why" show them
    classes: Sequence[str] = ()  # whatever their case
    images: Sequence[str] = ()  # shell patterns over the image's path
    groups: Sequence[str] = ()  # shell patterns over the group


def with_cells(draft: Draft, fresh: Collected, aside: Collected | None, groups: Mapping[str, str]) -> Draft:
    """The draft with more cells behind its own, whose ids stay. `groups` adds the groups of classes that are new.

    What was tuned on fewer cells is kept, and marked so.
    """
    check_same_rule(draft.image_rule, fresh.image_rule)
    return replace(
        draft,
        collected=joined(draft.collected, fresh),
        set_aside=joined(draft.set_aside, aside) if draft.set_aside and aside else draft.set_aside or aside,
        groups={**draft.groups, **{name: group for name, group in groups.items() if name not in draft.groups}},
        tuning=_outdated(draft),
    )


def without_cells(draft: Draft, rows: I64) -> Draft:
    """The draft without these reference cells; the others move up and get new ids. Empty classes leave the index.

    Raises UsageError if nothing would be left.
    """
    kept = np.setdiff1d(np.arange(len(draft.collected)), rows)
    if not len(kept):
        raise UsageError("that would leave no cell in the index", hint="delete the index's folder instead")
    collected = draft.collected.rows(kept)
    there = Counter(cell.class_name for cell in collected.cells)
    aside = draft.set_aside
    if aside is not None:
        still = np.flatnonzero([there[cell.class_name] > 0 for cell in aside.cells])
        aside = aside.rows(still) if len(still) else None
    return replace(
        draft,
        collected=collected,
        set_aside=aside,
        groups={name: group for name, group in draft.groups.items() if there[name]},
        tuning=_outdated(draft),
    )


def chosen(cells: Sequence[ReferenceCell], choice: Choice) -> I64:
    """Rows of the cells that are meant, ascending.

    Raises UsageError for an empty choice, an id or a class that is not there, or if no cell is meant.
    """
    if choice == Choice():
        raise UsageError("which cells?", hint="say so with --cell, --class, --image or --group")
    if wrong := [number for number in choice.ids if not 0 <= number < len(cells)]:
        raise UsageError(f"there is no reference cell {wrong[0]}; ids are 0 to {len(cells) - 1}")
    known = {cell.class_name.casefold() for cell in cells}
    if strange := [name for name in choice.classes if name.casefold() not in known]:
        raise UsageError(f"there is no class {strange[0]!r}", hint="`cellvigil-index show` lists them")
    meant: Bools = np.ones(len(cells), dtype=bool)
    if choice.ids:
        meant &= np.isin(np.arange(len(cells)), choice.ids)
    if choice.classes:
        wanted = {name.casefold() for name in choice.classes}
        meant &= np.array([cell.class_name.casefold() in wanted for cell in cells])
    for patterns, texts in ((choice.images, [c.image for c in cells]), (choice.groups, [c.group for c in cells])):
        if patterns:
            meant &= np.array([any(fnmatchcase(text, pattern) for pattern in patterns) for text in texts])
    rows = np.flatnonzero(meant)
    if not len(rows):
        raise UsageError("no reference cell is meant by that", hint="patterns are of the shell's kind, e.g. 'plate1_*'")
    return rows


def joined(first: Collected, second: Collected) -> Collected:
    """Both, one behind the other. Raises UsageError if their pictures or vectors are not of one kind."""
    if first.thumbnails.shape[1:] != second.thumbnails.shape[1:]:
        raise UsageError("grey and colour pictures do not fit into one index")
    return Collected(
        [*first.cells, *second.cells],
        {name: np.concatenate([block, second.embeddings[name]]) for name, block in first.embeddings.items()},
        np.concatenate([first.thumbnails, second.thumbnails]),
    )


def conflicts(cells: Sequence[ReferenceCell], fresh: Collected, repeated: I64) -> list[str]:
    """Cells whose very picture is in the index under another class, each told in a few words."""
    return [
        f"{cell.image} is {cell.class_name} here and {cells[row].class_name} in the index (cell {row})"
        for cell, row in zip(fresh.cells, repeated.tolist(), strict=True)
        if row >= 0 and cells[row].class_name != cell.class_name
    ]


def _outdated(draft: Draft) -> Mapping[str, object] | None:
    if draft.tuning is None:
        return None
    return {"of_version": len(draft.history) + 1, **draft.tuning}
