"""Which cells are taken when not all are."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellvigil_indexes.inputs.choosing import choose

CELLS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["g1", "g2", "g3", "g4"])), max_size=60)


@given(cells=CELLS, limit=st.none() | st.integers(1, 12), balance=st.booleans(), seed=st.integers(0, 5))
def test_classes_are_as_large_as_asked_and_spread_over_their_groups(cells, limit, balance, seed):
    classes, groups = [name for name, _ in cells], [group for _, group in cells]
    rows = choose(classes, groups, limit=limit, balance=balance, seed=seed)
    assert (np.diff(rows) > 0).all()
    there, kept = Counter(classes), Counter(classes[row] for row in rows)
    smallest = min(there.values(), default=0)
    for name, count in there.items():
        most = min(count, limit or count, smallest if balance else count)
        assert kept[name] == most
        whole = Counter(g for c, g in cells if c == name)
        taken = Counter(groups[row] for row in rows if classes[row] == name)
        least = min((taken[group] for group in whole if taken[group] < whole[group]), default=10**9)
        assert all(count <= least + 1 for count in taken.values()), (
            "no group gives two more than one that has some left"
        )


def test_the_same_seed_takes_the_same_and_other_classes_change_nothing():
    classes, groups = ["a"] * 40 + ["b"] * 20, [str(i % 8) for i in range(60)]
    one = choose(classes, groups, limit=10, balance=False, seed=3)
    assert one.tolist() == choose(classes, groups, limit=10, balance=False, seed=3).tolist()
    assert one.tolist() != choose(classes, groups, limit=10, balance=False, seed=4).tolist()
    assert one[:10].tolist() == choose(classes[:40], groups[:40], limit=10, balance=False, seed=3).tolist()
