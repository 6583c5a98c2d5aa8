"""Another index's calls of committed cells: a table of its own, and a line. Writes through `commit` only."""

from __future__ import annotations

from functools import partial

from cellvigil.data import Calls
from cellvigil.ledger import CommittedFrame
from cellvigil.store import columns, encode, lines
from cellvigil.store.commit import Part, commit
from cellvigil.store.holdings import Holdings
from cellvigil.store.place import prepare
from cellvigil.store.plate import FEATURES_TABLE
from cellvigil.store.rows import read_table


def add_calls(holdings: Holdings, frame: CommittedFrame, calls: Calls, index: lines.Index) -> None:
    """`Store.append_calls`, which says what it does."""
    place = holdings.place(frame.key.series)
    if frame.n_cells and "measurements" in place.plate.dropped.get(frame.t, ()):
        raise ValueError(f"the measurements of {frame.key} were deleted by retention: which cells count is not known")
    one = place.plate.place(frame.key)
    table, rows = encode.calls_block(place.plate, calls, index.classes)
    holdings.announce(place, calls, index, [table])
    prepare(place, one, [table])
    edge = read_table(place.folder / one.path, FEATURES_TABLE, frame.t, frame.n_cells)["touches_edge"] > 0
    chunks = [encode.table_chunk(place.folder, one, frame.t, table.name, rows)] if frame.n_cells else []
    counts = columns.state_counts(calls, ~edge, index.classes)
    line = lines.calls_line(
        frame,
        one,
        table,
        chunks=chunks,
        counts=counts,
        certainty=columns.certainty(calls, ~edge),
        committed_at=holdings.rules.now(),
    )
    commit([Part(place.journal, [line], chunks, partial(holdings.take, place))])
