"""What `cellvigil-index align` found, in words: plain text for a terminal. Values in, strings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellvigil_indexes.aligning.sharing.matching import MatchSettings
from cellvigil_indexes.aligning.values import Alignment
from cellvigil_indexes.columns import columns

_NONE = "-"
AGREEMENTS = (("split_half", "split-half agreement"), ("voters_agreement", "voters' agreement"))
"""Keys of `Alignment.told` that a fit is accepted on, and what they are called."""


def told_alignment(result: Mapping[str, Any]) -> str:
    """`align`'s result as text."""
    target = result["target"]
    fitted = f", fitted on {target['fit_cells']}, {target['witnesses']} kept out as witnesses"
    lines = [
        f"index {result['name']} ({result['sha256'][:12]}): {result['of']} carried to a target of "
        f"{target['cells']} cells, {result['folder']}",
        f"{result['mode']}{_method(result)}{fitted}",
        f"{'accepted' if result['accepted'] else 'NOT accepted, written by --force'}: {agreements(result['told'])}",
        *_classes(result),
        *_clusters(result),
        *_voters(result),
        *_score(result.get("score")),
    ]
    return "\n".join([*lines, *(f"warning: {text}" for text in _warnings(result))])


def refused(alignment: Alignment) -> str:
    """Why a fit is not taken, in a sentence."""
    why = reasons(alignment.told)
    return f"the fit is not accepted, and nothing was written: {'; '.join(why) or agreements(alignment.told)}"


def reasons(told: Mapping[str, Any]) -> list[str]:
    """What a fit says against itself."""
    why = told.get("why_not") or []
    return [why] if isinstance(why, str) else [str(each) for each in why]


def agreement(told: Mapping[str, Any], key: str) -> float | None:
    """One of `AGREEMENTS`, 0..1; None where it was not measured."""
    value = told.get(key)
    return value if isinstance(value, float) else None


def unmatched(cluster: Mapping[str, Any]) -> str:
    """Why an entry of the record's clusters matches nothing, in words."""
    near = f"nearest {cluster['nearest']}"
    return f"{near}, too far from it" if cluster["probability"] >= MatchSettings().least_probability else near


def kept_whole(record: Mapping[str, Any]) -> list[str]:
    """Why no class was dropped, where classes were looked for and none may be."""
    why = (record.get("sharing") or {}).get("kept_whole")
    return [f"every class is kept: {why}"] if why else []


def map_of(told: Mapping[str, Any]) -> str:
    """The map that was taken, or those of several encoders; "" where nobody says."""
    kinds = told.get("kinds")
    several = " + ".join(dict.fromkeys(map(str, kinds.values()))) if isinstance(kinds, Mapping) else ""
    return str(told.get("method") or several)


def agreements(told: Mapping[str, Any]) -> str:
    """The figures that a fit is accepted on."""
    found = {words: agreement(told, key) for key, words in AGREEMENTS}
    there = [f"{words} {value:.3f}" for words, value in found.items() if value is not None]
    return ", ".join(there) or "no agreement was measured"


def _method(result: Mapping[str, Any]) -> str:
    method = map_of(result["told"])
    return f" by {method}" if method else ""


def _classes(result: Mapping[str, Any]) -> list[str]:
    rows = [("class", "found in runs", "share of the target", "")]
    votes, shares = result["votes"], result["shares"]
    for name in [*result["kept"], *result["dropped"]]:
        state = "dropped" if name in result["dropped"] else "kept"
        rows.append((name, _percent(votes.get(name)), _percent(shares.get(name)), state))
    rows += [(name, _NONE, f"{count} cells", "new class") for name, count in result["unmatched"].items()]
    return columns(rows)


def _clusters(result: Mapping[str, Any]) -> list[str]:
    if not result["clusters"]:
        return []
    rows = [("cluster of the target", "cells", "match", "p")]
    rows += [
        (str(each["cluster"] + 1), str(each["cells"]), each["match"] or f"none ({unmatched(each)})",
         f"{each['probability']:.2f}")
        for each in result["clusters"]
    ]  # fmt: skip
    return columns(rows)


def _voters(result: Mapping[str, Any]) -> list[str]:
    rows = [(each["name"], each["space"], each["scaling"], _percent(each["weight"])) for each in result["voters"]]
    return columns([("voter", "space", "scaling", "weight"), *rows])


def _score(score: Mapping[str, Any] | None) -> list[str]:
    if score is None:
        return []
    rows = [("labels of the target", "cells", "balanced_accuracy", "unaligned")]
    rows += [
        (name, str(each["cells"]), f"{each['aligned']:.3f}", f"{each['unaligned']:.3f}") for name, each in score.items()
    ]
    return columns(rows)


def _warnings(result: Mapping[str, Any]) -> Sequence[str]:
    against = [] if result["accepted"] else reasons(result["told"])
    return [
        *against,
        *kept_whole(result),
        *(str(text) for text in result["told"].get("warnings", [])),
        *result["warnings"],
    ]


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{value:.0%}"
