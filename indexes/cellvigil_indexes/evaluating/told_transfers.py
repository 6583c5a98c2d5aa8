"""What `evaluate --align` found, as plain text for a terminal. Values in, strings out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellvigil_indexes.columns import columns
from cellvigil_indexes.evaluating.scoring import HEADLINES
from cellvigil_indexes.telling_alignment import agreements


def told_transfers(result: Mapping[str, Any]) -> str:
    """The whole comparison: one row a choice, recall by class, what each alignment keeps."""
    seen = (
        f"the fits saw these very cells without their labels (transductive; see --held-out), {result['fitted']} in all"
        if result["transductive"]
        else f"the fits saw {result['fitted']} other cells of the target, without their labels"
    )
    lines = [
        f"index {result['index']} on {result['scored']} cells of {len(result['classes'])} of its classes; {seen}",
        f"pictures: {result['crop_rule']}",
        *_headlines(result["choices"]),
        "recall by class:",
        *_recalls(result["choices"], result["classes"]),
        *_apart(result),
        *_kept(result["choices"]),
    ]
    return "\n".join([*lines, *(f"warning: {text}" for text in result["warnings"])])


def _headlines(choices: Mapping[str, Any]) -> list[str]:
    header = ("choice", "balanced_accuracy", "95 %", *HEADLINES[1:])
    rows = []
    for name, each in choices.items():
        if each.get("why_not"):
            rows.append((name, *["-"] * (len(header) - 1)))
            continue
        low, high = each["interval"]
        figures = [f"{each[key]:.3f}" for key in HEADLINES]
        rows.append((name, figures[0], f"{low:.3f} to {high:.3f}", *figures[1:]))
    return columns([header, *rows])


def _recalls(choices: Mapping[str, Any], classes: list[str]) -> list[str]:
    rows = [
        (name, *(f"{each['per_class'][one]['recall']:.3f}" for one in classes))
        for name, each in choices.items()
        if not each.get("why_not")
    ]
    return columns([("choice", *classes), *rows])


def _apart(result: Mapping[str, Any]) -> list[str]:
    if not result["foreign"]:
        return []
    header = ("choice", *(f"{name} ({count})" for name, count in result["foreign"].items()))
    rows = [
        (name, *(f"{each['apart'][one]:.3f}" for one in result["foreign"]))
        for name, each in result["choices"].items()
        if not each.get("why_not")
    ]
    return ["cells of classes that the index lacks: share not called one of its classes:", *columns([header, *rows])]


def _kept(choices: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, each in choices.items():
        if each.get("why_not"):
            lines.append(f"{name}: not fitted: {each['why_not']}")
        elif each["alignment"]:
            found = each["alignment"]
            said = f"{'accepted' if found['accepted'] else 'NOT accepted'} ({agreements(found['told'])})"
            dropped = f"; drops {', '.join(found['dropped'])}" if found["dropped"] else "; drops none"
            fresh = f"; new: {', '.join(found['unmatched'])}" if found["unmatched"] else ""
            lines.append(f"{name}: {said}; keeps {', '.join(found['kept'])}{dropped}{fresh}")
    return lines
