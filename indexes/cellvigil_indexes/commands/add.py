"""`cellvigil-index add`: more labelled cells for an index, as a new version of it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from cellvigil.bundle.index import index_folder, open_index
from cellvigil.errors import UsageError
from cellvigil_indexes import telling
from cellvigil_indexes.build import groups_of
from cellvigil_indexes.changing import conflicts, with_cells
from cellvigil_indexes.draft import draft_of
from cellvigil_indexes.options import SPLIT_BY, add_common, add_input, labelled_set, states
from cellvigil_indexes.progress import counting
from cellvigil_indexes.setaside import split
from cellvigil_indexes.target import embed_target, repeats
from cellvigil_indexes.versions import succeed

ABOUT = "add labelled cells to an index: a new version, the old one is kept"
EXAMPLES = """examples:
  cellvigil-index add assay --coco friday.coco.json --pixel-size 0.322
  cellvigil-index add assay --images mitotic/ --new-classes --states mitotic=alive"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `add` can be asked."""
    add_common(command)
    add_input(command, required=True)
    add = command.add_argument
    add("--split-by", metavar="RULE", help=SPLIT_BY)
    add("--new-classes", action="store_true", help="take cells of classes that the index does not have")
    add("--states", type=states, default={}, metavar="CLASS=GROUP,...", help="groups of the new classes")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Add the cells, and describe the new version. Raises as `embed_target`, `groups_of` and `succeed` do."""
    index = open_index(index_folder(args.name, args.out))
    found = labelled_set(args, split_by=args.split_by)
    target = embed_target(
        index,
        found,
        encoder_folder=args.encoders,
        device=args.device,
        progress=counting,
        spares=True,
        new_classes=args.new_classes,
    )
    draft = draft_of(index)
    repeated = repeats(index, target.collected)
    if wrong := conflicts(draft.collected.cells, target.collected, repeated):
        what = f"{len(wrong)} cells are in the index under another class: {'; '.join(wrong[:3])}"
        raise UsageError(what, hint="mend the labels, or `drop` the wrong ones first")
    fresh = target.collected.rows(np.flatnonzero(repeated < 0))
    if not len(fresh):
        raise UsageError("every one of these cells is in the index already")
    new = list(dict.fromkeys(cell.class_name for cell in fresh.cells if cell.class_name not in draft.groups))
    groups = {**draft.groups, **groups_of(new, args.states)} if new else dict(draft.groups)
    aside_share = len(draft.set_aside) / (len(draft.set_aside) + len(index)) if draft.set_aside else 0.0
    kept, aside = split(fresh, tuple(groups), aside_share, k_min=index.k_min)
    after = succeed(index, with_cells(draft, kept, aside, groups), f"{len(fresh)} cells added")
    result = {
        **telling.described(after),
        "added": len(fresh),
        "added_set_aside": len(aside) if aside is not None else 0,
        "already_there": int(np.count_nonzero(repeated >= 0)),
        "not_in_index": dict(target.not_in_index),
        "input_warnings": [*found.warnings, *target.collected.warnings],
        "kept_as": f"{index.name}.v{len(draft.history) + 1}",
    }
    return result, _told(result)


def _told(result: dict[str, Any]) -> str:
    lines = [f"{result['added']} cells added; the former version is {result['kept_as']}"]
    if result["already_there"]:
        lines.append(f"{result['already_there']} were in the index already and were passed over")
    lines += [f"warning: {text}" for text in result["input_warnings"]]
    lines += [
        f"warning: {count} cells of class {name} left out: the index lacks it (--new-classes takes them)"
        for name, count in result["not_in_index"].items()
    ]
    return "\n".join([*lines, telling.told_index(result)])
