"""What an index's manifest says, and what its files are called: shared by who reads an index and who writes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cellvigil.data import GROUPS, UNKNOWN, ClaheRule, ImageRule, IntensityRule
from cellvigil.errors import BundleError

KIND = "index"
SCHEMA_VERSION = 3
READABLE = (1, 2, 3)  # schema versions; 1 knew no Canberra, graph, half precision, calibration or spare encoders
WITHOUT_VOTERS = 2
"""What an index without voters is written as: it holds nothing that a reader of that version does not know.

One with voters is of version 3, so that an older daemon refuses it: it would call by vectors of another device."""
LABELS = "labels.npy"
CELL_GROUPS = "groups.npy"
NOVELTY = "novelty.npy"
NOVELTY_LABELS = "novelty_labels.npy"
THUMBNAILS = "thumbnails.npy"
NORMS = "norms.npy"
GRAPH = "graph.faiss"
GRAPH_NODES = "graph_nodes.npy"
SET_ASIDE = "set_aside"
CELLS = "cells.csv"
CELLS_COLUMNS = ("id", "class", "group", "image", "y0", "x0", "y1", "x1")
THUMBNAIL_PX = 64
REMAKE = "build the index again"
REALIGN = "align the index again"


def embeddings_file(encoder: str) -> str:
    """The name of the file with one encoder's embeddings."""
    return f"embeddings_{encoder}.npy"


def check_classes(classes: Sequence[str], groups: Mapping[str, str], *, where: str | Path = "") -> None:
    """Class names are there, unique whatever their case, never "unknown"; every one has a known group.

    Raises BundleError that says which is not.
    """
    seen: dict[str, str] = {}
    for name in classes:
        folded = name.strip().casefold()
        if not folded:
            raise BundleError("a class has no name", where=where, hint="name it")
        if folded == UNKNOWN:
            raise BundleError(f"no class may be called {name!r}: it is what rejected cells are called", where=where)
        if folded in seen:
            raise BundleError(f"classes {seen[folded]!r} and {name!r} differ only in case", where=where)
        seen[folded] = name
    if not classes:
        raise BundleError("there is no class", where=where)
    if set(groups) != set(classes) or not set(groups.values()) <= set(GROUPS):
        raise BundleError(f"every class needs one of the groups {', '.join(GROUPS)}", where=where)


_OF_CHANNELS = ("channels", "per_channel")
"""What only an image rule of channels has: manifests, and so hashes, of all others know nothing of it."""


def rule_as_dict(rule: ImageRule) -> dict[str, Any]:
    """An image rule as plain values for a manifest."""
    values = {**asdict(rule), "channels": list(rule.channels)}
    idle = (() if rule.channels else _OF_CHANNELS) + (("turns",) if rule.turns == 1 else ())
    return {name: value for name, value in values.items() if name not in idle}


def rule_from_dict(values: Mapping[str, Any]) -> ImageRule:
    """The image rule that a manifest holds.

    Raises TypeError or KeyError for keys that are unknown or missing, ValueError for a rule that contradicts itself.
    """
    clahe = values["clahe"]
    rest = {key: value for key, value in values.items() if key not in ("intensity", "clahe", "channels")}
    return ImageRule(
        intensity=IntensityRule(**values["intensity"]),
        clahe=ClaheRule(**clahe) if clahe else None,
        channels=tuple(values.get("channels", ())),
        **rest,
    )
