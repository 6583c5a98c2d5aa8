"""`rehearse`, `demo`: their options, and what each prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellvigil.commands.shared import Commands, command, print_json

if TYPE_CHECKING:
    from cellvigil.rehearse.run import Progress


def add_rehearse(commands: Commands) -> None:
    """The `rehearse` command."""
    from cellvigil.rehearse.options import add_arguments  # noqa: PLC0415

    what = "play a microscope: write the frames of a simulated assay, and the truth beside them"
    parser = command(commands, "rehearse", what, "cellvigil rehearse --out rehearsal --pace 10")
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
    result |= {"images": str(done.images), "truth": str(done.truth), "plate_map": str(done.plate_map)}
    result |= {"events": str(done.events), "frames": done.frames, "files": done.files}
    if args.json:
        print_json(result)
    else:
        print(f"{done.frames} frames in {done.images}, the truth in {done.truth}")
    return 0


def _progress_line(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.frame} of {progress.frames} frames", end="", file=sys.stderr)


def add_demo(commands: Commands) -> None:
    """The `demo` command."""
    what = "rehearse an assay, build an index, count the cells while frames arrive, and compare with the truth"
    parser = command(commands, "demo", what, "cellvigil demo --out demo")
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
        print_json(result)
    return 0
