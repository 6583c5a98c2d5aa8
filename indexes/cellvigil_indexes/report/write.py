"""Writes a report: a page appears whole or not at all. Reads an index, writes one file outside its bundle."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.errors import UsageError
from cellvigil_indexes.report.findings import Tell, as_dict, find
from cellvigil_indexes.report.page import page


def write_report(index: ReferenceIndex, target: Path, *, projection: str, now: datetime, tell: Tell) -> dict[str, Any]:
    """Write the page of an index to `target`, replacing an older one; returns all its numbers.

    Args:
        index: the index.
        target: the file; its folder is made.
        projection: "auto", "umap" or "pca".
        now: said on the page.
        tell: told each step as it begins.

    Raises UsageError for a target inside the index's bundle (which is immutable) or that is a folder, and for what is
    not installed; BundleError for a bundle that cannot be read; OSError.
    """
    if target.resolve().is_relative_to(index.folder.resolve()):
        raise UsageError("a report does not belong into the index's bundle", where=target, hint="name another --html")
    if target.is_dir():
        raise UsageError("this is a folder", where=target, hint="name a file with --html")
    found = find(index, projection, tell)
    tell("drawing")
    text = page(found, now)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    fresh.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
    fresh.replace(target)
    return as_dict(found, target)
