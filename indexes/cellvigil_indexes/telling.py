"""What `cellvigil-index` found, in words: plain text for a terminal. Values in, strings out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellvigil.bundle.index import ReferenceIndex, cells_in
from cellvigil.bundle.index_manifest import SET_ASIDE
from cellvigil.bundle.licences import licences_of, not_commercial
from cellvigil.data import ImageRule
from cellvigil.neighbours import pair_distance_shares
from cellvigil_indexes.columns import columns

_APART = ("warnings", "licences")  # of what provenance holds: told in lines of their own
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
    how = "each by itself" if rule.per_channel else "all at once"
    colour = f"channels {', '.join(rule.channels)}, {how}" if rule.channels else rule.colour
    turns = ", upright and turned by quarters (the mean of their vectors)" if rule.turns > 1 else ""
    return f"{values}; {window}{mask}; {colour}; resized to the encoder's input{turns}"


def described(index: ReferenceIndex) -> dict[str, Any]:
    """An index as plain values, as `show --json` prints it."""
    names = (
        *("metric", "k_min", "k_max", "threshold", "reweight", "scaling", "storage", "search", "search_why"),
        *("version", "change", "history", "tuning", "calibration", "evaluation", "confusion", "provenance"),
        *("voters", "alignment"),
    )
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
        "spare_encoders": [
            {"name": e.name, "sha256": e.sha256, "dimension": e.dimension} for e in index.spare_encoders
        ],
        "set_aside": len(cells_in(index.folder / SET_ASIDE)) if (index.folder / SET_ASIDE).is_dir() else 0,
        "image_rule": index.manifest["image_rule"],
        "crop_rule": crop_rule(index.image_rule),
        **{name: index.manifest.get(name) for name in names},
        "warnings": warnings(index, shares),
    }


def _distance(metric: str) -> str:
    """What adds up over encoders."""
    return "squared distance" if metric == "l2" else "distance"


def _counts(index: ReferenceIndex) -> dict[str, int]:
    return dict(zip(index.classes, index.class_counts.tolist(), strict=True))


def warnings(index: ReferenceIndex, shares: Mapping[str, float]) -> list[str]:
    """What a person should know before using the index: what building it told, and what it is now."""
    found = list(index.manifest["provenance"].get("warnings", []))
    found += [
        f"encoder {name} has {share:.0%} of the {_distance(index.metric)} and decides nearly alone; see --scale unit"
        for name, share in shares.items()
        if len(shares) > 1 and share > _DOMINANT
    ]
    found += [
        f"class {name} has fewer cells ({count}) than k_min ({index.k_min})"
        for name, count in _counts(index).items()
        if count < index.k_min
    ]
    found += depth_warnings(index)
    found += [
        f"all cells of class {name} are of one group: its novelty and the left-out figures say little"
        for class_id, name in enumerate(index.classes)
        if len(set(index.cell_groups[index.labels == class_id].tolist())) == 1
    ]
    if index.voters and not index.manifest["alignment"]["accepted"]:
        found.append("the fit of this aligned index was not accepted: it was written by --force")
    if not index.image_rule.frame_normalised:
        found.append("built from single-cell images fitted whole: not to be compared with live frames")
    return found


def _licences(summary: Mapping[str, Any]) -> list[str]:
    """Which of its encoders an index may not be used with commercially, as far as building it told."""
    told = summary["provenance"].get("licences", {})
    refused = [
        f"{name} ({', '.join(licences_of({'licences': names}).values())})"
        for name, names in told.items()
        if not_commercial({"licences": names})
    ]
    return [f"not for commercial use: {', '.join(refused)} (licences upstream, of the weights)"] if refused else []


def depth_warnings(index: ReferenceIndex) -> list[str]:
    """What one class only, or fewer cells than neighbours are asked for, makes of the calls."""
    cells = f"the {len(index)} reference cells"
    found = []
    if len(index.classes) == 1:
        found.append(
            f"{index.classes[0]} is the only class: every cell is called so, and an accuracy of 1 says nothing"
        )
    if index.k_min > len(index):
        found.append(f"k_min ({index.k_min}) is above {cells}: every cell is called by all of them")
    elif index.k_max > len(index):
        found.append(f"k_max ({index.k_max}) is above {cells}: a cell in doubt is called by all of them")
    return found


def told_index(summary: Mapping[str, Any]) -> str:
    """`described` as text."""
    rows = [(name, str(count), summary["groups"][name]) for name, count in summary["classes"].items()]
    lines = [f"index {summary['name']} ({summary['sha256'][:12]}), {summary['cells']} cells, {summary['folder']}"]
    lines += columns([("class", "cells", "group"), *rows])
    lines += [f"cells are left out by group: {summary['cell_groups']} groups"]
    lines += [
        f"encoder {e['name']} ({e['sha256'][:12]}), {e['dimension']}-d, "
        f"{e['distance_share']:.0%} of the {_distance(summary['metric'])}"
        for e in summary["encoders"]
    ]
    lines += _licences(summary)
    lines += [
        f"kept, not used: {e['name']} ({e['sha256'][:12]}), {e['dimension']}-d" for e in summary["spare_encoders"]
    ]
    weighted = "weighted by class frequency" if summary["reweight"] else "unweighted"
    lines += [
        f"pictures: {summary['crop_rule']}",
        f"calls: {summary['metric']}, k {summary['k_min']} to {summary['k_max']} until entropy is below "
        f"{summary['threshold']:g}, votes {weighted}, scaling {summary['scaling']}",
        f"search: {summary['search'] or 'exact'}" + (f" ({summary['search_why']})" if summary["search_why"] else ""),
        _told_evaluation(summary, flatters=tuned_on_own(summary["tuning"])),
        *told_calibration(summary["calibration"], summary["set_aside"]),
        told_confusion(summary["confusion"]),
        *_told_voters(summary),
        *_told_history(summary),
        "from: "
        + ", ".join(f"{k} {v}" for k, v in summary["provenance"].items() if k not in _APART and v not in (None, [])),
    ]
    return "\n".join([*lines, *(f"warning: {text}" for text in summary["warnings"])])


def told_calibration(calibration: Mapping[str, Any] | None, set_aside: int) -> list[str]:
    """What an index's certainty rests on, one sentence a line."""
    if calibration is None:
        return ["not calibrated: no probabilities, no sets, nothing is called unknown"]
    sets, told = calibration["conformal"], calibration["measured"]
    why = {name: each.get("why_not", "") for name, each in told.items()}
    lines = ["calls have a calibrated probability of being right"]
    if calibration["confidence"] is None and why["confidence"] == why["conformal"]:
        lines = [f"no probabilities, no sets of classes: {why['confidence']}"]
    elif calibration["confidence"] is None:
        lines = [f"no probabilities: {why['confidence']}"]
    if sets:
        promise = f"sets of classes that hold the true one for {sets['promise']:.0%} of such cells"
        lines.append(f"{promise}, by {set_aside} cells set aside")
    elif why["conformal"] != why["confidence"] or calibration["confidence"]:
        lines.append(f"no sets of classes: {why['conformal']}")
    if calibration["novel_below"] is None:
        lines.append(f"no cell is called unknown for being novel: {why['novelty']}")
    return lines


def told_confusion(confusion: Mapping[str, Any] | None) -> str:
    """Whether counts called by the index can be corrected, in a sentence."""
    if confusion is None:
        return "shares are not corrected for its errors: it is of an older version, build or tune it again"
    if why := confusion["measured"].get("why_not"):
        return f"shares are not corrected for its errors: {why}"
    plain, cells = confusion["plain"], confusion["measured"]["cells"]
    known = sum(sum(row) / effect for row, effect in zip(plain["counts"], plain["effects"], strict=True))
    return f"shares are corrected for its errors, known from {cells} cells that tell as much as {known:.0f} independent"


def _told_history(summary: Mapping[str, Any]) -> list[str]:
    if not summary["history"]:
        return []
    former = ", ".join(f"{e['kept_as']} ({e['change']})" for e in summary["history"])
    return [f"version {summary['version']} ({summary['change']}); before it: {former}"]


def tuned_on_own(tuning: Mapping[str, Any] | None) -> bool:
    """Whether an index's settings were chosen on its own cells, so that figures of these flatter."""
    return tuning is not None and tuning.get("split", {}).get("kind") != "separate"


def _told_voters(summary: Mapping[str, Any]) -> list[str]:
    """An aligned index: of what, to what, which classes are left, who votes."""
    if not summary["voters"]:
        return []
    told = summary["alignment"]
    of, shares = told["of"], told["shares"]
    lines = [
        f"aligned from {of['name']} ({of['sha256'][:12]}, version {of['version']}) to cells of another device"
        + ("" if told["accepted"] else "; the fit was NOT accepted"),
    ]
    if told["dropped"]:
        lines.append(f"classes that were not found there and are dropped: {', '.join(told['dropped'])}")
    if told["unmatched"]:
        found = ", ".join(f"{name} ({cells} cells)" for name, cells in told["unmatched"].items())
        lines.append(f"classes of its own cells that match nothing: {found}")
    if shares:
        lines.append("shares of the target: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    rows = [(v["name"], v["space"], v["scaling"], f"{v['weight']:.0%}") for v in summary["voters"]]
    return [*lines, *columns([("voter", "space", "scaling", "weight"), *rows])]


def _told_evaluation(summary: Mapping[str, Any], *, flatters: bool) -> str:
    evaluation = summary["evaluation"]
    if summary["voters"]:
        return "not scored: no cell of its target has a label (evaluate it with some that have)"
    if evaluation is None:
        return "other groups have too few cells to call a cell by them"
    how = f"{evaluation['how']}; `tune` chose on these very cells, so it flatters" if flatters else evaluation["how"]
    return f"balanced accuracy {evaluation['balanced_accuracy']:.3f}, {how}"
