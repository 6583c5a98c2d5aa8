"""What lies in a plate's folder and no journal line accounts for, and what should lie there and does not. Only looks.

Opening moves or makes these (`recover`); this tells of them without touching anything, in a store that a daemon may be
writing.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from cellvigil.store.commit import TEMPORARY
from cellvigil.store.verify import Census

_SETTLED_S = 60.0
"""What is younger may be a commit on its way."""


def strays(census: Census) -> tuple[list[Path], list[Path]]:
    """(chunks that no journal line names, unfinished temporary files), those over a minute old."""
    committed = {one.path: one.committed for one in census.plate.fields.values()}
    chunks: list[Path] = []
    temporary: list[Path] = []
    for parent, _, files in os.walk(census.folder):
        inside = Path(parent).relative_to(census.folder).parts
        slots = committed.get("/".join(inside[:3]), set())
        for name in files:
            if name.startswith(TEMPORARY):
                temporary.append(Path(parent, name))
            elif name.startswith("c.") and _slot(name) not in slots:
                chunks.append(Path(parent, name))
    return [path for path in chunks if _is_settled(path)], [path for path in temporary if _is_settled(path)]


def documents_missing(census: Census) -> int:
    """How many zarr.json files are absent or no JSON."""
    plate = census.plate
    if not plate.fields or plate.geometry is None:
        return 0
    folders = [census.folder / name for name in plate.listing_files()]
    for one in plate.fields.values():
        folders += [census.folder / one.path / name for name in plate.field_files(one)]
    return sum(not _is_document(folder / "zarr.json") for folder in folders)


def _slot(name: str) -> int:
    part = name.split(".")[1]
    return int(part) if part.isdigit() else -1


def _is_settled(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _SETTLED_S
    except OSError:
        return False  # it is gone by now


def _is_document(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
