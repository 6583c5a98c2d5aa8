"""The daemon's commands: their options, and what each prints. Everything they do is done elsewhere.

Heavy modules are imported by the command that needs them, so that `--help` and a wrong option answer at once.
"""

from __future__ import annotations

from cellvigil.commands.aligning import add_align
from cellvigil.commands.calling import add_classify
from cellvigil.commands.events import add_event_command
from cellvigil.commands.installing import add_install
from cellvigil.commands.measuring import add_bench
from cellvigil.commands.quarantine import add_quarantine
from cellvigil.commands.recording import add_table
from cellvigil.commands.repair import add_repair
from cellvigil.commands.serving import add_check, add_once, add_run
from cellvigil.commands.shared import Commands
from cellvigil.commands.trying import add_demo, add_rehearse


def add_all(commands: Commands) -> None:
    """Add every command of the daemon."""
    serving = (add_run, add_once, add_check, add_bench, add_align, add_quarantine, add_event_command, add_repair)
    for add in (*serving, add_rehearse, add_demo, add_table, add_classify, add_install):
        add(commands)
