"""The simulated microscope on its own: `python -m cellvigil.rehearse --out DIR`."""

import argparse
import sys

from cellvigil.errors import CellvigilError
from cellvigil.rehearse.options import add_arguments, from_arguments
from cellvigil.rehearse.reference import write_reference
from cellvigil.rehearse.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cellvigil.rehearse")
    add_arguments(parser)
    args = parser.parse_args()
    try:
        assay = from_arguments(args)
        done = run(assay, args.out, pace_s=args.pace, pieces=args.pieces, pause_s=args.pause)
        if args.reference:
            write_reference(args.out / "reference", assay, args.reference)
    except CellvigilError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{done.frames} frames in {done.images}, the truth in {done.truth}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
