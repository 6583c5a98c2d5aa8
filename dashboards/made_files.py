"""Writing what is made from code, or saying that it is not up to date. Touches the folder it is given."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def keep(files: Mapping[str, str], out: Path, *, check: bool, again: str) -> int:
    """Write every file (name -> text) into `out`; with `check` write nothing, and name on standard error those that are
    stale, and the command `again` that makes them anew. Returns the exit code.
    """
    if check:
        stale = [out / name for name, text in files.items() if not _holds(out / name, text)]
        for path in stale:
            sys.stderr.write(f"{path} is stale: run {again}\n")
        return 1 if stale else 0
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
