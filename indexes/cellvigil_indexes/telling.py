"""What `cellvigil-index` found, in words: plain text for a terminal. Values in, strings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import ImageRule
from cellvigil.neighbours import pair_distance_shares

_HEADLINES = ("balanced_accuracy", "macro_precision", "weighted_f1", "accuracy", "unknown_ratio")
_DOMINANT = 0.8  # share of the squared distance above which one encoder decides alone


def crop_rule(rule: ImageRule) -> str:
    """How a cell's picture is made, in one sentence."""
    i = rule.intensity
    values = {
        "full": "the whole range of the pixel type becomes 0 to 255",
        "range": f"raw values {i.low:g} to {i.high:g} become 0 to 255",
        "percentiles": f"percentiles {i.low:g} to {i.high:g} of the plate's first {i.frames} frames become 0 to 255",
    }[i.kind]
    clahe = f", CLAHE with clip {rule.clahe.clip:g} and tiles of {rule.clahe.tile_um:g} um" if rule.clahe else ""
    if rule.frame_normalised:
        pixels = round(rule.crop_um / rule.pixel_size_um)
        window = (
            f"scale to {rule.pixel_size_um:g} um a pixel{clahe}, window of {rule.crop_um:g} um ({pixels} px) "
            f"around the cell's centre, border continued by {rule.pad}"
        )
    else:
        window = f"the whole single-cell image{clahe}, its shorter side continued by {rule.pad} to a square"
    mask = ", everything outside the cell's mask blanked" if rule.mask else ""
    return f"{values}; {window}{mask}; {rule.colour}; resized to the encoder's input"


def described(index: ReferenceIndex) -> dict[str, Any]:
    """An index as plain values, as `show --json` prints it."""
    names = ("metric", "k_min", "k_max", "threshold", "reweight", "scaling", "calibration", "evaluation", "provenance")
    shares = pair_distance_shares(index)
    return {
        "name": index.name,
        "folder": str(index.folder),
        "sha256": index.sha256,
        "cells": len(index),
        "cell_groups": len(set(index.cell_groups.tolist())),
        "classes": _counts(index),
        "groups": dict(index.groups),
        "encoders": [
            {"name": e.name, "sha256": e.sha256, "dimension": e.dimension, "distance_share": shares[e.name]}
            for e in index.encoders
        ],
        "image_rule": index.manifest["image_rule"],
        "crop_rule": crop_rule(index.image_rule),
        **{name: index.manifest.get(name) for name in names},
        "warnings": warnings(index, shares),
    }


def _counts(index: ReferenceIndex) -> dict[str, int]:
    return dict(zip(index.classes, index.class_counts.tolist(), strict=True))


def warnings(index: ReferenceIndex, shares: Mapping[str, float]) -> list[str]:
    """What a person should know before using the index."""
    found = [
        f"encoder {name} has {share:.0%} of the squared distance and decides nearly alone; see --scale unit"
        for name, share in shares.items()
        if len(shares) > 1 and share > _DOMINANT
    ]
    found += [
        f"class {name} has fewer cells ({count}) than k_min ({index.k_min})"
        for name, count in _counts(index).items()
        if count < index.k_min
    ]
    found += [
        f"all cells of class {name} are of one group: its novelty and the left-out figures say little"
        for class_id, name in enumerate(index.classes)
        if len(set(index.cell_groups[index.labels == class_id].tolist())) == 1
    ]
    if not index.image_rule.frame_normalised:
        found.append("built from single-cell images fitted whole: not to be compared with live frames")
    return found


def told_index(summary: Mapping[str, Any]) -> str:
    """`described` as text."""
    rows = [(name, str(count), summary["groups"][name]) for name, count in summary["classes"].items()]
    lines = [f"index {summary['name']} ({summary['sha256'][:12]}), {summary['cells']} cells, {summary['folder']}"]
    lines += _columns([("class", "cells", "group"), *rows])
    lines += [f"cells are left out by group: {summary['cell_groups']} groups"]
    lines += [
        f"encoder {e['name']} ({e['sha256'][:12]}), {e['dimension']}-d, "
        f"{e['distance_share']:.0%} of the squared distance"
        for e in summary["encoders"]
    ]
    weighted = "weighted by class frequency" if summary["reweight"] else "unweighted"
    lines += [
        f"pictures: {summary['crop_rule']}",
        f"search: {summary['metric']}, k {summary['k_min']} to {summary['k_max']} until entropy is below "
        f"{summary['threshold']:g}, votes {weighted}, scaling {summary['scaling']}",
        _told_evaluation(summary["evaluation"]),
        "not calibrated: no probabilities" if summary["calibration"] is None else "calibrated",
        "from: " + ", ".join(f"{k} {v}" for k, v in summary["provenance"].items() if v not in (None, [])),
    ]
    return "\n".join([*lines, *(f"warning: {text}" for text in summary["warnings"])])


def _told_evaluation(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "other groups have too few cells to call a cell by them"
    return f"balanced accuracy {evaluation['balanced_accuracy']:.3f}, {evaluation['how']}"


def told_scores(result: Mapping[str, Any]) -> str:
    """`evaluate` on other cells, as text."""
    lines = [f"index {result['index']} on {result['n']} cells", f"pictures: {result['crop_rule']}"]
    lines += _columns([(name, f"{result[name]:.3f}") for name in _HEADLINES])
    rows = [
        (name, str(s["n"]), *(f"{s[key]:.3f}" for key in ("recall", "precision", "f1")))
        for name, s in result["per_class"].items()
    ]
    lines += _columns([("class", "cells", "recall", "precision", "f1"), *rows])
    lines += ["called (columns) against true (rows):", *_confusion(result["confusion"])]
    return "\n".join([*lines, *(f"warning: {text}" for text in result["warnings"])])


def told_split(result: Mapping[str, Any]) -> str:
    """`evaluate --split`, as text."""
    lines = [
        f"index {result['index']}: {result['held_out']} of {result['cells']} cells held out by {result['split_by']}, "
        f"{result['seeds']} seeds; mean +- standard deviation; median k {result['median_k']:g}",
        f"pictures: {result['crop_rule']}",
    ]
    methods = {"EWC": result, **result["baselines"]}
    rows = [
        (method, *(f"{found[name]:.3f} +- {found['std'][name]:.3f}" for name in _HEADLINES[:-1]))
        for method, found in methods.items()
    ]
    return "\n".join([*lines, *_columns([("method", *_HEADLINES[:-1]), *rows])])


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> list[str]:
    header = ("", *next(iter(confusion.values())))
    return _columns([header, *((name, *(str(n) for n in row.values())) for name, row in confusion.items())])


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of one length, first column to the left, others to the right, two spaces between, indented by two."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
