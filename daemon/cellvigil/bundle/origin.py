"""What an index was made of, where it is the version of another one that was carried to a microscope."""

from __future__ import annotations

from typing import Any

from cellvigil.bundle.reference import ReferenceIndex


def aligned_from(index: ReferenceIndex) -> str:
    """The sha256 of the index that this one was aligned from; "" for one that is no aligned version."""
    told: Any = index.manifest.get("alignment")
    of = told.get("of") if isinstance(told, dict) else None
    return str(of.get("sha256", "")) if isinstance(of, dict) else ""
