"""Which cells are taken when not all are: so many a class, drawn by chance and spread over the groups. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cellvigil.data import I64


def choose(classes: Sequence[str], groups: Sequence[str], *, limit: int | None, balance: bool, seed: int) -> I64:
    """Rows that are kept, ascending: of each class `limit` at most, with `balance` no more than the smallest has.

    A class gives its groups' cells in turn, one a round, groups and cells in an order drawn by `seed`: few cells come
    from as many groups as there are. What one class gives does not depend on the others.
    """
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (name, group) in enumerate(zip(classes, groups, strict=True)):
        members[name][group].append(row)
    sizes = {name: sum(map(len, by_group.values())) for name, by_group in members.items()}
    most = min(sizes.values(), default=0) if balance else max(sizes.values(), default=0)
    most = min(most, limit) if limit is not None else most
    kept: list[int] = []
    for name, by_group in members.items():
        rng = np.random.default_rng([seed, *name.encode()])  # the class's own, so that more classes change nothing
        kept += _in_turn(by_group, rng)[:most]
    return np.sort(np.asarray(kept, dtype=np.int64))


def _in_turn(by_group: dict[str, list[int]], rng: np.random.Generator) -> list[int]:
    """All rows, one of each group, then the next of each, ..."""
    drawn = [rng.permutation(by_group[group]).tolist() for group in sorted(by_group)]
    order = [drawn[place] for place in rng.permutation(len(drawn))]
    longest = max(map(len, order))
    return [rows[turn] for turn in range(longest) for rows in order if turn < len(rows)]
