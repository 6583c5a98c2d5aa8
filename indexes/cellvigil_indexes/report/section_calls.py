"""How well the index calls: confusion, figures by class. Findings in, HTML out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import UNKNOWN
from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import heat_table, note, para, percent, table
from cellvigil_indexes.report.section_spaces import MATRICES_OF

_HEADLINES = {
    "balanced_accuracy": "macro (balanced) accuracy",
    "macro_precision": "macro precision",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
}


def evaluation(found: Findings) -> Html:
    """What the manifest says of the index's own cells, called by cells of other groups."""
    told = found.about["evaluation"]
    if found.index.voters:
        return para("No cell of the target has a label: `cellvigil-index evaluate` scores it with some that have.")
    if not told:
        return para("Other groups have too few cells to call a cell by them, so this index says nothing of itself.")
    rows = [(words, percent(told[key])) for key, words in _HEADLINES.items() if key in told]
    confusion = told.get("confusion") or {}
    parts = [
        para(f"{told.get('n', len(found.index)):,} cells, {told.get('how', 'out of fold')}."),
        table(("figure", "value"), rows, caption="Headline figures"),
    ]
    if len(confusion) > MATRICES_OF:
        parts += [para("The confusion of so many classes is printed by --json."), _by_class(confusion)]
    elif confusion:
        parts += [tag("div", _confusion(confusion), _by_class(confusion), class_="grid")]
    return joined(*parts)


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> Html:
    truth, called, counts = _counts(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [[f"{n:,}" if n else "·" for n in row] for row in counts.astype(int).tolist()]
    return tag(
        "div",
        heat_table(
            shares,
            truth,
            called,
            caption="Confusion: true class by row, called class by column",
            corner="true \\ called",
            low=0,
            high=1,
            texts=texts,
        ),
        note("Numbers are cells; colour is the share of the row, so the diagonal shows recall."),
    )


def _by_class(confusion: Mapping[str, Mapping[str, int]]) -> Html:
    truth, called, counts = _counts(confusion)
    rows = []
    for i, name in enumerate(truth):
        cells, made = counts[i].sum(), counts[:, called.index(name)].sum() if name in called else 0.0
        right = counts[i, called.index(name)] if name in called else 0.0
        recall = right / cells if cells else None
        precision = right / made if made else None
        f1 = 2 * right / (cells + made) if cells + made else None
        rows.append((name, f"{int(cells):,}", percent(recall), percent(precision), percent(f1)))
    return table(("class", "cells", "recall", "precision", "F1"), rows, caption="By class")


def _counts(confusion: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """True classes, called classes ("unknown" only where there is one), cells."""
    truth = list(confusion)
    called = list(dict.fromkeys(name for row in confusion.values() for name in row))
    table_: list[list[Any]] = [[confusion[t].get(c, 0) for c in called] for t in truth]
    counts = np.array(table_, dtype=np.float64).reshape(len(truth), len(called))
    if UNKNOWN in called and not counts[:, called.index(UNKNOWN)].any():
        counts = np.delete(counts, called.index(UNKNOWN), axis=1)
        called.remove(UNKNOWN)
    return truth, called, counts
