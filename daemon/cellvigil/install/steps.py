"""The steps of an installation, each of which may be done again: what is there already is left, or brought up to date.

Touches the machine: users, the prefix, /etc, /var/lib, /usr/local/bin, systemd. What each did, it says to `told`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cellvigil.errors import CellvigilError, UsageError
from cellvigil.install.layout import Layout, config_text, unit_text
from cellvigil.install.shipped import shipped

Told = Callable[[str], None]

UNITS = Path("/etc/systemd/system")


class InstallError(CellvigilError):
    """A step of the installation failed; what was done before it stands, and the same command goes on from there."""


def do(*command: str | Path, why: str) -> None:
    """Run a command. Raises InstallError that ends with the command's own last words."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    except FileNotFoundError:
        raise InstallError(f"{why}: {command[0]} is not there", hint="install its Debian package") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise InstallError(f"{why}: {' / '.join(words)}", where=str(command[0]))


def check_machine() -> None:
    """Raises UsageError where nothing can be installed."""
    if os.geteuid() != 0:
        raise UsageError("only root may install", hint="sudo cellvigil install ...")
    if not UNITS.is_dir():
        raise UsageError("this machine has no systemd", where=UNITS, hint="start `cellvigil run` by other means")


def add_user(layout: Layout, told: Told) -> None:
    """A system user without a password, a shell or a home of its own."""
    try:
        pwd.getpwnam(layout.user)
    except KeyError:
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", str(layout.home))
        do("useradd", *options, "--shell", "/usr/sbin/nologin", layout.user, why="the user cannot be made")
        told(f"user {layout.user}")


def make_folders(layout: Layout) -> None:
    """Data that the service writes, and configuration that it may only read."""
    ids = pwd.getpwnam(layout.user)
    for path, owner in (
        (layout.home, ids.pw_uid),
        (layout.home / "encoders", ids.pw_uid),
        (layout.home / "indexes", ids.pw_uid),
        (layout.data, ids.pw_uid),
        (layout.config.parent, 0),
    ):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, owner, ids.pw_gid)
        path.chmod(0o750)


def copy_bundles(layout: Layout, source: Path, told: Told) -> None:
    """Encoders and indexes that a bundle brings, where the machine has none of that name."""
    ids = pwd.getpwnam(layout.user)
    for kind in ("encoders", "indexes"):
        for folder in sorted(path for path in (source / kind).glob("*") if (path / "manifest.json").is_file()):
            target = layout.home / kind / folder.name
            if target.exists():
                continue
            unfinished = target.with_name(f".{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(folder, unfinished)
            for path in (unfinished, *unfinished.rglob("*")):
                os.chown(path, ids.pw_uid, ids.pw_gid)
            unfinished.rename(target)
            told(f"{target}")


def write_config(layout: Layout, told: Told) -> None:
    """A configuration to fill in, unless there is one."""
    if layout.config.exists():
        return
    write_whole(layout.config, config_text(shipped("config.yaml"), layout), 0o640)
    os.chown(layout.config, 0, pwd.getpwnam(layout.user).pw_gid)
    told(f"{layout.config}")


def write_unit(layout: Layout, told: Told) -> None:
    """The unit. One that differs is kept beside it: own settings belong into a drop-in."""
    path = UNITS / layout.unit
    text = unit_text(shipped(layout.unit), layout)
    if path.exists() and (before := path.read_text(encoding="utf-8")) != text:
        kept = path.with_name(f"{path.name}.before")
        write_whole(kept, before, 0o644)
        told(f"{kept}: the unit as it was; own settings belong into a drop-in: systemctl edit {layout.service}")
    write_whole(path, text, 0o644)
    if Path("/run/systemd/system").is_dir():
        do("systemctl", "daemon-reload", why="systemd does not take the unit")
    told(f"{path}")


def is_running(layout: Layout) -> bool:
    """Whether the service runs now."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return False
    return subprocess.run([systemctl, "is-active", "--quiet", layout.service], check=False).returncode == 0  # noqa: S603 - checked


def write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file so that whoever looks sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(path)
