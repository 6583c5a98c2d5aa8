"""`run`, `once`, `check`: their options, and what each prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal

from cellvigil import config
from cellvigil.commands.shared import Commands, command, config_option, print_json


def add_run(commands: Commands) -> None:
    """The `run` command."""
    parser = command(commands, "run", "watch and count until stopped", "cellvigil run --config config.yaml")
    config_option(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from cellvigil.service.serve import run  # noqa: PLC0415 - see the first docstring

    left = run(config.load(args.config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a second one must not kill an interpreter that is ending
    if left:
        # A thread that hangs, in a read from a dead share or on a device, would keep the interpreter from ending.
        logging.shutdown()
        os._exit(0)
    return 0


def add_once(commands: Commands) -> None:
    """The `once` command."""
    parser = command(commands, "once", "process what is there, then end", "cellvigil once --config config.yaml --json")
    config_option(parser)
    what = "then call every stored cell again by its source's index as it is now (aligned where it is); keeps old calls"
    parser.add_argument("--recall", action="store_true", help=what)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_once)


def _once(args: argparse.Namespace) -> int:
    from cellvigil.service.serve import once  # noqa: PLC0415

    done = once(config.load(args.config), recall=args.recall)
    if args.json:
        print_json(done)
    else:
        print(", ".join(f"{count} {what.replace('_', ' ')}" for what, count in done.items()))
    return 0


def add_check(commands: Commands) -> None:
    """The `check` command."""
    what = "validate everything and touch nothing: folders, names, scale, hashes, device, disk, port, capacity"
    parser = command(commands, "check", what, "cellvigil check --config config.yaml")
    config_option(parser)
    parser.add_argument("--force", action="store_true", help="do not refuse when this machine cannot keep up")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from cellvigil.check import check  # noqa: PLC0415

    findings = check(config.load(args.config), force=args.force)
    if args.json:
        print_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            print(finding)
    return 1 if any(finding.level == "fail" for finding in findings) else 0
