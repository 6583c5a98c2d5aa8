"""File systems that come and go: in memory, or another folder seen in a second place. Needs the right to mount."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def mount_refused() -> str:
    """Why this process may not mount a file system in memory; "" if it may."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            mounted(Path(folder), 1)
        except (PermissionError, FileNotFoundError) as error:
            return str(error)
        unmounted(Path(folder))
    return ""


def mounted(folder: Path, size_mb: int) -> None:
    """A file system in memory of so many MB on `folder`. Raises PermissionError where this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder))


def bound(source: Path, folder: Path) -> None:
    """`folder` shows what is in `source`. Raises PermissionError where this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("mount", "--bind", str(source), str(folder))


def unmounted(folder: Path) -> None:
    """Take a mount away, also while somebody has files open below it."""
    _mount("umount", "-l", str(folder))


def _mount(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"{' '.join(command)}: {done.stderr.strip()}")
