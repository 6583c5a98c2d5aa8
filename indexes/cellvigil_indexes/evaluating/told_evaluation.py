"""What `evaluate` found, as plain text for a terminal. Values in, strings out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellvigil_indexes.columns import columns
from cellvigil_indexes.evaluating.scoring import HEADLINES

_SHOWN = HEADLINES[:-1]


def told_target(result: Mapping[str, Any]) -> str:
    """`evaluate` on other cells."""
    lines = [
        f"index {result['index']} on {result['n']} cells, median k {result['median_k']:g}",
        f"pictures: {result['crop_rule']}",
        *columns([(name, f"{result[name]:.3f}") for name in HEADLINES]),
    ]
    if result["baselines"]:
        rows = [
            (method, *(f"{found[name]:.3f}" for name in _SHOWN))
            for method, found in {"EWC": result, **result["baselines"]}.items()
        ]
        lines += columns([("method", *_SHOWN), *rows])
    return "\n".join([*lines, *_told_classes(result), *_told_certainty(result), *_warned(result)])


def told_held_out(result: Mapping[str, Any]) -> str:
    """`evaluate --split` or `--folds`."""
    how = f"in {result['folds']} folds" if result["folds"] else "held out"
    lines = [
        f"index {result['index']}: {result['held_out']} of {result['cells']} cells {how} by {result['split_by']}, "
        f"{result['seeds']} seeds; mean +- standard deviation; median k {result['median_k']:g}",
        f"pictures: {result['crop_rule']}",
    ]
    rows = [
        (method, *(f"{found[name]:.3f} +- {found['std'][name]:.3f}" for name in _SHOWN))
        for method, found in {"EWC": result, **result["baselines"]}.items()
    ]
    lines += columns([("method", *_SHOWN), *rows])
    parts = (_told_classes(result), _told_certainty(result), _told_withheld(result), _warned(result))
    return "\n".join([*lines, *(line for part in parts for line in part)])


def _told_classes(result: Mapping[str, Any]) -> list[str]:
    rows = [
        (name, f"{s['n']:g}", *(f"{s[key]:.3f}" for key in ("recall", "precision", "f1")))
        for name, s in result["per_class"].items()
    ]
    confusion = result["confusion"]
    header = ("", *next(iter(confusion.values())))
    seeds = f", {result['seeds']} seeds together" if result.get("seeds", 1) > 1 else ""
    return [
        *columns([("class", "cells", "recall", "precision", "f1"), *rows]),
        f"called (columns) against true (rows){seeds}:",
        *columns([header, *((name, *(str(n) for n in row.values())) for name, row in confusion.items())]),
    ]


def _told_certainty(result: Mapping[str, Any]) -> list[str]:
    found = result["certainty"]
    seeds = result.get("seeds", 1)
    lines = [f"how far certainty holds, by the calls of the first of {seeds} seeds:"] if seeds > 1 else []
    lines += _told_reliability(found["reliability"], result["calibration_error"])
    ours, papers = found["probability"], found["papers"]
    there = {name: one for name, one in (("probability", ours), ("papers' C = 1 - H", papers)) if one is not None}
    if there:
        kept = [share for share, _ in papers["curve"]]
        rows = [
            (name, *(f"{right:.3f}" for _, right in one["curve"]), f"{one['area']:.3f}", _number(one["auroc"]))
            for name, one in there.items()
        ]
        lines += ["accuracy of the rest when the least certain cells are left out (cells kept):"]
        if all(len(one["curve"]) == len(kept) for one in there.values()):
            lines += columns([("by", *(f"{share:.0%}" for share in kept), "area", "AUROC"), *rows])
    return lines + _told_sets(found["conformal"])


def _told_reliability(found: Mapping[str, Any] | None, error: float | None) -> list[str]:
    if found is None or error is None:
        return ["no calibrated probability: too few cells, or the index is not calibrated"]
    rows = [
        (f"{b['probability']:.3f}", str(b["n"]), f"{b['accuracy']:.3f}", f"{b['low']:.3f} to {b['high']:.3f}")
        for b in found["bins"]
    ]
    return [
        f"probability of being right: calibration error {error:.3f} without the bias of small bins "
        f"(the usual estimate: {found['plug_in']:.3f})",
        *columns([("probability", "cells", "right", "95 % interval"), *rows]),
    ]


def _told_sets(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["no conformal sets: too few cells, or the index is not calibrated"]
    rows = [
        (name, str(each["n"]), f"{each['covered']:.3f}", f"{each['mean_size']:.2f}")
        for name, each in found["by_class"].items()
    ]
    return [
        f"conformal sets hold the true class of {found['covered']:.1%} of the cells "
        f"({found['low']:.1%} to {found['high']:.1%}), {found['mean_size']:.2f} classes a set",
        *columns([("class", "cells", "covered", "classes a set"), *rows]),
    ]


def _told_withheld(result: Mapping[str, Any]) -> list[str]:
    if "withheld" not in result:
        return []
    if not result["withheld"]:
        return ["withheld classes: an index of fewer than three classes has none to spare"]
    rows = [
        (
            name,
            str(each["n"]),
            *(_number(each[key]) for key in ("auroc", "auroc_p", "auroc_papers", "unknown", "known_unknown")),
            ", ".join(f"{n} {count}" for n, count in list(each["called_as"].items())[:2]),
        )
        for name, each in result["withheld"].items()
    ]
    header = ("withheld", "cells", "AUROC", "by p", "by H", "unknown", "of the known", "taken for")
    level = f"{result['withheld_level']:g}"
    return [
        f"classes that the references lack: novelty of their cells against the known; unknown at p < {level}",
        *columns([header, *rows]),
    ]


def _warned(result: Mapping[str, Any]) -> list[str]:
    return [f"warning: {text}" for text in result["warnings"]]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
