"""`table`: its options, and what it prints."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from cellvigil.commands.shared import Commands, command, print_json

_COLUMNS = """A daemon may be writing meanwhile.

A frame that was done again has rows of each revision: `current` is true for the last one, `counted` for the cells
that the gauges count."""


def add_table(commands: Commands) -> None:
    """The `table` command."""
    what = "write the record as a table: one row a cell (or a frame), as Parquet or CSV"
    parser = command(commands, "table", what, "cellvigil table --store store --out cells.parquet")
    parser.description = f"{parser.description} {_COLUMNS}"
    parser.add_argument("--store", type=Path, required=True, help="the store's folder (`store.path`)")
    parser.add_argument("--out", type=Path, required=True, help="cells.parquet or cells.csv")
    parser.add_argument("--frames", action="store_true", help="one row a frame: those without cells show, too")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_table)


def _table(args: argparse.Namespace) -> int:
    from cellvigil.table import write_table  # noqa: PLC0415

    out = Counter({"dropped": 0, "lost": 0})
    rows = write_table(args.store, args.out, frames=args.frames, left_out=lambda _, why: out.update([why]))
    if args.json:
        print_json({"out": str(args.out), "rows": rows, "frames_dropped": out["dropped"], "frames_lost": out["lost"]})
        return 0
    print(f"{rows} rows in {args.out}")
    if out["dropped"]:
        print(f"without the cells of {out['dropped']} frames, deleted by retention; --frames has their counts")
    if out["lost"]:
        hint = "a running daemon does them again from the microscope's folder"
        print(f"without the cells of {out['lost']} frames whose rows are damaged; {hint}")
    return 0
