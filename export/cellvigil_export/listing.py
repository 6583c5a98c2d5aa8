"""What can be exported, as a table for a person and as rows for a program. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cellvigil.bundle.licences import not_commercial
from cellvigil_export.declaration import Declaration
from cellvigil_export.segmenters import SEGMENTERS
from cellvigil_export.zoo import ENCODERS

_FORBIDS = re.compile(r"-NC(?:-|$)|non-?commercial", re.IGNORECASE)  # Creative Commons' sign, and others' words
_COLUMNS = (
    "name",
    "kind",
    "dimension",
    "input_size",
    "channels",
    "licence",
    "commercial use",
    "weights",
    "refuses",
    "checkpoint",
)


def listed() -> list[dict[str, Any]]:
    """One row an encoder and segmenter."""
    encoders = [{"kind": "encoder", **described(declaration)} for declaration in ENCODERS.values()]
    return encoders + [{"kind": "segmenter", **described(declaration)} for declaration in SEGMENTERS.values()]


def described(declaration: Declaration) -> dict[str, Any]:
    """A declaration as a row."""
    licences = {"upstream": declaration.licences.upstream, "weights": declaration.licences.weights}
    return {
        "name": declaration.name,
        "checkpoint": declaration.checkpoint,
        "page": declaration.page,
        "vector": declaration.vector,
        "dimension": declaration.dimension,
        "input_size": declaration.input_size,
        "channels": declaration.channels,
        "licences": licences,
        "not_commercial": not_commercial({"licences": licences}),
        "weights": "packaged" if declaration.packaged else "hub" if declaration.hub else "file",
        "refuses": dict(declaration.refuses),
        "needs_torch": declaration.needs_torch,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` of `listed`, for a person to read."""
    cells = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    where = "weights: packaged = of an installed package; hub = fetched; file = --weights PATH, brought by you"
    return "\n".join((*lines, "", where))


def commercial_use(row: Mapping[str, Any]) -> str:
    """In a word: "yes", "NO", or "not stated" where a licence does not say that much."""
    if not row["not_commercial"]:
        return "yes"
    return "NO" if any(_FORBIDS.search(name) for name in row["licences"].values()) else "not stated"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    upstream, weights = row["licences"]["upstream"], row["licences"]["weights"]
    told = {
        **row,
        "licence": upstream if upstream == weights else f"{upstream} (weights: {weights})",
        "commercial use": commercial_use(row),
        "refuses": ", ".join(row["refuses"]) or "-",
    }
    return tuple(str(told[column]) for column in _COLUMNS)
