"""Calls with the five nearest reference cells that made them, right and wrong. Findings in, HTML out."""

from __future__ import annotations

import numpy as np

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.examples import HOW_RIGHT, HOW_WRONG, right_examples, wrong_examples
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import note, number, para, percent
from cellvigil_indexes.report.outoffold import OutOfFold
from cellvigil_indexes.report.sprites import thumbnail


def examples(found: Findings) -> Html:
    """Wrong calls first, then right ones."""
    if found.called is None:
        few = "Other groups have too few cells to call a cell by them"
        why = "The fit knew every cell" if found.index.voters else few
        return para(f"{why}, so there are no examples.")
    called = found.called
    labels = np.asarray(found.index.labels[called.rows])
    wrong, right = wrong_examples(called, labels), right_examples(called, labels)
    return joined(
        tag("h3", "Wrong calls"),
        joined(*(_example(found, called, i) for i in wrong)) if wrong else para("No call was wrong."),
        note(HOW_WRONG),
        tag("h3", "Right calls"),
        joined(*(_example(found, called, i) for i in right)) if right else para("No call was right."),
        note(HOW_RIGHT + " Every cell is called by cells of other groups; the five nearest are of those."),
    )


def _example(found: Findings, called: OutOfFold, i: int) -> Html:
    index, row = found.index, int(called.rows[i])
    true, best = index.classes[index.labels[row]], index.classes[called.calls.best_ids[i]]
    mark = "right" if called.right[i] else "wrong"
    head = tag(
        "figure",
        thumbnail(index.thumbnails, row, f"The cell that is called, {true}, from {found.cells[row].image}"),
        tag("figcaption", tag("b", true), tag("span", found.cells[row].image, class_="name")),
        class_="query",
    )
    probability = called.probability
    facts = [
        ("called", best),
        ("vote share", percent(float(called.share[i]), 0)),
        ("C", f"{number(float(called.certainty[i]), 0)} %"),
        ("probability", percent(float(probability[i])) if probability is not None else "not calibrated"),
        ("k", str(called.calls.k[i])),
        ("novelty p", number(float(called.calls.novelty_p[i]), 2)),
    ]
    told = tag("dl", *(joined(tag("dt", term), tag("dd", value)) for term, value in facts))
    near = [
        _near(found, int(cell), float(away))
        for cell, away in zip(called.calls.neighbours[i], called.distances[i], strict=False)  # fewer in a small index
        if cell >= 0
    ]
    title = tag("span", {"right": "right", "wrong": "wrong"}[mark], class_=f"mark {mark}")
    return tag("div", head, tag("div", title, told, class_="facts"), *near, class_=f"example {mark}")


def _near(found: Findings, row: int, away: float) -> Html:
    name, image = found.index.classes[found.index.labels[row]], found.cells[row].image
    words = f"Neighbour at {number(away, 2)}, {name}, from {image}"
    return tag(
        "figure",
        thumbnail(found.index.thumbnails, row, words),
        tag("figcaption", tag("b", name), tag("span", number(away, 2)), tag("span", image, class_="name")),
    )
