"""What an alignment found, as JSON values for an aligned index's manifest, from where `report` draws it. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cellvigil_indexes.aligning.sharing.matching import probability
from cellvigil_indexes.aligning.values import Alignment, Clusters, Matches, Shared

DIGITS = 4
"""Of scores, shares and weights on record: what a table or a figure shows."""


def record_of(alignment: Alignment, classes: Sequence[str]) -> dict[str, Any]:
    """The alignment but its vectors. `classes` are all classes of the reference, in the order of its class ids.

    Keys: "accepted", "kept", "dropped", "shares" (class -> 0..1), "voters", "votes" (class -> share of the runs that
    found it), "clusters" (one entry each: its cells, its match or None), "scores" (M^row, M^col and p of equations 21
    and 23, by cluster and class; None where classes were not looked for), "unmatched" (new class -> cells),
    "sharing" (`Shared.told`), "told".
    """
    shared, extra = alignment.shared, Counter(alignment.extra_labels)
    dropped = shared.dropped if shared is not None else [name for name in classes if name not in alignment.classes]
    return {
        "accepted": bool(alignment.accepted),
        "kept": list(alignment.classes),
        "dropped": list(dropped),
        "shares": {name: _short(value) for name, value in alignment.shares.items()},
        "voters": [
            {
                "name": voter.name,
                "encoders": list(voter.encoders),
                "space": voter.space,
                "weight": _short(voter.weight),
                "scaling": voter.scaling,
            }
            for voter in alignment.voters
        ],
        "votes": {} if shared is None else {name: _short(value) for name, value in shared.votes.items()},
        "clusters": [] if shared is None else _clusters(shared, classes),
        "scores": None if shared is None else _scores(shared.matches, classes),
        "unmatched": {name: count for name, count in extra.items() if name not in classes},
        "sharing": {} if shared is None else dict(shared.told),
        "told": dict(alignment.told),
    }


def _clusters(shared: Shared, classes: Sequence[str]) -> list[dict[str, Any]]:
    sizes = _sizes(shared.clusters)
    unclipped = probability(shared.matches.row, shared.matches.column)
    found = []
    for cluster, size in enumerate(sizes):
        best = int(shared.matches.best[cluster])
        row = shared.matches.probability[cluster]
        found.append(
            {
                "cluster": cluster,
                "cells": size,
                "central": len(shared.clusters.central[cluster]),
                "match": None if best < 0 else classes[best],
                "probability": _short(float(row[best] if best >= 0 else row.max())),
                "nearest": classes[int(unclipped[cluster].argmax())],
            }
        )
    return found


def _sizes(clusters: Clusters) -> list[int]:
    counts = Counter(clusters.labels.tolist())
    return [counts[cluster] for cluster in range(clusters.count)]


def _scores(matches: Matches, classes: Sequence[str]) -> dict[str, Any]:
    tables = {"row": matches.row, "column": matches.column, "probability": matches.probability}
    return {
        "classes": list(classes),
        "encoders": list(matches.encoders),
        **{name: [[_short(float(value)) for value in row] for row in table] for name, table in tables.items()},
    }


def _short(value: float) -> float:
    """Rounded; -1, the lowest score, for a class of which there was no cell to compare with."""
    return round(float(value), DIGITS) if math.isfinite(value) else -1.0
