"""Plain classifiers to hold an index against, on the same vectors. Pure: arrays in, arrays out.

Each takes (vectors (N, d) f32, labels (N,), queries (n, d) f32, classes, seed) and gives (n, classes) f32: a
probability or share of votes a class, rows sum to 1. Nothing is fitted on the queries, and no setting is searched for
on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from cellvigil.data import F32, I16
from cellvigil.errors import UsageError
from cellvigil_indexes.baselines.linear import linear_probe
from cellvigil_indexes.baselines.neighbours import knn, knn_chosen, majority
from cellvigil_indexes.baselines.network import nmtune

Baseline = Callable[[F32, I16, F32, int, int], F32]
"""(vectors, labels, queries, classes, seed) -> (n, classes)."""

BASELINES: Mapping[str, Baseline] = {
    "1-NN": knn(1),
    "5-NN": knn(5),
    "20-NN": knn(20),
    "k-NN": knn_chosen,
    "linear probe": linear_probe,
    "NMTune": nmtune,
    "majority": majority,
}
"""By the name that tables show."""


SLOW = ("k-NN", "linear probe", "NMTune")
"""What takes minutes or worse on a large index: the first looks every training cell up, the others iterate."""

AFFORDABLE = 20_000
"""Cells up to which `usual` takes the slow ones."""


def usual(cells: int) -> tuple[dict[str, Baseline], list[str]]:
    """What is run unless someone says otherwise, for an index of so many cells; and what was left out, and why."""
    slow = SLOW if cells > AFFORDABLE else ()
    notes = [f"{name} is left out for an index of {cells} cells; ask for it with --baselines" for name in slow]
    if find_spec("sklearn") is None and "linear probe" not in slow:
        slow = (*slow, "linear probe")
        notes.append("linear probe is left out: it needs scikit-learn (pip install 'cellvigil[index]')")
    return {name: method for name, method in BASELINES.items() if name not in slow}, notes


def named(text: str) -> dict[str, Baseline]:
    """What `--baselines` asks for: "all", "none", or names with commas; "linear-probe" is "linear probe" too.

    Raises UsageError for a name that is none.
    """
    if text == "none":
        return {}
    if text == "all":
        return dict(BASELINES)
    by_case = {_plain(name): name for name in BASELINES}
    found = {}
    for word in text.split(","):
        name = by_case.get(_plain(word))
        if name is None:
            hint = f"use all, none, or some of {', '.join(BASELINES)}"
            raise UsageError(f"there is no baseline {word.strip()!r}", hint=hint)
        found[name] = BASELINES[name]
    return found


def _plain(name: str) -> str:
    return name.strip().casefold().replace("-", "").replace("_", "").replace(" ", "")
