"""What a report says of an aligned index's alignment: its record, and its cells before and after on a sheet of paper.

Reads the open index and the few cells of the target that its bundle keeps; makes nothing up where they are not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.bundle.index import ReferenceIndex, Voter
from cellvigil.data import F32, I16, Array, Embeddings
from cellvigil.errors import BundleError
from cellvigil_indexes.aligned_files import target_file
from cellvigil_indexes.aligning.values import ALIGNED
from cellvigil_indexes.report.principal import components
from cellvigil_indexes.report.projection import PCA_FIRST, Method, project
from cellvigil_indexes.sampling import sampled

DRAWN = 600
"""Reference cells that are projected with the target's: a seeded sample that keeps every class."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """References and target cells in one space, in two dimensions."""

    title: str
    references: F32  # (n, 2)
    labels: I16  # (n,) class ids
    target: F32  # (m, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """The alignment of an index."""

    record: Mapping[str, Any]  # manifest["alignment"]: see `aligning.recorded`
    voter: str  # whose space is drawn; "" where nothing is
    sheets: tuple[Sheet, ...]  # before and after; empty where the bundle keeps no cell of the target
    classes: tuple[str, ...]  # of the references that are drawn


def carried_of(index: ReferenceIndex, method: Method) -> Carried | None:
    """What to say and draw; None for an index that was not aligned. Raises BundleError for vectors that do not open."""
    record = index.manifest.get("alignment")
    if not isinstance(record, dict):
        return None
    voter = _drawn(index)
    target = {} if voter is None else _target(index, voter)
    if voter is None or not target:
        return Carried(record, "", (), index.classes)
    return Carried(record, voter.name, _sheets(index, voter, target, method), index.classes)


def _drawn(index: ReferenceIndex) -> Voter | None:
    """The heaviest voter in the aligned space: the most encoders among equals."""
    there = [voter for voter in index.voters if voter.space == ALIGNED]
    return max(there, key=lambda voter: (voter.weight, len(voter.index.encoders)), default=None)


def _target(index: ReferenceIndex, voter: Voter) -> Embeddings:
    """The cells of the target that the bundle keeps, by the voter's encoders; {} where one is missing."""
    found: dict[str, Array] = {}
    for encoder in voter.index.encoders:
        name = target_file(encoder.name)
        if name not in index.manifest["files"]:
            return {}
        try:
            found[encoder.name] = np.load(index.folder / name, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BundleError(f"{name} cannot be opened: {error}", where=index.folder, hint="align it again") from None
    return found


def _sheets(index: ReferenceIndex, voter: Voter, target: Embeddings, method: Method) -> tuple[Sheet, ...]:
    rows = sampled(index.labels, DRAWN)
    labels = np.asarray(index.labels[rows])
    sheets = []
    for title, vectors in (("Before", index.embeddings), ("After", voter.index.embeddings)):
        both = [
            np.concatenate([np.asarray(vectors[e.name][rows], np.float32), np.asarray(target[e.name], np.float32)])
            * np.float32(e.scale**0.5)
            for e in voter.index.encoders
        ]
        points = project(components(np.concatenate(both, axis=1), PCA_FIRST), method)
        sheets.append(Sheet(title, points[: len(rows)], labels, points[len(rows) :]))
    return tuple(sheets)
