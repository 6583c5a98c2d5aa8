"""What must be true of cells and vectors before they become an index. Looks only."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cellvigil.errors import UsageError
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.inputs.fitting import check_same_rule

_ROWS = 65_536  # that are looked at in one go


def check_sound(draft: Draft) -> None:
    """Raises UsageError for a draft without cells, for vectors that are not finite, or not one a cell and encoder."""
    if not len(draft.collected):
        raise UsageError("an index needs at least one cell")
    if not draft.used or not set(draft.used) <= set(draft.encoders):
        raise UsageError(f"encoders {', '.join(draft.used) or 'none'} are not among {', '.join(draft.encoders)}")
    for collected in (draft.collected, draft.set_aside):
        if collected is not None:
            check_same_rule(draft.image_rule, collected.image_rule)
            for name in draft.encoders:
                _check_block(name, collected)


def _check_block(name: str, collected: Collected) -> None:
    block = collected.embeddings.get(name)
    if block is None or block.ndim != 2 or len(block) != len(collected):
        raise UsageError(f"encoder {name} has no vector for every cell", hint="build the index again")
    bad = [
        start + int(row)
        for start in range(0, len(block), _ROWS)
        for row in np.flatnonzero(~np.isfinite(block[start : start + _ROWS]).all(axis=1))
    ]
    if bad:
        cell = collected.cells[bad[0]]
        where = dict(Counter(collected.cells[row].class_name for row in bad))
        raise UsageError(
            f"encoder {name} gave vectors that are not finite for {len(bad)} cells {where}, first in {cell.image}",
            hint="look at the picture, or export the encoder in fp32",
        )
