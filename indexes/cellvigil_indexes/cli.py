"""`cellvigil-index`: reads arguments, calls one command, prints its result."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cellvigil.errors import CellvigilError, UsageError

COMMANDS = ("build", "tune", "evaluate", "align", "show", "report", "add", "drop", "profile")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 2 bad usage, 1 anything else; an error is one line on stderr."""
    try:
        args = parser().parse_args(argv)
        result, text = args.run(args)
    except CellvigilError as error:
        print(f"cellvigil-index: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"cellvigil-index: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    try:
        print(json.dumps(result, indent=2) if args.json else text, flush=True)
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = _Parser(
        prog="cellvigil-index", description="Reference indexes: labelled cells that live cells are called by."
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"cellvigil_indexes.commands.{name}")
        command = commands.add_parser(
            name,
            help=module.ABOUT,
            description=module.ABOUT,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return whole
