"""The arrays of an index: opened memory-mapped and read-only, and held against what its manifest says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellvigil.bundle.index_manifest import (
    CELL_GROUPS,
    LABELS,
    NORMS,
    NOVELTY,
    NOVELTY_LABELS,
    REMAKE,
    embeddings_file,
)
from cellvigil.bundle.projection import projected_file
from cellvigil.bundle.reference import ReferenceIndex
from cellvigil.data import Array
from cellvigil.errors import BundleError

_Wanted = tuple[str, Array | None, tuple[int, ...], tuple[type[np.generic], ...]]


def mapped(folder: Path, name: str) -> Array:
    """An array of a bundle, memory-mapped. Raises BundleError if it cannot be opened."""
    try:
        return np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"{name} cannot be opened: {error}", where=folder, hint=REMAKE) from None


def check_arrays(index: ReferenceIndex) -> None:
    """Shapes, types and class ids fit together, for an index or for a voter's view of it. Raises BundleError."""
    if not index.encoders:
        raise BundleError("no encoder is in use", where=index.folder, hint=REMAKE)
    for name, array, shape, dtypes in _wanted(index):
        if array is not None and (array.shape != shape or array.dtype not in dtypes):
            what = f"{name} holds {array.dtype} {array.shape}, not {np.dtype(dtypes[0])} {shape}"
            raise BundleError(what, where=index.folder, hint=REMAKE)
    bad = not len(index.labels) or _strange(index.labels, index) or _strange(index.novelty_classes, index)
    if bad or len(index.thumbnails) != len(index.labels):
        raise BundleError("cells and labels do not fit together", where=index.folder, hint=REMAKE)
    if index.projections and (set(index.projections) != {e.name for e in index.encoders} or index.metric != "l2"):
        raise BundleError("some encoders have axes and others not", where=index.folder, hint=REMAKE)
    if index.metric not in ("l2", "canberra") or index.search not in ("exact", "hnsw"):
        what = f"metric {index.metric!r} or search {index.search!r} is not known"
        raise BundleError(what, where=index.folder, hint="update cellvigil, or " + REMAKE)


def _wanted(index: ReferenceIndex) -> list[_Wanted]:
    cells = len(index.labels)
    encoders = (*index.encoders, *index.spare_encoders)
    floats = (np.float32, np.float16)
    return [
        (LABELS, index.labels, (cells,), (np.int16,)),
        (CELL_GROUPS, index.cell_groups, (cells,), (np.int32,)),
        (NOVELTY_LABELS, index.novelty_labels, index.novelty_classes.shape[:1], (np.int16,)),
        (NOVELTY, index.novelty, index.novelty_classes.shape[:1], (np.float32,)),
        (NORMS, index.norms, (len(encoders), cells), (np.float32,)),
        *((embeddings_file(e.name), index.embeddings[e.name], (cells, e.dimension), floats) for e in encoders),
        *(
            (projected_file(name), block, (cells, index.projections[name].dimension), (np.float32,))
            for name, block in index.projected.items()
        ),
    ]


def _strange(labels: Array, index: ReferenceIndex) -> bool:
    return bool(len(labels) and (labels.min() < 0 or labels.max() >= len(index.classes)))
