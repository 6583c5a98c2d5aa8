"""The `install` command: its options, its steps in order, and what it says."""

from __future__ import annotations

import argparse
from pathlib import Path

from cellvigil.errors import UsageError
from cellvigil.install.layout import Layout, next_steps
from cellvigil.install.program import make_program
from cellvigil.install.steps import (
    add_user,
    check_machine,
    copy_bundles,
    is_running,
    make_folders,
    write_config,
    write_unit,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    normal = Layout()
    parser.add_argument("--user", default=normal.user, help="whom the service runs as; made if need be (%(default)s)")
    parser.add_argument("--prefix", type=Path, default=normal.prefix, help="where programs go (%(default)s)")
    parser.add_argument("--instance", default="", help="one of several services on this machine: cellvigil@INSTANCE")
    parser.add_argument(
        "--from", dest="source", type=Path, default=Path(), help="an unpacked bundle, or a source tree (here)"
    )
    parser.add_argument("--extra", choices=("cpu", "gpu"), default="cpu", help="of a source tree (%(default)s)")
    parser.add_argument(
        "--keep-program", action="store_true", help="leave the program: add an instance, or mend folders and unit"
    )


def install(args: argparse.Namespace) -> int:
    """Install, or upgrade; prints each thing done and what is left to do. Raises UsageError and InstallError."""
    try:
        layout = Layout(args.user, args.prefix, args.instance)
    except ValueError as error:
        raise UsageError(str(error), where="install", hint="see cellvigil install --help") from None
    check_machine()
    running = is_running(layout)
    add_user(layout, print)
    make_folders(layout)
    if not args.keep_program:
        print(make_program(layout, args.source, args.extra, print))
    elif not (layout.current / "bin" / "cellvigil").exists():
        raise UsageError("there is no program to keep", where=layout.current, hint="leave --keep-program out")
    copy_bundles(layout, args.source, print)
    write_config(layout, print)
    write_unit(layout, print)
    print(f"\nInstalled. Next:\n{next_steps(layout, running=running)}")
    return 0
