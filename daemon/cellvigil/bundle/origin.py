"""What an index was made of, where it is the version of another one that was carried to a microscope."""

from __future__ import annotations

from typing import Any

from cellvigil.bundle.reference import ReferenceIndex


def aligned_from(index: ReferenceIndex) -> str:
    """The sha256 of the index that this one was aligned from; "" for one that is no aligned version."""
    return _told(index, "sha256")


def original_of(index: ReferenceIndex) -> str:
    """The name of the index that an aligned one was made of, for a hint; "its original" where nobody says."""
    return _told(index, "name") or "its original"


def _told(index: ReferenceIndex, key: str) -> str:
    of: Any = (index.alignment or {}).get("of")
    return str(of.get(key, "")) if isinstance(of, dict) else ""
