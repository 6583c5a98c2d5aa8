"""The program itself: a virtual environment a version, and a link to the one in use. Touches prefix and /usr/local/bin.

A new version is built beside the old one and taken up in one step, the link's; going back is moving the link back.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cellvigil import __version__
from cellvigil.errors import UsageError
from cellvigil.install.layout import COMMANDS, Layout
from cellvigil.install.steps import Told, do

KEPT = 2
"""Versions that stay: the one in use, and the one before it."""

_BIN = Path("/usr/local/bin")


def make_program(layout: Layout, source: Path, extra: str, told: Told) -> Path:
    """Install Cellvigil into a virtual environment of its own and point `current` at it; returns its folder.

    `source`: what `make bundle` made (nothing is fetched then), or a source tree; every package must have the hash that
    its lock file gives. A service that runs meanwhile keeps the files it has open. Raises
    UsageError for another `source`, InstallError; then nothing of the new version is left.
    """
    wanted = _pip_arguments(source, extra)
    names = (__version__, *(f"{__version__}-{number}" for number in range(2, 1000)))
    venv = next(folder for name in names if not (folder := layout.prefix / name).exists())
    layout.prefix.mkdir(parents=True, exist_ok=True)
    # Once before the minutes: a Python below /root, or of a person's own, is none that a service can run.
    python = Path(sys.executable).resolve()
    why = f"{layout.user} may not run {python}; install with the system's: /usr/bin/python3"
    do("runuser", "-u", layout.user, "--", python, "-c", "", why=why)
    told(f"{venv}: installing, which takes minutes")
    try:
        do(python, "-m", "venv", venv, why="no virtual environment can be made (apt install python3-venv)")
        for arguments in wanted:
            pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            do(*pip, *arguments, why="the program cannot be installed")
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        raise
    before = layout.current.resolve()
    _point(layout.current, Path(venv.name))
    for command in COMMANDS:
        _point(_BIN / command, layout.current / "bin" / command)
    _forget(layout.prefix, {venv, before})
    return venv


def _pip_arguments(source: Path, extra: str) -> Sequence[Sequence[str | Path]]:
    """What pip is asked to install, in turn."""
    wheels = sorted((source / "wheels").glob("cellvigil-*.whl"))
    if wheels:
        offline = ("--no-index", "--find-links", source / "wheels")
        lock = source / "requirements.lock"
        return ((*offline, "--require-hashes", "-r", lock), (*offline, "--no-deps", wheels[-1]))
    if (source / "pyproject.toml").is_file():
        lock = source / ("requirements.lock" if extra == "cpu" else f"requirements-{extra}.lock")
        return (("--require-hashes", "-r", lock), ("--no-deps", source.resolve()))
    what = "this is neither an offline bundle nor a source tree"
    raise UsageError(what, where=source, hint="give with --from what `make bundle` made")


def _point(link: Path, target: Path) -> None:
    """Make or move a symbolic link, in one step."""
    if link.exists() and not link.is_symlink():
        raise UsageError("this is in the way, and no link of ours", where=link, hint="move it away")
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _forget(prefix: Path, keep: set[Path]) -> None:
    """Remove the oldest environments beyond `KEPT`."""
    folders = [path for path in prefix.iterdir() if (path / "pyvenv.cfg").is_file() and not path.is_symlink()]
    spare = sorted((path for path in folders if path not in keep), key=lambda path: path.stat().st_mtime)
    for folder in spare[: max(0, len(folders) - KEPT)]:
        shutil.rmtree(folder, ignore_errors=True)
