"""What every command shares: how it is announced, where its configuration comes from, how JSON is printed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_CONFIG = Path("config.yaml")


def command(commands: Commands, name: str, what: str, example: str) -> argparse.ArgumentParser:
    """A command's parser: `what` it does in a line, and an example."""
    return commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_option(parser: argparse.ArgumentParser) -> None:
    """`--config`."""
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="configuration file (%(default)s)")


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, default=str))
