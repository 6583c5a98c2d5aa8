"""`cellvigil`: reads the command line, runs one command, turns an error into a line and an exit code.

Exit code 0: done; 2: bad usage or configuration; 1: anything else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cellvigil import __version__, commands
from cellvigil.errors import CellvigilError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="cellvigil", description="Live cell-state counts beside a live-cell microscope. Research use only."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands.add_all(parser.add_subparsers(required=True, metavar="COMMAND"))
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except CellvigilError as error:
        print(f"cellvigil: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cellvigil: stopped", file=sys.stderr)
        return 130
