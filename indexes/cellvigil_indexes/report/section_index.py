"""What the index is: facts, settings in words, classes with their cells, where it came from. Findings in, HTML out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import note, number, para, percent, table
from cellvigil_indexes.report.sprites import strip

THUMBNAILS_OF = 60
"""Classes whose cells are shown; the page stays of a size to be mailed."""


def overview(found: Findings) -> Html:
    """Tiles, settings in words, warnings."""
    about, index = found.about, found.index
    evaluation = about["evaluation"]
    tiles = [
        (f"{about['cells']:,}", "reference cells"),
        (str(len(about["classes"])), "classes"),
        (f"{about['cell_groups']:,}", "groups that stay together"),
        (str(len(index.encoders)), f"encoders in use, of {len(index.encoders) + len(index.spare_encoders)}"),
        (percent(evaluation["balanced_accuracy"]) if evaluation else "–", "macro accuracy, out of fold"),  # noqa: RUF001
        ("yes" if index.calibration is not None and not index.voters else "no", "calibrated"),
    ]
    return joined(
        tag("div", *(tag("div", tag("b", value), tag("span", words)) for value, words in tiles), class_="tiles"),
        _warnings(about["warnings"]),
        tag("dl", *(joined(tag("dt", term), tag("dd", words)) for term, words in _settings(found))),
    )


def _warnings(warnings: Sequence[str]) -> Html:
    if not warnings:
        return para("No warnings.")
    return tag(
        "div",
        tag("b", f"{len(warnings)} warning" + ("s" if len(warnings) > 1 else "")),
        tag("ul", *(tag("li", text) for text in warnings)),
        class_="warn",
        role="note",
    )


def _settings(found: Findings) -> list[tuple[str, str]]:
    about = found.about
    votes = "each vote weighs 1 / the cells of its class" if about["reweight"] else "every vote weighs the same"
    metric = {"l2": "Euclidean distance (L2)", "canberra": "Canberra distance (0/0 = 0)"}[about["metric"]]
    scaling = {
        "none": "encoders' vectors as they come",
        "unit": "each encoder scaled to the same mean distance between reference cells",
        "discriminant": "along the axes of each encoder that part the classes of the reference cells best",
    }[about["scaling"] or "none"]
    used = " + ".join(f"{e['name']} ({e['dimension']}-d)" for e in about["encoders"])
    spare = ", ".join(f"{e['name']} ({e['dimension']}-d)" for e in about.get("spare_encoders") or [])
    search = (about.get("search_why") or "").strip() or {
        "exact": "Every reference cell is looked at.",
        "hnsw": "An HNSW graph proposes, true distances decide.",
    }[found.index.search]
    return [
        ("Encoders in use", used + (f"; kept and not used: {spare}" if spare else "")),
        ("Distance", f"{metric}, {scaling}"),
        (
            "Depth",
            f"starts at {about['k_min']} neighbours and doubles until the normalised entropy of their classes is below "
            f"{about['threshold']:g}, or {about['k_max']} are reached (EWC-FAISS, Frontiers in Oncology 2025, 2.3.4)",
        ),
        ("Vote", votes),
        ("Search", search),
        ("Pictures", about["crop_rule"]),
        ("Storage", str(about.get("storage") or "float32")),
    ]


def classes(found: Findings) -> Html:
    """Counts and groups, then thumbnails of typical and odd cells of each class."""
    index = found.index
    counts = found.about["classes"]
    most = max(counts.values())
    rows = []
    for class_id, (name, count) in enumerate(counts.items()):
        groups = len(np.unique(index.cell_groups[index.labels == class_id]))
        bar = tag("span", class_="bar", style=f"width:{max(1, round(120 * count / most))}px")
        share = percent(count / len(index))
        rows.append((name, index.groups[name], joined(bar, f" {count:,}"), share, f"{groups:,}"))
    head = ("class", "counts as", "cells", "share", "groups")
    listing = table(head, rows, caption="Reference cells by class; the cells of a group are left out together")
    more = len(index.classes) - THUMBNAILS_OF
    return joined(
        listing,
        note(
            f"Typical: nearest to the class's mean in the {_chosen(found)}. Odd: farthest from their {index.k_min} "
            "nearest cells of other groups, so the first to look at for wrong labels, debris and two cells in one box."
            + (f" Of {more} further classes no cells are shown." if more > 0 else "")
        ),
        tag("div", *(_cells(found, name) for name in index.classes[:THUMBNAILS_OF]), class_="cells"),
    )


def _cells(found: Findings, name: str) -> Html:
    shown, thumbnails = found.shown[name], found.index.thumbnails
    strips = []
    for words, rows in (("typical", shown.typical), ("odd", shown.odd)):
        if len(rows):
            images = ", ".join(found.cells[row].image for row in rows.tolist())
            picture = strip(thumbnails, rows, f"{len(rows)} {words} cells of {name}: {images}")
            strips.append(tag("figure", picture, tag("figcaption", words)))
    return tag("div", tag("h3", name), *strips)


def _chosen(found: Findings) -> str:
    space = next(space for space in found.spaces if space.chosen)
    return "chosen combination" if len(space.encoders) > 1 else f"space of {space.name}"


def origin(found: Findings) -> Html:
    """Provenance, versions, hashes."""
    about = found.about
    facts = [(key, _told(value)) for key, value in about["provenance"].items() if value not in (None, [], "")]
    encoders = [*about["encoders"], *(about.get("spare_encoders") or [])]
    hashes = [
        (each["name"], str(each["dimension"]), percent(each.get("distance_share")), each["sha256"]) for each in encoders
    ]
    return joined(
        table(("what", "value"), [("index sha256", about["sha256"]), *facts], caption="Where it came from", words=True),
        table(
            ("encoder", "dimensions", "share of distance", "sha256 of its bundle"), hashes, caption="Encoders by hash"
        ),
        _versions(about),
    )


def _versions(about: Mapping[str, Any]) -> Html:
    history = about.get("history") or []
    last = f"Version {about.get('version') or 1}: {about.get('change') or 'built'}."
    if not history:
        return para(f"{last} There is no earlier version.")
    columns = list(dict.fromkeys(key for entry in history for key in entry))
    rows = [[_told(entry.get(key)) for key in columns] for entry in history]
    return joined(para(last), table(columns, rows, caption="Earlier versions, the first one first", words=True))


def _told(value: object) -> str:
    if isinstance(value, float):
        return number(value, 4)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
