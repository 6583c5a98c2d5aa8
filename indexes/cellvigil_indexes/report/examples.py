"""Which out-of-fold calls to show with their neighbours: some right, some wrong, chosen by rule. Pure."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cellvigil.data import I16
from cellvigil_indexes.report.outoffold import OutOfFold

RIGHT, WRONG = 8, 12
HOW_RIGHT = f"Right: one of each class at random (seed 0), {RIGHT} at most."
HOW_WRONG = (
    f"Wrong: from the commonest mistakes (true class, called class) on, of each the call with the highest C, "
    f"{WRONG} at most; so these are the mistakes that the papers' certainty hides best."
)


def right_examples(found: OutOfFold, labels: I16) -> list[int]:
    """Positions in `found` of right calls; `labels` are the (m,) true class ids of its cells."""
    rng = np.random.default_rng(0)
    chosen = []
    for class_id in np.unique(labels):
        members = np.flatnonzero(found.right & (labels == class_id))
        if len(members):
            chosen.append(int(rng.choice(members)))
    if len(chosen) > RIGHT:
        chosen = sorted(rng.choice(chosen, RIGHT, replace=False).tolist())
    return chosen


def wrong_examples(found: OutOfFold, labels: I16) -> list[int]:
    """Positions in `found` of wrong calls, the commonest mistake's first; a second round where pairs are few."""
    wrong = np.flatnonzero(~found.right)
    pairs = [(int(labels[i]), int(found.calls.best_ids[i])) for i in wrong]
    frequency = Counter(pairs)
    certainty = found.certainty
    certain_first = sorted(zip(wrong.tolist(), pairs, strict=True), key=lambda each: (-certainty[each[0]], each[0]))
    rank: Counter[tuple[int, int]] = Counter()
    ordered = []
    for position, pair in certain_first:
        ordered.append((rank[pair], -frequency[pair], pair, position))
        rank[pair] += 1
    return [position for *_, position in sorted(ordered)[:WRONG]]
