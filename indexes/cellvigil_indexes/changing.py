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
from cellvigil.neighbours import ExactSearch, mean_distance
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.inputs.fitting import check_same_rule
from cellvigil_indexes.setaside import chosen as chosen_aside


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


def parted(draft: Draft, fresh: Collected, groups: Mapping[str, str], k_min: int) -> tuple[Collected, Collected | None]:
    """Fresh cells as references and as cells set aside, the latter in the share that the draft has of them.

    Cells of a group that is there go to its side: a group on both would have cells of one image vouch for each other.
    Only a class that no reference has yet goes to the references wherever its group is.
    """
    if draft.set_aside is None:
        return fresh, None
    own, held = ({cell.group for cell in part.cells} for part in (draft.collected, draft.set_aside))
    share = len(draft.set_aside) / (len(draft.set_aside) + len(draft.collected))
    known = {cell.class_name for cell in draft.collected.cells}
    bound = np.array([c.group in own or (c.group in held and c.class_name not in known) for c in fresh.cells])
    tied = ~bound & np.array([cell.group in held for cell in fresh.cells])
    free = np.flatnonzero(~bound & ~tied)
    aside = np.zeros(len(fresh), dtype=bool)
    if len(free):
        aside[free] = chosen_aside(fresh.rows(free).bank(tuple(groups)), share, k_min=k_min)
    aside |= tied
    return fresh.rows(np.flatnonzero(~aside)), fresh.rows(np.flatnonzero(aside)) if aside.any() else None


def held_already(draft: Draft, fresh: Collected) -> I64:
    """Which of the cells set aside each fresh cell repeats, (n,), -1 for none: its vector, but for rounding."""
    if draft.set_aside is None:
        return np.full(len(fresh), -1, dtype=np.int64)
    name = draft.used[0]
    search = ExactSearch.of([name], [draft.set_aside.embeddings[name]], [1.0])
    near = search.nearest({name: fresh.embeddings[name]}, 1)
    limit = mean_distance(draft.collected.embeddings[name]) ** 0.5 / 1000  # as `target.repeats` has it
    return np.where(near.distances[:, 0] <= limit, near.ids[:, 0], -1).astype(np.int64)


def without_cells(draft: Draft, rows: I64, choice: Choice | None = None) -> Draft:
    """The draft without these reference cells; the others move up and get new ids. Empty classes leave the index.

    With `choice` the cells set aside that it means go too: what is no good as a reference calibrates nothing.

    Raises UsageError if nothing would be left.
    """
    kept = np.setdiff1d(np.arange(len(draft.collected)), rows)
    if not len(kept):
        raise UsageError("that would leave no cell in the index", hint="delete the index's folder instead")
    collected = draft.collected.rows(kept)
    there = Counter(cell.class_name for cell in collected.cells)
    aside = draft.set_aside
    if aside is not None:
        gone = _meant(aside.cells, choice) if choice and not choice.ids else np.zeros(len(aside), dtype=bool)
        still = np.flatnonzero(~gone & np.array([there[cell.class_name] > 0 for cell in aside.cells]))
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
    if not (choice.ids or choice.classes or choice.images or choice.groups):
        raise UsageError("which cells?", hint="say so with --cell, --class, --image or --group")
    if wrong := [number for number in choice.ids if not 0 <= number < len(cells)]:
        raise UsageError(f"there is no reference cell {wrong[0]}; ids are 0 to {len(cells) - 1}")
    known = {cell.class_name.casefold() for cell in cells}
    if strange := [name for name in choice.classes if name.casefold() not in known]:
        raise UsageError(f"there is no class {strange[0]!r}", hint="`cellvigil-index show` lists them")
    meant = _meant(cells, choice)
    rows = np.flatnonzero(meant)
    if not len(rows):
        raise UsageError("no reference cell is meant by that", hint="patterns are of the shell's kind, e.g. 'plate1_*'")
    return rows


def _meant(cells: Sequence[ReferenceCell], choice: Choice) -> Bools:
    """Which cells every part of the choice is true of, (n,)."""
    meant: Bools = np.ones(len(cells), dtype=bool)
    if choice.ids:
        meant &= np.isin(np.arange(len(cells)), choice.ids)
    if choice.classes:
        wanted = {name.casefold() for name in choice.classes}
        meant &= np.array([cell.class_name.casefold() in wanted for cell in cells])
    for patterns, texts in ((choice.images, [c.image for c in cells]), (choice.groups, [c.group for c in cells])):
        if patterns:
            meant &= np.array([any(fnmatchcase(text, pattern) for pattern in patterns) for text in texts])
    return meant


def joined(first: Collected, second: Collected) -> Collected:
    """Both, one behind the other. Raises UsageError if their pictures or vectors are not of one kind."""
    if first.thumbnails.shape[1:] != second.thumbnails.shape[1:]:
        raise UsageError("grey and colour pictures do not fit into one index")
    return Collected(
        [*first.cells, *second.cells],
        {name: np.concatenate([block, second.embeddings[name]]) for name, block in first.embeddings.items()},
        np.concatenate([first.thumbnails, second.thumbnails]),
    )


def conflicts(cells: Sequence[ReferenceCell], fresh: Collected, repeated: I64, what: str = "cell") -> list[str]:
    """Cells whose very picture is in the index under another class, each told in a few words; `what` the others are."""
    return [
        f"{cell.image} is {cell.class_name} here and {cells[row].class_name} in the index ({what} {row})"
        for cell, row in zip(fresh.cells, repeated.tolist(), strict=True)
        if row >= 0 and cells[row].class_name != cell.class_name
    ]


def _outdated(draft: Draft) -> Mapping[str, object] | None:
    if draft.tuning is None:
        return None
    return {"of_version": len(draft.history) + 1, **draft.tuning}
