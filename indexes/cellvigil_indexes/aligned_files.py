"""An aligned index as files: what `cellvigil.bundle.voters` reads, written whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import cellvigil
from cellvigil.bundle import files
from cellvigil.bundle.calibration import calibration_as_dict
from cellvigil.bundle.confusion import confusion_as_dict
from cellvigil.bundle.index import ReferenceCell, ReferenceIndex, Voter, open_index, reference_cells
from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    CELLS,
    KIND,
    LABELS,
    NORMS,
    NOVELTY,
    NOVELTY_LABELS,
    SCHEMA_VERSION,
    THUMBNAILS,
    embeddings_file,
    rule_as_dict,
)
from cellvigil.bundle.projection import projected_file, write_projection
from cellvigil.bundle.voters import voter_folder
from cellvigil.data import F32, Array, Embeddings
from cellvigil.errors import UsageError
from cellvigil.neighbours.tables import squared_norms
from cellvigil_indexes.aligning.recorded import record_of
from cellvigil_indexes.aligning.values import Alignment
from cellvigil_indexes.writing import write_table

DRAWN = 500
"""Cells of the target whose vectors the bundle keeps, for `report`'s pictures: a few, evenly spread."""


def target_file(encoder: str) -> str:
    """Where those cells' vectors by one encoder are: (m, d_e) f32. No call looks at them."""
    return f"target_{encoder}.npy"


def write(
    folder: Path,
    index: ReferenceIndex,
    cells: Sequence[ReferenceCell],
    *,
    target: Embeddings,
    replace: bool,
    name: str,
) -> ReferenceIndex:
    """Write an index with voters, called `name`, into `folder`; open and return it. `target`: cells of the target.

    Raises BundleError as `files.written_whole` does.
    """
    with files.written_whole(folder, replace=replace) as work:
        for encoder in index.encoders:
            np.save(work / embeddings_file(encoder.name), index.embeddings[encoder.name])
        np.save(work / NORMS, np.stack([squared_norms(index.embeddings[e.name]) for e in index.encoders]))
        np.save(work / LABELS, index.labels)
        np.save(work / CELL_GROUPS, index.cell_groups)
        np.save(work / NOVELTY, index.novelty)
        if index.novelty_labels is not None:
            np.save(work / NOVELTY_LABELS, index.novelty_labels)
        np.save(work / THUMBNAILS, index.thumbnails)
        write_table(work / CELLS, cells)
        for encoder in index.encoders:
            if encoder.name in target:
                np.save(work / target_file(encoder.name), _spread(target[encoder.name]))
        for number, voter in enumerate(index.voters):
            _write_voter(work, index, number, voter)
        files.write_manifest(work, {**index.manifest, "name": name})
    return open_index(folder)


def _spread(block: Array) -> F32:
    return np.asarray(block[:: -(-len(block) // DRAWN) or 1], dtype=np.float32)


def manifest_of(
    whole: ReferenceIndex, index: ReferenceIndex, alignment: Alignment, target: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything but the files, which `write` adds."""
    counts = Counter(np.asarray(whole.labels).tolist())
    of = {"name": index.name, "sha256": index.sha256, "version": int(index.manifest.get("version", 1))}
    source = index.manifest.get("provenance", {})
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "name": whole.name,
        "version": 1,
        "change": f"aligned from {index.name}, version {of['version']}",
        "classes": list(whole.classes),
        "counts": {name: counts[class_id] for class_id, name in enumerate(whole.classes)},
        "groups": dict(whole.groups),
        "encoders": [asdict(encoder) for encoder in whole.encoders],
        "image_rule": rule_as_dict(whole.image_rule),
        "k_min": whole.k_min,
        "k_max": whole.k_max,
        "threshold": whole.threshold,
        "reweight": whole.reweight,
        "scaling": "none",
        "metric": whole.metric,
        "search": "exact",
        "search_wanted": "exact",
        "search_why": "every voter looks at every reference cell",
        "storage": "float32",
        "provenance": {
            **source,
            "cellvigil": cellvigil.__version__,
            "aligned_from": f"{index.name} {index.sha256[:12]}",
        },
        "tuning": None,
        "history": [],
        "evaluation": None,
        "calibration": None if whole.calibration is None else calibration_as_dict(whole.calibration),
        "confusion": None if whole.confusion is None else confusion_as_dict(whole.confusion),
        "voters": entries(whole),
        "alignment": {"of": of, "target": dict(target), **record_of(alignment, index.classes)},
    }


def cells_of(index: ReferenceIndex, alignment: Alignment, target: str) -> list[ReferenceCell]:
    """Where each reference of the aligned index came from. Raises UsageError for an index that is only in memory."""
    known = reference_cells(index)
    if len(known) != len(index):
        what = f"{len(index)} cells of index {index.name} are in memory, {len(known)} on disk"
        raise UsageError(what, hint="align the whole index, as it is on disk")
    extra = [ReferenceCell(name, target, (0, 0, 0, 0), target) for name in alignment.extra_labels]
    return [*(known[row] for row in np.asarray(alignment.rows).tolist()), *extra]


def entries(index: ReferenceIndex) -> list[dict[str, Any]]:
    """The voters as the manifest names them."""
    return [
        {
            "name": voter.name,
            "weight": voter.weight,
            "space": voter.space,
            "scaling": scaling_of(voter),
            "metric": voter.index.metric,
            "encoders": [{"name": e.name, "scale": e.scale} for e in voter.index.encoders],
            "embeddings": {e.name: _path(index, number, e.name) for e in voter.index.encoders},
        }
        for number, voter in enumerate(index.voters)
    ]


def scaling_of(voter: Voter) -> str:
    """One of `settings.SCALINGS`."""
    if voter.index.projections:
        return "discriminant"
    return "unit" if any(encoder.scale != 1 for encoder in voter.index.encoders) else "none"


def _path(index: ReferenceIndex, number: int, encoder: str) -> str:
    """The file with a voter's vectors: the index's own, or an earlier voter's, where they are the very same array."""
    block = index.voters[number].index.embeddings[encoder]
    if block is index.embeddings[encoder]:
        return embeddings_file(encoder)
    for earlier, voter in enumerate(index.voters[:number]):
        if voter.index.embeddings.get(encoder) is block:
            return f"{voter_folder(earlier)}/{embeddings_file(encoder)}"
    return f"{voter_folder(number)}/{embeddings_file(encoder)}"


def _write_voter(work: Path, index: ReferenceIndex, number: int, voter: Voter) -> None:
    own = work / voter_folder(number)
    own.mkdir(parents=True)
    for name, block in voter.index.embeddings.items():
        path = work / _path(index, number, name)
        if path.parent == own:
            np.save(path, block)
    for name, projection in voter.index.projections.items():
        write_projection(own, name, projection)
        np.save(own / projected_file(name), voter.index.projected[name])
