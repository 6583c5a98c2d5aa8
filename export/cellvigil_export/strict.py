"""A checkpoint fits a network when it has exactly its tensors: none missing, none left over, each of its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cellvigil.errors import BundleError

Shape = tuple[int, ...]


def check_tensors(found: Mapping[str, Shape], expected: Mapping[str, Shape], *, of: str, where: Path) -> None:
    """Raises BundleError, listing what differs, unless the checkpoint at `where` has exactly the `expected` tensors.

    `of` names the network that it should be a checkpoint of.
    """
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": sorted(key for key in expected.keys() & found.keys() if found[key] != expected[key]),
    }
    refuse(wrong, of=of, where=where)


def refuse(wrong: Mapping[str, Sequence[str]], *, of: str, where: Path) -> None:
    """Raises BundleError, listing `wrong` (names of tensors by what is the matter with them), unless it is empty."""
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in wrong.items() if keys)
        raise BundleError(f"the checkpoint is not {of} ({listed})", where=where)
