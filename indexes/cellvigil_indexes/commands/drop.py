"""`cellvigil-index drop`: take reference cells out of an index, as a new version of it."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from cellvigil.bundle.index import index_folder, open_index
from cellvigil_indexes import telling
from cellvigil_indexes.changing import Choice, chosen, without_cells
from cellvigil_indexes.draft import draft_of
from cellvigil_indexes.options import add_common
from cellvigil_indexes.versions import history_of, succeed

ABOUT = "take cells out of an index: a new version, the old one is kept"
EXAMPLES = """examples:
  cellvigil-index drop assay --cell 17 --cell 230
  cellvigil-index drop assay --class debris --image 'plate1_*'
What is given together must all be true of a cell."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `drop` can be asked."""
    add_common(command)
    add = command.add_argument
    add("--cell", type=int, action="append", default=[], metavar="ID", help="a reference cell, as `classify` shows it")
    add("--class", action="append", default=[], dest="classes", metavar="NAME", help="all cells of this class")
    add("--image", action="append", default=[], dest="images", metavar="GLOB", help="cells of such image paths")
    add("--group", action="append", default=[], dest="groups", metavar="GLOB", help="cells of such groups")
    add("--dry-run", action="store_true", help="say what would go, and change nothing")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Drop the cells, and describe the new version. Raises as `chosen`, `without_cells` and `succeed` do."""
    index = open_index(index_folder(args.name, args.out))
    draft = draft_of(index)
    choice = Choice(args.cell, args.classes, args.images, args.groups)
    rows = chosen(draft.collected.cells, choice)
    smaller = without_cells(draft, rows, choice)
    gone = Counter(draft.collected.cells[row].class_name for row in rows.tolist())
    change = f"{len(rows)} cells dropped"
    after = index if args.dry_run else succeed(index, smaller, change)
    result = {
        **telling.described(after),
        "dropped": dict(gone),
        "dropped_classes": [name for name in draft.groups if name not in smaller.groups],
        "kept_as": None if args.dry_run else history_of(after)[-1]["kept_as"],
    }
    told = ", ".join(f"{count} {name}" for name, count in gone.items())
    first = f"would drop {told}" if args.dry_run else f"dropped {told}; the former version is {result['kept_as']}"
    return result, f"{first}\n{telling.told_index(result)}"
