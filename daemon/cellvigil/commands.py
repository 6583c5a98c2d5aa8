"""The daemon's commands: their options, and what each prints. Everything they do is done elsewhere.

Heavy modules are imported by the command that needs them, so that `--help` and a wrong option answer at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cellvigil import config

if TYPE_CHECKING:
    from cellvigil.rehearse.run import Progress

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_all(commands: Commands) -> None:
    """Add every command of the daemon."""
    for add in (_add_run, _add_once, _add_check, _add_rehearse, _add_demo, _add_table, _add_classify):
        add(commands)


def _command(commands: Commands, name: str, what: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="configuration file (%(default)s)")


def _add_run(commands: Commands) -> None:
    parser = _command(commands, "run", "watch and count until stopped", "cellvigil run --config config.yaml")
    _config_option(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from cellvigil.service.serve import run  # noqa: PLC0415 - see the first docstring

    run(config.load(args.config))
    return 0


def _add_once(commands: Commands) -> None:
    parser = _command(commands, "once", "process what is there, then end", "cellvigil once --config config.yaml --json")
    _config_option(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_once)


def _once(args: argparse.Namespace) -> int:
    from cellvigil.service.serve import once  # noqa: PLC0415

    done = once(config.load(args.config))
    if args.json:
        _print_json(done)
    else:
        print(", ".join(f"{count} {what.replace('_', ' ')}" for what, count in done.items()))
    return 0


def _add_check(commands: Commands) -> None:
    what = "validate everything and touch nothing: folders, names, scale, hashes, device, disk, port, capacity"
    parser = _command(commands, "check", what, "cellvigil check --config config.yaml")
    _config_option(parser)
    parser.add_argument("--force", action="store_true", help="do not refuse when this machine cannot keep up")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from cellvigil.check import check  # noqa: PLC0415

    findings = check(config.load(args.config), force=args.force)
    if args.json:
        _print_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            print(finding)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def _add_rehearse(commands: Commands) -> None:
    from cellvigil.rehearse.options import add_arguments  # noqa: PLC0415

    what = "play a microscope: write the frames of a simulated assay, and the truth beside them"
    parser = _command(commands, "rehearse", what, "cellvigil rehearse --out rehearsal --pace 10")
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_rehearse)


def _rehearse(args: argparse.Namespace) -> int:
    from cellvigil.rehearse.options import from_arguments  # noqa: PLC0415
    from cellvigil.rehearse.reference import write_reference  # noqa: PLC0415
    from cellvigil.rehearse.run import run  # noqa: PLC0415

    assay = from_arguments(args)
    result: dict[str, Any] = {}
    if args.reference:
        reference = write_reference(args.out / "reference", assay, args.reference)
        result["reference"] = str(reference.annotations)
    done = run(assay, args.out, pace_s=args.pace, pieces=args.pieces, pause_s=args.pause, progress=_progress_line)
    result |= {"images": str(done.images), "truth": str(done.truth), "frames": done.frames, "files": done.files}
    if args.json:
        _print_json(result)
    else:
        print(f"{done.frames} frames in {done.images}, the truth in {done.truth}")
    return 0


def _progress_line(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.frame} of {progress.frames} frames", end="", file=sys.stderr)


def _add_demo(commands: Commands) -> None:
    what = "rehearse an assay, build an index, count the cells while frames arrive, and compare with the truth"
    parser = _command(commands, "demo", what, "cellvigil demo --out demo")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything it makes (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="same seed, same assay (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of /metrics; 0 = any free one")
    parser.add_argument("--keep", action="store_true", help="serve /metrics afterwards, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from cellvigil.demo import demo  # noqa: PLC0415

    result = demo(args.out, seed=args.seed, port=args.port, keep=args.keep)
    if args.json:
        _print_json(result)
    return 0


def _add_table(commands: Commands) -> None:
    what = "write the record as a table: one row a cell (or a frame), as Parquet or CSV"
    parser = _command(commands, "table", what, "cellvigil table --store store --out cells.parquet")
    parser.add_argument("--store", type=Path, required=True, help="the store's folder (`store.path`)")
    parser.add_argument("--out", type=Path, required=True, help="cells.parquet or cells.csv")
    parser.add_argument("--frames", action="store_true", help="one row a frame: those without cells show, too")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_table)


def _table(args: argparse.Namespace) -> int:
    from cellvigil.table import write_table  # noqa: PLC0415

    rows = write_table(args.store, args.out, frames=args.frames)
    if args.json:
        _print_json({"out": str(args.out), "rows": rows})
    else:
        print(f"{rows} rows in {args.out}")
    return 0


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))


def _add_classify(commands: Commands) -> None:
    what = "call single-cell images by an index: label, probability, and the nearest reference cells"
    parser = _command(commands, "classify", what, "cellvigil classify cells/*.png --index blood --html why.html")
    add = parser.add_argument
    add("images", type=Path, nargs="+", metavar="IMAGE", help="one cell each, in its middle")
    add("--index", required=True, metavar="NAME", help="a name under --indexes, or a path to an index")
    add("--indexes", type=Path, default=Path("indexes"), help="folder of the indexes (%(default)s)")
    add("--encoders", type=Path, default=Path("encoders"), help="folder of the encoder bundles (%(default)s)")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"])
    add("--pixel-size", type=float, metavar="UM", help="micrometres a pixel, where the index was built with a scale")
    add("--nearest", type=int, default=5, metavar="M", help="reference cells to show for each (%(default)s)")
    add("--same-device", action="store_true", help="the images come from the index's own device: reject novel cells")
    add("--min-probability", type=float, metavar="P", help="reject cells that are less probably right")
    add("--html", type=Path, metavar="FILE", help="write a page with the pictures of the nearest reference cells")
    add("--json", action="store_true", help="print the answers as JSON")
    parser.set_defaults(run=_classify)


def _classify(args: argparse.Namespace) -> int:
    from cellvigil import decide  # noqa: PLC0415
    from cellvigil.bundle.encoder import open_encoder  # noqa: PLC0415
    from cellvigil.bundle.index import check_encoders, index_folder, open_index  # noqa: PLC0415
    from cellvigil.classify import classify, told  # noqa: PLC0415
    from cellvigil.classify_page import page  # noqa: PLC0415
    from cellvigil.encoder import open_session  # noqa: PLC0415

    index = open_index(index_folder(args.index, args.indexes))
    bundles = [open_encoder(args.encoders / each.name) for each in index.encoders]
    check_encoders(index, bundles)
    answers = list(
        classify(
            args.images,
            index,
            [open_session(bundle, device=args.device) for bundle in bundles],
            nearest=args.nearest,
            pixel_size_um=args.pixel_size,
            rejection=decide.Rejection(args.same_device, args.min_probability),
        )
    )
    if args.html:
        args.html.write_text(page(answers, index), encoding="utf-8")
    if args.json:
        _print_json({"index": index.name, "sha256": index.sha256, "cells": [each.as_dict() for each in answers]})
    else:
        print("\n".join(told(each) for each in answers))
    return 0
