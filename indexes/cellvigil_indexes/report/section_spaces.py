"""How the encoders see the cells: projections, class similarity, alignment, components. Findings in, HTML out.

Frontiers in Oncology 2025, section 3.1: figures 5 and 6, tables 1 and 2.
"""

from __future__ import annotations

import math

import numpy as np

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.alignment import BANDWIDTH
from cellvigil_indexes.report.charts import PALETTE, chart, look, scatter, stacked
from cellvigil_indexes.report.findings import LEADING, Findings, SpaceFindings
from cellvigil_indexes.report.markup import figure, heat_table, note, number, para, percent, table
from cellvigil_indexes.report.similarity import PCA_DIMENSIONS

MATRICES_OF = 60
"""Classes up to which matrices are drawn: with more nobody reads them, and the page grows with the square."""


def projections(found: Findings) -> Html:
    """A scatter of each space beside the legend of classes."""
    counts = np.bincount(found.labels, minlength=len(found.index.classes))
    order = np.argsort(-counts, kind="stable").tolist()
    pictures = [
        figure(
            chart(
                f"projection{i}",
                f"{found.method.name.upper()} projection of {len(found.labels)} cells in {space.name}, by class",
                (4.2, 4.0),
                scatter(space.points, found.labels, order),
            ),
            _titled(space),
        )
        for i, space in enumerate(found.spaces)
    ]
    return joined(
        legend(found), tag("div", *pictures, class_="grid"), note(found.method.words + " " + looked_at(found))
    )


def legend(found: Findings) -> Html:
    """Colour and shape of every class."""
    marks = []
    for class_id, name in enumerate(found.index.classes):
        colour, _, sign = look(class_id)
        mark = tag("span", sign, style=f"color:{colour}", aria_hidden="true")
        marks.append(tag("li", mark, joined(" "), name))
    return tag("ul", *marks, class_="legend", aria_label="Classes by colour and shape")


def looked_at(found: Findings) -> str:
    """How many cells a figure is of, in words."""
    if len(found.rows) == len(found.index):
        return f"All {len(found.rows):,} cells."
    return f"A seeded sample of {len(found.rows):,} of {len(found.index):,} cells in which every class keeps its share."


def similarities(found: Findings) -> Html:
    """The papers' table of class similarity, and the matrices behind it."""
    names = found.index.classes
    if len(names) > MATRICES_OF:
        return joined(_table_one(found), _how(found), para("The matrices of so many classes are printed by --json."))
    seen = [
        value for space in found.spaces for value in space.similarity.matrix.ravel().tolist() if math.isfinite(value)
    ]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    matrices = [
        heat_table(
            space.similarity.matrix, names, names, caption=_titled(space), corner="mean cosine", low=low, high=high
        )
        for space in found.spaces
    ]
    return joined(
        _table_one(found),
        _how(found),
        tag(
            "details",
            tag("summary", "Mean cosine similarity between classes, by encoder"),
            *matrices,
            open="open" if len(names) <= 12 else None,
        ),
    )


def _how(found: Findings) -> Html:
    return note(
        f"After Frontiers in Oncology 2025, section 3.1, tables 1 and 2. Every cell's vector is projected to the "
        f"first {PCA_DIMENSIONS} principal components (all, where there are fewer), which takes the mean of all "
        "cells away; an entry is the mean cosine over the pairs of cells of two classes. On the diagonal a cell is "
        "not paired with itself. Intra: mean of the diagonal. Inter: mean off the diagonal. Class separability: "
        "mean over classes of the diagonal entry minus the sum of the row's other entries, as the paper defines "
        "it; so with C classes it is intra - (C - 1) x inter, and grows with C. Compare it between encoders, never "
        "between indexes. Best in bold. " + looked_at(found)
    )


def _table_one(found: Findings) -> Html:
    ordered = sorted(found.spaces, key=lambda space: -_or(space.similarity.separability, -math.inf))
    rows = [
        (_titled(s), *(number(value) for value in (s.similarity.intra, s.similarity.inter, s.similarity.separability)))
        for s in ordered
    ]
    best = []
    for column, sign in ((1, 1.0), (2, -1.0), (3, 1.0)):
        values = [
            sign
            * _or((s.similarity.intra, s.similarity.inter, s.similarity.separability)[column - 1], -sign * math.inf)
            for s in ordered
        ]
        best += [(row, column) for row, value in enumerate(values) if value == max(values) and math.isfinite(value)]
    head = ("model", "intra-class similarity", "inter-class similarity", "class separability")
    return table(head, rows, caption="Mean intra-class and inter-class similarity, and class separability", best=best)


def encoders(found: Findings) -> Html:
    """Alignment between the spaces, their intrinsic dimension, and who contributes what to the combination."""
    return joined(
        tag("h3", "Alignment"), _alignment(found), tag("h3", "Dimension and contribution"), _dimensions(found)
    )


def _alignment(found: Findings) -> Html:
    names = [space.name for space in found.spaces]
    if len(names) == 1:
        return para("There is one encoder; nothing to align it with.")
    debiased = heat_table(
        found.cka_debiased, names, names, caption="RBF CKA, debiased", corner="CKA", low=0, high=1, digits=3
    )
    plain = heat_table(
        found.cka, names, names, caption="RBF CKA as Kornblith et al. define it", corner="CKA", low=0, high=1, digits=3
    )
    return joined(
        tag("div", debiased, plain, class_="grid"),
        note(
            "Centred kernel alignment (Kornblith et al., ICML 2019): 1 where two encoders arrange the cells alike. "
            f"Gaussian kernel, sigma = {BANDWIDTH} x the median distance between cells, of {found.cka_cells:,} cells. "
            "The definition's HSIC is biased upwards; debiased (Song et al., JMLR 2012), unrelated encoders come to "
            "about 0. Encoders that are little aligned have something to add to each other."
        ),
    )


def _dimensions(found: Findings) -> Html:
    shares = {each["name"]: each["distance_share"] for each in found.about["encoders"]}
    combined = next((space for space in found.spaces if len(space.encoders) > 1), None)
    rows = [
        (
            _titled(space),
            f"{space.dimension:,}",
            str(space.components_95),
            percent(shares.get(space.name)),
            percent(combined.share_95.get(space.name)) if combined is not None else percent(None),
        )
        for space in found.spaces
    ]
    head = (
        "model",
        "dimensions",
        "components for 95 % of variance",
        "share of distance",
        "share of leading components",
    )
    distance = "squared distance" if found.index.metric == "l2" else "distance"
    listing = table(head, rows, caption="Intrinsic dimension of each space, and its part in the chosen combination")
    words = (
        "Components for 95 % of the variance: the paper's intrinsic dimension (it depends on the number of cells). "
        f"Share of distance: of the mean {distance} between two reference cells, as scaled. Share of leading "
        "components: the sum of an encoder's squared loadings, weighted by the variance of the "
        f"{PCA_DIMENSIONS} leading components. "
    )
    return joined(listing, note(words + looked_at(found)), _blocks(combined))


def _blocks(combined: SpaceFindings | None) -> Html:
    if combined is None:
        return Html("")
    parts = {name: share[:LEADING].tolist() for name, share in combined.shares.items()}
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(parts))]
    words = "; ".join(
        f"{name} {percent(float(np.mean(values)) if values else None, 0)} on the mean" for name, values in parts.items()
    )
    drawn = chart(
        "blocks",
        f"Each encoder's share of the leading components: {words}",
        (7.6, 2.6),
        stacked(parts, colours, "principal component of the chosen combination", "squared loadings"),
    )
    marks = [
        tag("li", tag("span", "■", style=f"color:{colour}", aria_hidden="true"), joined(" "), name)
        for name, colour in zip(parts, colours, strict=True)
    ]
    return joined(
        tag("ul", *marks, class_="legend", aria_label="Encoders by colour, from below"),
        figure(drawn, f"Each encoder's share of the {len(next(iter(parts.values())))} leading components ({words})."),
    )


def _titled(space: SpaceFindings) -> str:
    if len(space.encoders) > 1:
        return f"{space.name} ({' + '.join(space.encoders)})"
    return f"{space.name} (chosen)" if space.chosen else space.name


def _or(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise
