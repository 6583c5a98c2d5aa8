"""Another index's calls of committed cells: a table of its own, and a line. Writes through `commit` only."""

from __future__ import annotations

from functools import partial

from cellvigil.data import Array, Calls
from cellvigil.errors import store_failure
from cellvigil.ledger import CommittedFrame
from cellvigil.store import columns, encode, lines
from cellvigil.store.commit import Chunk, Part, commit
from cellvigil.store.holdings import Holdings
from cellvigil.store.place import prepare
from cellvigil.store.plate import FEATURES_TABLE, Table
from cellvigil.store.rows import read_table
from cellvigil.store.shards import read_rows


def add_calls(holdings: Holdings, frame: CommittedFrame, calls: Calls, index: lines.Index) -> None:
    """`Store.append_calls`, which says what it does.

    A chunk that a journal line names is never written over, since a crash before the new line would leave it with
    bytes that its checksum does not know. So an index that called the frame before is not heard again: a line alone
    makes its calls from then the current ones.
    """
    there = holdings.ledger.frame(frame.key, frame.revision)
    place = holdings.known(frame.key.series)
    if place is None or there is None or (there.path, there.t) != (frame.path, frame.t):
        # To begin the plate here would bring a deleted one back, empty.
        raise ValueError(f"{frame.key} is not in the store (any more)")
    if frame.n_cells and "measurements" in place.plate.dropped.get(frame.t, ()):
        raise ValueError(f"the measurements of {frame.key} were deleted by retention: which cells count is not known")
    one = place.plate.place(frame.key)
    table, rows = encode.calls_block(place.plate, calls, index.classes)
    holdings.announce(place, calls, index, [table])
    prepare(place, one, [table])
    edge = read_table(place.folder / one.path, FEATURES_TABLE, frame.t, frame.n_cells)["touches_edge"] > 0
    chunks = [encode.table_chunk(place.folder, one, frame.t, table.name, rows)] if frame.n_cells else []
    standing = [_standing(chunk) for chunk in chunks if chunk.path.exists()]
    if standing:
        stood = _rows(standing[0], frame.n_cells, table)
        calls = columns.calls_from(stood, index.classes, calls.bundle_sha256, calls.voters)
    counts = columns.state_counts(calls, ~edge, index.classes)
    line = lines.calls_line(
        frame,
        one,
        table,
        chunks=standing or chunks,
        counts=counts,
        certainty=columns.certainty(calls, ~edge),
        committed_at=holdings.rules.now(),
    )
    commit([Part(place.journal, [line], [] if standing else chunks, partial(holdings.take, place))])


def _standing(chunk: Chunk) -> Chunk:
    """A chunk as it is on the disk. Raises StoreError."""
    try:
        return Chunk(chunk.path, chunk.path.read_bytes(), chunk.tier)
    except OSError as error:
        raise store_failure("calls from before cannot be read", error, where=chunk.path) from error


def _rows(chunk: Chunk, count: int, table: Table) -> Array:
    """The rows in it. Raises ValueError if they are damaged."""
    try:
        return read_rows(chunk.data, count, table.columns, table.dtype)
    except RuntimeError as error:
        raise ValueError(f"calls from before are damaged ({chunk.path}): {error}; run `cellvigil repair`") from None
