"""Writes a reference index into a temporary folder that is then renamed: a reader sees a whole one or none."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cellvigil
from cellvigil import decide
from cellvigil.bundle import files
from cellvigil.bundle.index import IndexEncoder, ReferenceCell
from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    CELLS,
    CELLS_COLUMNS,
    KIND,
    LABELS,
    NOVELTY,
    SCHEMA_VERSION,
    THUMBNAILS,
    check_classes,
    embeddings_file,
    rule_as_dict,
)
from cellvigil.data import F32, U8, Embeddings, ImageRule
from cellvigil.neighbours import Search, mean_squared_distance
from cellvigil_indexes import leaveout


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How an index is to be searched; see `cellvigil.decide.Settings`."""

    k_min: int = 3
    k_max: int = 100
    threshold: float = 0.3
    reweight: bool = True
    scaling: str = "none"  # "none", or "unit": unit mean squared distance an encoder


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """Labelled cells with their vectors, ready to be written; row i of everything is cell i."""

    cells: Sequence[ReferenceCell]
    embeddings: Embeddings  # encoder name -> (N, d_e) f32
    thumbnails: U8  # (N, 64, 64, C)


def write_index(
    folder: Path,
    collected: Collected,
    *,
    groups: Mapping[str, str],
    encoders: Mapping[str, str],
    image_rule: ImageRule,
    settings: IndexSettings,
    provenance: Mapping[str, Any],
    replace: bool = False,
) -> None:
    """Write the index `folder` (its name is the index's).

    Args:
        folder: the bundle's folder; it must not exist unless `replace`.
        collected: the cells; their classes are those of `groups`.
        groups: class name -> group, in the order of class ids.
        encoders: encoder name -> sha256 of its bundle, in the order of concatenation.
        image_rule: how the cells' pictures were made.
        settings: depth, threshold, reweighting, scaling.
        provenance: where the cells came from, for a person.
        replace: put it in the place of an index of that name.

    Raises BundleError as `files.written_whole` and `check_classes` do.
    """
    check_classes(list(groups), groups, where=folder)
    scales = {name: _scale(collected.embeddings[name], settings.scaling) for name in encoders}
    members = [
        IndexEncoder(name, sha256, collected.embeddings[name].shape[1], scales[name])
        for name, sha256 in encoders.items()
    ]
    counts = Counter(cell.class_name for cell in collected.cells)
    manifest = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "name": folder.name,
        "classes": list(groups),
        "counts": {name: counts[name] for name in groups},
        "groups": dict(groups),
        "encoders": [asdict(member) for member in members],
        "image_rule": rule_as_dict(image_rule),
        "metric": "l2",
        **asdict(settings),
        "calibration": None,
        "provenance": {"cellvigil": cellvigil.__version__, **provenance},
    }
    with files.written_whole(folder, replace=replace) as work:
        evaluation = _write_arrays(work, collected, list(groups), members, settings)
        _write_cells(work / CELLS, collected.cells)
        files.write_manifest(work, {**manifest, "evaluation": evaluation})


def _scale(block: F32, scaling: str) -> float:
    """The factor that makes the mean squared distance 1; 1 where nothing is to be scaled or all cells are alike."""
    spread = mean_squared_distance(block) if scaling == "unit" else 1.0
    return 1.0 / spread if spread > 0 else 1.0


def _write_arrays(
    work: Path, collected: Collected, classes: Sequence[str], members: Sequence[IndexEncoder], settings: IndexSettings
) -> dict[str, Any] | None:
    """Write every array; returns what the cells say of each other, see `leaveout.evaluation`."""
    labels = np.array([classes.index(cell.class_name) for cell in collected.cells], dtype=np.int16)
    _, numbers = np.unique([cell.group for cell in collected.cells], return_inverse=True)
    groups = numbers.astype(np.int32)
    blocks = [collected.embeddings[member.name] for member in members]
    search = Search.of([member.name for member in members], blocks, [member.scale for member in members])
    near = search.leaving_out(groups, settings.k_max)
    for member, block in zip(members, blocks, strict=True):
        np.save(work / embeddings_file(member.name), block.astype(np.float32, copy=False))
    np.save(work / LABELS, labels)
    np.save(work / CELL_GROUPS, groups)
    np.save(work / NOVELTY, leaveout.novelty(near, settings.k_min))
    np.save(work / THUMBNAILS, collected.thumbnails)
    rule = decide.Settings(settings.k_min, settings.k_max, settings.threshold, settings.reweight)
    return leaveout.evaluation(near, labels, groups, classes, rule)


def _write_cells(path: Path, cells: Sequence[ReferenceCell]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CELLS_COLUMNS)
        writer.writerows([i, c.class_name, c.group, c.image, *c.box_px] for i, c in enumerate(cells))
