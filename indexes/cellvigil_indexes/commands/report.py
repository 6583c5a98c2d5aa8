"""`cellvigil-index report`: everything known of an index on one page."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.bundle.index import index_folder, open_index
from cellvigil_indexes.options import add_common
from cellvigil_indexes.report.projection import METHODS
from cellvigil_indexes.report.write import write_report

ABOUT = "draw everything known of an index on one self-contained HTML page"
EXAMPLES = """examples:
  cellvigil-index report assay
  cellvigil-index report assay --html assay.html --projection pca"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `report` can be asked."""
    add_common(command)
    add = command.add_argument
    add("--html", type=Path, metavar="FILE", help="the page (default: NAME.html beside the index's folder)")
    add("--projection", choices=METHODS, default="auto", help="auto: UMAP where it is installed, else PCA")


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Write the page; its path and all its numbers, as values and in short as text. Raises as `write_report` does."""
    index = open_index(index_folder(args.name, args.out))
    target = args.html or index.folder.parent / f"{index.folder.name}.html"
    result = write_report(index, target, projection=args.projection, now=datetime.now(UTC), tell=_tell)
    return result, _told(result)


def _tell(step: str) -> None:
    if sys.stderr.isatty():
        print(f"{step} ...", file=sys.stderr, flush=True)


def _told(result: dict[str, Any]) -> str:
    chosen = next(space for space in result["spaces"] if space["chosen"])
    lines = [
        f"{result['html']} ({result['bytes'] / 1e6:.1f} MB)",
        f"  {result['cells_looked_at']} of {result['cells']} cells, {len(result['classes'])} classes, "
        f"{len(result['spaces'])} spaces, projected by {result['projection']}",
        f"  {chosen['name']}: {chosen['components_95']} components for 95 % of the variance"
        + ("" if chosen["separability"] is None else f", class separability {chosen['separability']:.3f}"),
    ]
    if result["out_of_fold"] is not None:
        lines.append(f"  out of fold {result['out_of_fold']['accuracy']:.1%} of the calls are right")
    return "\n".join([*lines, *(f"warning: {text}" for text in result["warnings"])])
