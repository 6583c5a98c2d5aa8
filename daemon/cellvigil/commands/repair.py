"""`repair`: its options, and what it prints."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cellvigil.commands.shared import Commands, command, print_json
from cellvigil.errors import UsageError

if TYPE_CHECKING:
    from cellvigil.store.repair import Report

_SHOWN = 20  # lost frames named one by one


def add_repair(commands: Commands) -> None:
    """The `repair` command."""
    what = "check every chunk of a store against its journals, and mend what can be mended"
    parser = command(commands, "repair", what, "cellvigil repair --store store --check")
    parser.add_argument("--store", type=Path, required=True, help="the store's folder (`store.path`)")
    parser.add_argument("--check", action="store_true", help="only look; a daemon may be writing meanwhile")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=_repair)


def _repair(args: argparse.Namespace) -> int:
    from cellvigil.store.recover import plate_folders  # noqa: PLC0415
    from cellvigil.store.repair import check, repair  # noqa: PLC0415

    if not plate_folders(args.store):
        raise UsageError("there is no plate in this store", where=args.store, hint="give the store's folder")
    report = check(args.store) if args.check else repair(args.store)
    if args.json:
        speed = {"frames_per_second": round(report.frames_per_second, 1), "needs_source": report.needs_source}
        print_json(asdict(report) | speed)
    else:
        _print(report)
    return 1 if report.needs_source else 0


def _print(report: Report) -> None:
    speed = f"{report.frames_per_second:.0f} frames a second"
    print(f"{report.frames} frames in {report.plates} plates, every chunk read, {speed}")
    done = ("made anew", "written anew", "moved under .orphans", "removed") if report.mended else ("to mend",) * 4
    figures = {
        f"reduced levels {done[0]}": report.derived,
        f"zarr.json files {done[1]}": report.documents,
        f"chunks without a journal line {done[2]}": report.strays,
        f"leftovers {done[3]}": report.leftovers,
        "bytes of unfinished journal lines": report.cut_bytes,
    }
    for what, count in figures.items():
        if count:
            print(f"  {count} {what}")
    for place in report.bad_lines:
        print(f"  bad journal line, passed over: {place}")
    if report.orphans:
        print(f"  {report.orphans} files, {report.orphan_bytes / 1e6:.1f} MB, lie under .orphans")
    for loss in report.lost[:_SHOWN]:
        later = " (superseded: nothing to do)" if loss.superseded else ""
        print(f"  lost: {loss.frame} revision {loss.revision}: {loss.why}{later}")
    if len(report.lost) > _SHOWN:
        print(f"  and {len(report.lost) - _SHOWN} more lost frames (--json names all)")
    if report.needs_source:
        hint = "start" if report.mended else "stop the daemon, run `cellvigil repair` without --check, then start"
        print(f"lost frames need the microscope's folder: {hint} the daemon, and it does them again from there")
    else:
        print("whole")
