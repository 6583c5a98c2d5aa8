"""`cellvigil`: reads the command line, runs one command, turns an error into a line and an exit code.

Exit code 0: done; 2: bad usage or configuration; 1: anything else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cellvigil import __version__, commands
from cellvigil.errors import CellvigilError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # Frames are worked on side by side, so each library works alone: threads that wait for each other by spinning
    # would take the encoder's cores. Must be said before numpy and FAISS are imported; FAISS's own call for it holds
    # only for the thread that makes it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(
        prog="cellvigil", description="Live cell-state counts beside a live-cell microscope. Research use only."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands.add_all(parser.add_subparsers(required=True, metavar="COMMAND"))
    args = parser.parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CellvigilError as error:
        print(f"cellvigil: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cellvigil: stopped", file=sys.stderr)
        return 130
    return code
