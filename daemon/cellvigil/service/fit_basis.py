"""What a source's fit is for, and how it is asked of `cellvigil-index align`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellvigil import config
from cellvigil.bundle.origin import original_of
from cellvigil.bundle.reference import ReferenceIndex
from cellvigil.errors import UsageError
from cellvigil.service.fits import Fits

_ROOM = 4  # times the index: 1.5 was seen with mode states, 3.1 with types


def basis_of(source: config.Source, index: ReferenceIndex) -> dict[str, Any]:
    """What a fit of the source is for, as JSON values: one of another basis does not stand.

    `present` is spelled out for states. Raises UsageError for a class that the index does not have, and for an index
    that was aligned to a microscope already: no fit is made of one.
    """
    align, states = source.align, source.align.mode == "states"
    if index.voters:
        hint = f"name the index that it was made of, {original_of(index)}, or set its align.mode to off"
        raise UsageError(f"index {index.name} is aligned already", where=source.name, hint=hint)
    if strange := [name for name in align.present if name not in index.classes]:
        hint = f"index {index.name} has {', '.join(index.classes)}"
        raise UsageError(f"sources[].align.present names {', '.join(strange)}", where=source.name, hint=hint)
    alive = [name for name in index.classes if index.groups.get(name) == "alive"]
    present = list(align.present or alive) if states else []
    if states and not present:
        hint = "say in sources[].align.present which classes are in those wells"
        raise UsageError(f"index {index.name} has no class of group alive", where=source.name, hint=hint)
    return {"index": index.sha256, "mode": align.mode, "present": present, "wells": align.wells if states else ""}


def room_for(index: ReferenceIndex) -> int:
    """Bytes that an aligned version of the index may take: each voter has vectors of its own."""
    return _ROOM * sum(path.stat().st_size for path in index.folder.rglob("*") if path.is_file())


def arguments(basis: Mapping[str, Any], index: ReferenceIndex, store: Path, fits: Fits, number: int) -> list[str]:
    """The command line of a fit, behind `cellvigil-index`."""
    present = [word for name in basis["present"] for word in ("--present", name)]
    cells = ["--store", str(store.resolve()), "--rows", str(fits.table(number).resolve())]
    to = ["--to", str(fits.bundle(number).resolve()), "--json"]
    return ["align", str(index.folder.resolve()), *cells, "--mode", basis["mode"], *present, *to]
