"""An alignment made into an index that the daemon calls by: in memory, for scoring, or as a bundle on disk.

The references are those that were kept, under their own vectors; every voter sees them through vectors of its own (the
optimal-transport paper, sections 3.3 and 3.4). What is known of certainty on the old device is not carried over: there
is no probability, no set and no confusion. Novelty rests on `witnesses`: cells of the target that had no part in the
fit (see `witnessing`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.bundle.calibration import Calibration
from cellvigil.bundle.confusion import IndexConfusion
from cellvigil.bundle.index import ReferenceIndex
from cellvigil.bundle.index_manifest import check_classes
from cellvigil.bundle.origin import original_of
from cellvigil.bundle.voters import check_voters
from cellvigil.data import I16, I32, U8, Embeddings, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes import aligned_files
from cellvigil_indexes.aligned_voters import joined, voters_of
from cellvigil_indexes.aligning.values import Alignment
from cellvigil_indexes.witnessing import witnessed

TARGET = "target"
"""Image and group of a reference that is a cell of the target itself."""

_NO_LABELS = "it was aligned to another device, of which no cell has a label"


def aligned_index(
    index: ReferenceIndex,
    alignment: Alignment,
    *,
    witnesses: Embeddings | None = None,
    target_provenance: Mapping[str, Any] | None = None,
) -> ReferenceIndex:
    """The aligned index, in memory: called like any other through `neighbours.open_search`.

    Args:
        index: what was aligned; without voters of its own.
        alignment: its kept rows in their order, then its extra cells, become the references.
        witnesses: encoder -> (m, d_e) cells of the target that the fit did not see; None: there is no novelty.
        target_provenance: what the target is, for a person; JSON values.

    Returns:
        An index of classes `alignment.classes`, then those that only extra cells are of (in group "none"). Its folder
        is the old index's: what a row's picture was is `reference_cells(index)[alignment.rows[row]]`.

    Raises UsageError for an index that is aligned already, and for an alignment that does not fit it or has vectors
    that cannot be compared; BundleError for class names that cannot be.
    """
    if index.voters:
        what = f"index {index.name} is aligned already"
        raise UsageError(what, hint=f"align the original, {original_of(index)}, to the new target")
    parent = _parent(index, alignment)
    check_classes(parent.classes, parent.groups, where=index.folder)
    whole = replace(parent, voters=voters_of(parent, alignment))
    check_voters(whole)
    whole = witnessed(whole, witnesses)
    manifest = aligned_files.manifest_of(whole, index, alignment, target_provenance or {})
    return replace(whole, manifest=manifest, sha256=_digest(whole, index))


def write_aligned(
    folder: Path,
    index: ReferenceIndex,
    alignment: Alignment,
    *,
    target_provenance: Mapping[str, Any] | None = None,
    witnesses: Embeddings | None = None,
    replace: bool = False,
    name: str = "",
) -> ReferenceIndex:
    """Write the aligned index as the bundle `folder`, whole or not at all; open and return it.

    `replace`: in the place of a bundle that is there; `name`: default as the folder. The rest as for `aligned_index`,
    and so are the errors; BundleError as `files.written_whole` too, UsageError for the folder of the index itself.
    """
    if folder.resolve() == index.folder.resolve():
        raise UsageError("an index is never changed in place", where=folder, hint="choose another name")
    whole = aligned_index(
        index,
        alignment,
        witnesses=witnesses,
        target_provenance=target_provenance,
    )
    cells = aligned_files.cells_of(index, alignment, TARGET)
    return aligned_files.write(folder, whole, cells, target=witnesses or {}, replace=replace, name=name or folder.name)


def _parent(index: ReferenceIndex, alignment: Alignment) -> ReferenceIndex:
    """The references under their own vectors, without voters, certainty or axes."""
    rows, extra = np.asarray(alignment.rows, dtype=np.int64), alignment.extra_labels
    if not len(rows) or rows.min() < 0 or rows.max() >= len(index):
        raise UsageError(f"the alignment is of other cells than index {index.name} holds")
    classes = tuple(dict.fromkeys((*alignment.classes, *extra)))
    used = {name for plan in alignment.voters for name in plan.encoders}
    encoders = tuple(
        replace(e, scale=1.0, used=True) for e in (*index.encoders, *index.spare_encoders) if e.name in used
    )
    if strange := used - {encoder.name for encoder in encoders}:
        raise UsageError(f"index {index.name} holds no vectors of {', '.join(sorted(strange))}")
    return replace(
        index,
        classes=classes,
        groups={name: index.groups.get(name, "none") for name in classes},
        encoders=encoders,
        spare_encoders=(),
        search="exact",
        calibration=_calibration(None, "no target cells were kept out of the fit"),
        confusion=IndexConfusion(None, None, {"why_not": _NO_LABELS}),
        embeddings={e.name: joined(index.embeddings[e.name][rows], e, alignment) for e in encoders},
        projections={},
        projected={},
        norms=None,
        labels=_labels(index, alignment, classes),
        cell_groups=_groups(index, alignment),
        novelty=frozen_array(np.full(len(rows) + len(extra), np.nan, dtype=np.float32)),
        thumbnails=_thumbnails(index, alignment),
    )


def _labels(index: ReferenceIndex, alignment: Alignment, classes: tuple[str, ...]) -> I16:
    ids = {name: class_id for class_id, name in enumerate(classes)}
    kept = np.array([ids.get(name, -1) for name in index.classes], dtype=np.int16)
    own = kept[index.labels[alignment.rows]]
    if (own < 0).any():
        gone = sorted({index.classes[c] for c in np.unique(index.labels[alignment.rows][own < 0])})
        raise UsageError(f"the alignment keeps cells of {', '.join(gone)} but not the class")
    return frozen_array(np.concatenate([own, [ids[name] for name in alignment.extra_labels]]), dtype=np.int16)


def _groups(index: ReferenceIndex, alignment: Alignment) -> I32:
    """The target's own cells are one group: they come from one place."""
    _, own = np.unique(index.cell_groups[alignment.rows], return_inverse=True)
    extra = np.full(len(alignment.extra_labels), own.max() + 1)
    return frozen_array(np.concatenate([own, extra]), dtype=np.int32)


def _thumbnails(index: ReferenceIndex, alignment: Alignment) -> U8:
    """Of a cell that came without a picture a blank one."""
    blank = np.full((len(alignment.extra_labels), *index.thumbnails.shape[1:]), 127, dtype=np.uint8)
    return frozen_array(np.concatenate([index.thumbnails[alignment.rows], blank]))


def _calibration(novel_below: float | None, why_not: str) -> Calibration:
    """What stands in place of certainty: reasons, and the novelty below which a cell may be called unknown."""
    nothing = {"why_not": _NO_LABELS}
    return Calibration(
        None, None, novel_below, {"confidence": nothing, "conformal": nothing, "novelty": {"why_not": why_not}}
    )


def _digest(whole: ReferenceIndex, index: ReferenceIndex) -> str:
    """An identity for an index that is on no disk: of the old index and all that a call depends on."""
    digest = hashlib.sha256(index.sha256.encode())
    digest.update(repr((whole.classes, [(v.name, v.weight, v.space) for v in whole.voters])).encode())
    for block in (whole.labels, whole.novelty, *(b for v in whole.voters for b in v.index.embeddings.values())):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
