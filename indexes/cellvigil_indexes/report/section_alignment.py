"""How an index was carried to a microscope: classes, clusters and their matches, voters. Findings in, HTML out.

The transfer paper, sections 3.2 to 3.4; the score plots are its figure 11 (appendix A.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.carried import Carried
from cellvigil_indexes.report.charts import chart, look
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import figure, note, number, para, percent, table
from cellvigil_indexes.report.score_plots import LEVELS, domains, score_plot
from cellvigil_indexes.telling_alignment import agreement, kept_whole, map_of, reasons, unmatched

PLOTTED = 24
"""Clusters whose score plots are drawn."""


def alignment(found: Findings) -> Html:
    """The whole section; a sentence for an index that was not aligned."""
    carried = found.carried
    if carried is None:
        return para("This index was not aligned: it calls cells by its references as they are.")
    record = carried.record
    return joined(
        _tiles(record),
        _judged(record),
        tag("h3", "Before and after"),
        _projected(found, carried),
        tag("h3", "Classes"),
        _classes(record),
        tag("h3", "Clusters of the target and their matches"),
        _clusters(record),
        tag("h3", "Voters"),
        _voters(record),
    )


def _tiles(record: Mapping[str, Any]) -> Html:
    told, target = _of(record, "told"), _of(record, "target")
    tiles = [
        ("yes" if record.get("accepted") else "no", "fit accepted"),
        (percent(agreement(told, "split_half")), "split-half agreement"),
        (percent(agreement(told, "voters_agreement")), "voters' agreement"),
        (map_of(told) or percent(None), "map"),
        (_count(target.get("fit_cells")), "target cells in the fit"),
        (_count(target.get("witnesses")), "kept out as witnesses"),
    ]
    return tag("div", *(tag("div", tag("b", value), tag("span", words)) for value, words in tiles), class_="tiles")


def _judged(record: Mapping[str, Any]) -> Html:
    told = _of(record, "told")
    lines = [
        *([] if record.get("accepted") else reasons(told)),
        *kept_whole(record),
        *(str(text) for text in told.get("warnings") or []),
    ]
    head = "The fit was not accepted, and was written by --force" if not record.get("accepted") else "Warnings"
    if not lines and record.get("accepted"):
        return Html("")
    return tag("div", tag("b", head), tag("ul", *(tag("li", text) for text in lines)), class_="warn", role="note")


def _projected(found: Findings, carried: Carried) -> Html:
    if not carried.sheets:
        return para("The bundle keeps no cell of the target in an aligned space; there is nothing to draw.")
    counts = np.bincount(found.labels, minlength=len(carried.classes))
    order = np.argsort(-counts, kind="stable").tolist()
    pictures = [
        figure(
            chart(
                f"domain{i}",
                f"{found.method.name.upper()} projection {sheet.title.lower()} alignment: {len(sheet.references)} "
                f"reference cells by class and {len(sheet.target)} cells of the target",
                (4.2, 4.0),
                domains(sheet, order),
            ),
            f"{sheet.title}: {'the references as they came' if i == 0 else 'the references carried to the target'}",
        )
        for i, sheet in enumerate(carried.sheets)
    ]
    marks = [_mark(class_id, name) for class_id, name in enumerate(carried.classes)]
    marks.append(tag("li", tag("span", "+", aria_hidden="true"), joined(" "), "cells of the target"))
    cells = f"{len(carried.sheets[0].references):,} reference cells and {len(carried.sheets[0].target):,} of the target"
    return joined(
        tag("ul", *marks, class_="legend", aria_label="Classes by colour and shape, and the target"),
        tag("div", *pictures, class_="grid"),
        note(
            f"Space of the voter {carried.voter}, {cells}. {found.method.words} Each picture is a projection of its "
            "own. After a good fit the crosses lie among the references; which class they lie among no picture proves."
        ),
    )


def _classes(record: Mapping[str, Any]) -> Html:
    none = percent(None)
    votes, shares, dropped = _of(record, "votes"), _of(record, "shares"), list(record.get("dropped") or [])
    verdicts = _of(_of(record, "sharing"), "classes")
    rows = [
        (
            name,
            "dropped" if name in dropped else "kept",
            percent(votes.get(name), 0),
            " and ".join(_of(verdicts, name).get("seen_by") or []) or percent(None),
            percent(_of(verdicts, name).get("confidence"), 0),
            _bar(shares.get(name)),
            none,
        )
        for name in [*(name for name in record.get("kept") or [] if name not in _of(record, "unmatched")), *dropped]
    ]
    rows += [
        (name, "new", none, none, none, Html(none), f"{count:,}") for name, count in _of(record, "unmatched").items()
    ]
    head = (
        "class",
        "in the aligned index",
        "found in runs",
        "seen by",
        "sure",
        "share of the target",
        "target cells added",
    )
    words = (
        "Found in runs: the share of repeated runs on subsets of the target in which some cluster matched the class. A "
        "class is seen by clusters or by a mixture of all classes, and dropped only where neither sees it. Sure: how "
        "often such a verdict was right on trial pairs. Cell states are never looked for, nor dropped. Shares of the "
        "target are estimated without labels: read them as rough."
    )
    if record.get("unmatched"):
        words += " A new class holds the cells of clusters that match no class of the index."
    return joined(table(head, rows, caption="Classes of the index, found in the target or not"), note(words))


def _clusters(record: Mapping[str, Any]) -> Html:
    clusters, scores = list(record.get("clusters") or []), record.get("scores")
    if not clusters or not scores:
        return para("Classes were not looked for in the target.")
    rows = [
        (
            str(each["cluster"] + 1),
            f"{each['cells']:,}",
            each["match"] or "none",
            number(each["probability"], 2),
            "" if each["match"] else unmatched(each),
        )
        for each in clusters
    ]
    listing = table(
        ("cluster", "cells", "match", "p", ""), rows, caption="Clusters of the target, found without labels", words=True
    )
    names = [f"{i}: {name}" for i, name in enumerate(scores["classes"], start=1)]
    plots = [_plot(each, scores) for each in clusters[:PLOTTED]]
    more = f" Of {len(clusters) - PLOTTED} further clusters no plot is drawn." if len(clusters) > PLOTTED else ""
    low, middle, high = LEVELS
    return joined(
        listing,
        para("Classes by number: " + ", ".join(names) + "."),
        tag("div", *plots, class_="grid scores"),
        note(
            "The transfer paper's figure 11: a dot is a class, at its row-wise and column-wise score (M row, M col; "
            "equations 21 and 22), labelled with its number and p (equation 23, clipped to 0..1) where that is not "
            f"about 0 and there is room. Contours: p = {low:g} (dotted), {middle:g} (solid, green inside: a match, "
            f"unless the cluster is too far from the class), {high:g} (dashed). "
            f"Cosines by {' + '.join(scores['encoders'])}. p ranks matches; it is no frequency of being right." + more
        ),
    )


def _plot(each: Mapping[str, Any], scores: Mapping[str, Any]) -> Html:
    place, names = int(each["cluster"]), list(scores["classes"])
    row, column = np.array(scores["row"][place]), np.array(scores["column"][place])
    chosen = names.index(each["match"]) if each["match"] in names else -1
    said = f"matches {each['match']}" if chosen >= 0 else f"matches no class ({unmatched(each)})"
    words = f"Scores of cluster {place + 1} by class: it {said}, p {each['probability']:.2f}"
    drawn = chart(f"scores{place}", words, (2.5, 2.55), score_plot(row, column, chosen))
    return figure(drawn, f"Cluster {place + 1}, {each['cells']:,} cells: {each['match'] or 'no match'}")


def _voters(record: Mapping[str, Any]) -> Html:
    rows = [
        (each["name"], " + ".join(each["encoders"]), each["space"], each["scaling"], _bar(each["weight"]))
        for each in record.get("voters") or []
    ]
    words = (
        "Each voter calls a cell on its own (EWC-FAISS over its encoders in its space), and their calls are added by "
        "weight (section 3.4). A cell's agreement is the weighted share of voters that agree with its call: low ones "
        "are for an expert's eye."
    )
    head = ("voter", "encoders", "space", "scaling", "weight")
    return joined(table(head, rows, caption="Who votes, and with what weight", words=True), note(words))


def _mark(class_id: int, name: str) -> Html:
    colour, _, sign = look(class_id)
    return tag("li", tag("span", sign, style=f"color:{colour}", aria_hidden="true"), joined(" "), name)


def _bar(value: object) -> Html:
    if not isinstance(value, float):
        return Html("–")  # noqa: RUF001
    bar = tag("span", class_="bar", style=f"width:{max(1, round(90 * value))}px")
    return joined(bar, f" {100 * value:.1f} %")


def _of(record: Mapping[str, Any], key: str) -> Any:
    return record.get(key) or {}


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"  # noqa: RUF001
