"""`cellvigil-index show`: say what is in an index."""

from __future__ import annotations

import argparse
from typing import Any

from cellvigil.bundle.index import index_folder, open_index
from cellvigil_indexes import telling
from cellvigil_indexes.options import add_common

ABOUT = "say what is in an index"
EXAMPLES = "example:\n  cellvigil-index show assay"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Say what `show` can be asked."""
    add_common(command)


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Describe an index, as values and as text. Raises BundleError if it does not open."""
    summary = telling.described(open_index(index_folder(args.name, args.out)))
    return summary, telling.told_index(summary)
