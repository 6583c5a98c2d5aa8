"""`cellvigil-index add`: more labelled cells for an index, as a new version of it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from cellvigil.bundle.index import index_folder, open_index
from cellvigil.errors import UsageError
from cellvigil_indexes import telling
from cellvigil_indexes.build import groups_of
from cellvigil_indexes.changing import conflicts, held_already, parted, with_cells
from cellvigil_indexes.draft import check_original, draft_of
from cellvigil_indexes.options import SPLIT_BY, add_common, add_input, labelled_set, states
from cellvigil_indexes.progress import counting
from cellvigil_indexes.target import embed_target, repeats
from cellvigil_indexes.versions import history_of, succeed

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
    check_original(index)
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
    repeated, held = repeats(index, target.collected), held_already(draft, target.collected)
    wrong = conflicts(draft.collected.cells, target.collected, repeated)
    if draft.set_aside is not None:
        wrong += conflicts(draft.set_aside.cells, target.collected, held, "cell set aside")
    if wrong:
        what = f"{len(wrong)} cells are in the index under another class: {'; '.join(wrong[:3])}"
        raise UsageError(what, hint="mend the labels, or `drop` the wrong ones first")
    there = (repeated >= 0) | (held >= 0)
    fresh = target.collected.rows(np.flatnonzero(~there))
    if not len(fresh):
        raise UsageError("every one of these cells is in the index already")
    new = list(dict.fromkeys(cell.class_name for cell in fresh.cells if cell.class_name not in draft.groups))
    if args.states and not new:
        raise UsageError("--states is for new classes, and there is none", hint="leave it out, or see --new-classes")
    groups = {**draft.groups, **groups_of(new, args.states)}
    kept, aside = parted(draft, fresh, groups, index.k_min)
    after = succeed(index, with_cells(draft, kept, aside, groups), f"{len(fresh)} cells added")
    result = {
        **telling.described(after),
        "added": len(fresh),
        "added_set_aside": len(aside) if aside is not None else 0,
        "already_there": int(np.count_nonzero(there)),
        "not_in_index": dict(target.not_in_index),
        "input_warnings": [*found.warnings, *target.collected.warnings],
        "kept_as": history_of(after)[-1]["kept_as"],
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
