"""The stored embeddings of a frame's cells, by encoder: what cells are called again from. Reads chunks, writes nothing.

Which table is which encoder's stands in the table's attributes, since another version of an encoder has a table of its
own in the same plate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np

from cellvigil.bundle.reference import IndexEncoder
from cellvigil.data import F32, Bools, Embeddings
from cellvigil.errors import StoreError
from cellvigil.ledger import CommittedFrame
from cellvigil.store.gone import folder_of
from cellvigil.store.plate import FEATURES_TABLE, tier_of
from cellvigil.store.rows import read_embedding, read_table, table_attributes


def has_vectors(frame: CommittedFrame, dropped: Collection[str] = ()) -> bool:
    """Whether a frame's embeddings are in the store, whichever encoder's; True for one without cells."""
    kept = any(tier_of(table) == "embeddings" for table in frame.tables)
    return not frame.n_cells or (kept and "embeddings" not in dropped)


def vectors_of(store: Path, encoders: Collection[IndexEncoder]) -> Callable[[CommittedFrame], bool]:
    """A function that says whether a frame's embeddings by all of these encoders, in these versions, were kept.

    It looks at a field's tables once, and remembers: for one pass over the frames.
    """
    known: dict[tuple[Path, tuple[str, ...]], bool] = {}

    def holds(frame: CommittedFrame) -> bool:
        at = (folder_of(store, frame.key.series) / frame.path, frame.tables)
        if at not in known:
            known[at] = all(_has_table(at[0], frame, encoder) for encoder in encoders)
        return known[at]

    return holds


def read_vectors(
    plate: Path, frame: CommittedFrame, encoders: Iterable[IndexEncoder], *, dropped: Collection[str] = ()
) -> Embeddings:
    """Encoder name -> (n_cells, d) f32, from the stored half precision; row i is cell i + 1 of the label image.

    `plate`: the plate's folder; `dropped`: what `Ledger.dropped` says of the slot. Raises StoreError for a frame whose
    embeddings were never kept, are another version's of the encoder, were deleted by retention, or are damaged.
    """
    field = plate / frame.path
    found: dict[str, F32] = {}
    for encoder in encoders:
        if not frame.n_cells:
            found[encoder.name] = np.empty((0, encoder.dimension), dtype=np.float32)
            continue
        table = _table_of(field, frame, encoder)
        found[encoder.name] = read_embedding(field, table, frame.t, frame.n_cells, dropped=dropped)
    return found


def counted_rows(plate: Path, frame: CommittedFrame, *, dropped: Collection[str] = ()) -> Bools:
    """(n_cells,) bool: the cells that count, because their mask does not touch the border. Raises StoreError."""
    rows = read_table(plate / frame.path, FEATURES_TABLE, frame.t, frame.n_cells, dropped=dropped)
    return np.asarray(rows["touches_edge"] == 0)


def _has_table(field: Path, frame: CommittedFrame, encoder: IndexEncoder) -> bool:
    try:
        return bool(_table_of(field, frame, encoder))
    except StoreError:
        return False


def _table_of(field: Path, frame: CommittedFrame, encoder: IndexEncoder) -> str:
    """The table of a frame that holds an encoder's vectors. Raises StoreError."""
    others = []
    for table in frame.tables:
        if tier_of(table) != "embeddings":
            continue
        attributes = table_attributes(field / table)
        if attributes.get("encoder") == encoder.name:
            if attributes.get("encoder_sha256") == encoder.sha256:
                return table
            others.append(str(attributes.get("encoder_sha256", ""))[:12])
    if others:
        what = f"embeddings of {encoder.name} are there, but of version {', '.join(others)}"
        raise StoreError(
            f"{what}, not {encoder.sha256[:12]}",
            where=field,
            hint="bring that encoder back, or an index built with the same --turns and --channels",
        )
    hint = "embeddings are kept with store.embeddings: true"
    raise StoreError(f"no embeddings of {encoder.name} were kept for {frame.key}", where=field, hint=hint)
