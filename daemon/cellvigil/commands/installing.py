"""`install`: announced here; done in `cellvigil.install`, which also works before anything is installed."""

from __future__ import annotations

from cellvigil.commands.shared import Commands, command
from cellvigil.install.command import add_options, install


def add_install(commands: Commands) -> None:
    """The `install` command."""
    what = "make this Debian machine run cellvigil as a service: user, folders, program, configuration, unit"
    parser = command(commands, "install", what, "cellvigil install --user cellvigil --from .")
    add_options(parser)
    parser.set_defaults(run=install)
