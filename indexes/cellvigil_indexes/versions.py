"""A changed index is a new version of it; the old one stays beside it, whole, under its own number.

indexes/assay/       the newest version: what a daemon that names `assay` opens when it starts
indexes/assay.v1/    the first version, untouched; it opens like any other index
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellvigil.bundle import files
from cellvigil.bundle.index import ReferenceIndex, open_index
from cellvigil.errors import BundleError
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.writing import write_index


def succeed(index: ReferenceIndex, draft: Draft, change: str, *, now: datetime | None = None) -> ReferenceIndex:
    """Write `draft` in the place of `index`, which moves to NAME.v<its version>; open and return the new one.

    The new one is written whole under another name first; then two renames put both into place. Between them, for a
    moment, there is no index of that name; a crash there leaves NAME.v<n> and NAME.next, both whole, and whoever
    opens NAME next is told so. `change` says in a few words what was done ("tuned", "3 cells added").

    Raises BundleError if the index is itself a kept old version, or the names that are needed are taken.
    """
    folder, version = Path(os.path.abspath(index.folder)), version_of(index)  # noqa: PTH100 - "." too has a name then
    kept = folder.with_name(f"{folder.name}.v{version}")
    fresh = folder.with_name(f"{folder.name}.next")
    if _is_old(folder):
        hint = f"change {folder.name.rpartition('.v')[0]}, or copy this one to another name"
        raise BundleError(f"{folder.name} is a kept old version and stays as it is", where=folder, hint=hint)
    for taken in (kept, fresh):
        if taken.exists():
            hint = "a change was cut off or done by hand: look at it, and move it away"
            raise BundleError(f"{taken.name} is there already", where=taken, hint=hint)
    entry = {
        "version": version,
        "sha256": index.sha256,
        "change": index.manifest.get("change", "built"),
        "cells": len(index),
        "kept_as": kept.name,
        "succeeded_at": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
    }
    write_index(fresh, replace(draft, history=[*draft.history, entry], change=change), name=folder.name)
    folder.rename(kept)
    fresh.rename(folder)
    files.fsync_folder(folder.parent)
    return open_index(folder)


def version_of(index: ReferenceIndex) -> int:
    """1 for an index as it was built, one more with every change."""
    return int(index.manifest.get("version", 1))


def history_of(index: ReferenceIndex) -> list[Mapping[str, Any]]:
    """One entry a former version, the first one first; see `succeed`."""
    return list(index.manifest.get("history", []))


def _is_old(folder: Path) -> bool:
    """Whether the folder is a former version that stands beside its successor."""
    name, dot, number = folder.name.rpartition(".v")
    return bool(dot) and number.isdigit() and (folder.with_name(name) / files.MANIFEST).is_file()
