"""`table`: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from cellvigil.commands.shared import Commands, command, print_json

_COLUMNS = """A daemon may be writing meanwhile.

A frame that was done again has rows of each revision: `current` is true for the last one, `counted` for the cells
that the gauges count."""


_HISTORY = """With --openmetrics: the metrics of a running service, at every time point, dated by acquisition.
To put them into Prometheus: promtool tsdb create-blocks-from openmetrics history.om DATA, where DATA is the folder of
its data (docs/metrics.md)."""


def add_table(commands: Commands) -> None:
    """The `table` command."""
    what = "write the record as a table: one row a cell (or a frame), as Parquet or CSV, or history for Prometheus"
    parser = command(commands, "table", what, "cellvigil table --store store --out cells.parquet")
    parser.description = f"{parser.description} {_COLUMNS}\n\n{_HISTORY}"
    parser.add_argument("--store", type=Path, required=True, help="the store's folder (`store.path`)")
    parser.add_argument("--out", type=Path, required=True, help="cells.parquet or cells.csv; history.om")
    parser.add_argument("--frames", action="store_true", help="one row a frame: those without cells show, too")
    _history_options(parser.add_argument_group("history"))
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_table)


def _history_options(group: argparse._ArgumentGroup) -> None:
    what = "write the figures of wells, arms and plates as OpenMetrics text, dated by acquisition"
    group.add_argument("--openmetrics", action="store_true", help=what)
    group.add_argument("--config", type=Path, help="the service's configuration; default: the defaults of config.yaml")
    group.add_argument("--source", default="*", help="only plates of this source; * and ? match")
    group.add_argument("--plate", default="*", help="only this plate, or source/experiment/plate; * and ? match")
    group.add_argument("--since", default="", help="only values acquired from then on, like 2026-11-20T18:00 (UTC)")


def _table(args: argparse.Namespace) -> int:
    if args.openmetrics:
        return _history(args)
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


def _history(args: argparse.Namespace) -> int:
    from cellvigil import config  # noqa: PLC0415
    from cellvigil.history import Wanted, moment, write_history  # noqa: PLC0415

    settings = config.load(args.config) if args.config else None
    wanted = Wanted(args.source, args.plate, moment(args.since) if args.since else None)
    written = write_history(args.store, args.out, now=datetime.now(UTC), settings=settings, wanted=wanted)
    if args.json:
        print_json({"out": str(args.out), "plates": written.plates, "samples": written.samples})
        return 0
    plates = "1 plate" if written.plates == 1 else f"{written.plates} plates"
    print(f"{written.samples} samples of {plates} in {args.out}")
    if not written.plates:
        print("warning: no plate has a value that was asked for: see --source, --plate and --since", file=sys.stderr)
    return 0
