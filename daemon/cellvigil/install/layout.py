"""Where an installation keeps what, and the texts of its files. Pure.

PREFIX/<version>/        a virtual environment; PREFIX/current points at the one in use
/etc/cellvigil/          NAME.yaml, read by the service, written by root only
/var/lib/cellvigil/      encoders, indexes; store and state (of an instance: below its name)
/etc/systemd/system/     the unit
/usr/local/bin/          the three commands
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("cellvigil", "cellvigil-export", "cellvigil-index")
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")  # what useradd takes
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Layout:
    """One installation, as paths on the machine it is for."""

    user: str = "cellvigil"
    prefix: Path = Path("/opt/cellvigil")
    instance: str = ""  # "" = the one service of the machine

    def __post_init__(self) -> None:
        """Raises ValueError that names what cannot be."""
        if not _NAME.fullmatch(self.user):
            raise ValueError(f"{self.user!r} is no user name: small letters, digits, _ and -")
        if self.instance and not _INSTANCE.fullmatch(self.instance):
            raise ValueError(f"{self.instance!r} is no name of an instance: letters, digits, _ . and -")
        if not self.prefix.is_absolute() or any(letter.isspace() or letter in "%$\"'" for letter in str(self.prefix)):
            raise ValueError(f"the prefix must be a plain absolute path, not {str(self.prefix)!r}")

    @property
    def current(self) -> Path:
        """The link to the virtual environment in use."""
        return self.prefix / "current"

    @property
    def home(self) -> Path:
        """What the service may write below, and where encoders and indexes are."""
        return Path("/var/lib/cellvigil")

    @property
    def data(self) -> Path:
        """Store and state of this instance."""
        return self.home / self.instance if self.instance else self.home

    @property
    def config(self) -> Path:
        """The configuration file."""
        return Path("/etc/cellvigil") / f"{self.instance or 'config'}.yaml"

    @property
    def unit(self) -> str:
        """The unit's file name."""
        return "cellvigil@.service" if self.instance else "cellvigil.service"

    @property
    def service(self) -> str:
        """What systemctl is told."""
        return f"cellvigil@{self.instance}" if self.instance else "cellvigil"


def unit_text(shipped: str, layout: Layout) -> str:
    """The unit for this user and prefix. Raises ValueError where the shipped one has changed its form."""
    for before, after in (
        ("\nUser=cellvigil\n", f"\nUser={layout.user}\n"),
        ("\nExecStart=/opt/cellvigil/current/", f"\nExecStart={layout.current}/"),
    ):
        if shipped.count(before) != 1:
            raise ValueError(f"the shipped unit has no single line {before.strip()!r}")
        shipped = shipped.replace(before, after)
    return shipped


def config_text(shipped: str, layout: Layout) -> str:
    """The configuration with every key explained, its paths those of this installation. Raises ValueError as above."""
    for key, before, path in (
        ("state_dir: ", "state ", layout.data / "state"),
        ("  path: ", "store ", layout.data / "store"),
        ("  path: ", "encoders ", layout.home / "encoders"),
        ("  indexes: ", "indexes ", layout.home / "indexes"),
    ):
        if shipped.count(f"\n{key}{before}") != 1:
            raise ValueError(f"the shipped configuration has no single line {key + before!r}")
        shipped = shipped.replace(f"\n{key}{before}", f"\n{key}{path} ")
    return shipped


def next_steps(layout: Layout, *, running: bool) -> str:
    """What is left for a person to do."""
    as_user = f"runuser -u {layout.user} -- cellvigil"
    if running:
        return f"systemctl restart {layout.service}    # with the new version; it drains within ten seconds"
    return "\n".join(
        (
            "1. mount the microscope's share read-only      (docs/mounting.md)",
            f"2. $EDITOR {layout.config}      # sources: folder, kind, time zone, index",
            f"3. {as_user} check --config {layout.config}",
            f"4. systemctl enable --now {layout.service}",
            f"5. journalctl -fu {layout.service}",
        )
    )
