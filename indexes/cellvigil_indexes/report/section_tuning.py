"""What `tune` tried: the best of each set of encoders, and what each setting is worth. Findings in, HTML out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.charts import RIGHT, WRONG, Draw, Line, chart, curves, dots
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import figure, note, number, para, percent, table
from cellvigil_indexes.report.trials import Sensitivity, SubsetBest, Trials

_LONG = ("best", "runner_ups")  # the manifest's entries that the table of trials says better
_SUBSETS = 20  # that are listed; the table in the bundle has all


def tuning(found: Findings) -> Html:
    """The trials, or the command that makes them."""
    told = _told(found.about.get("tuning"))
    if found.trials is None:
        words = "There is no table of trials in this index's bundle. "
        return joined(para(words, tag("code", f"cellvigil-index tune {found.index.name}"), " makes one."), told)
    trials = found.trials
    best = trials.best
    scatter = "" if best.sd != best.sd else f", standard deviation {percent(best.sd)} over the splits"  # NaN: unknown
    return joined(
        para(
            f"{trials.count:,} trials. The best: {' + '.join(best.encoders)} with {_settings(best)}, macro accuracy "
            f"{percent(best.mean)}{scatter}."
            + (" The search was interrupted." if (found.about.get("tuning") or {}).get("interrupted") else "")
        ),
        _expected(found.about.get("tuning")),
        told,
        _subsets(trials, [encoder.name for encoder in found.index.encoders]),
        _sensitivities(trials),
        note(
            "The score of the trial that was chosen is the best of many, so it flatters: believe the evaluation on "
            "cells that took no part."
        ),
    )


def _subsets(trials: Trials, used: Sequence[str]) -> Html:
    listed = trials.by_subset[:_SUBSETS]
    marked = next((i for i, each in enumerate(listed) if set(each.encoders) == set(used)), None)
    rows = [
        (f"{i}. {' + '.join(each.encoders)}", percent(each.mean, 2), percent(each.sd, 2), _settings(each))
        for i, each in enumerate(listed, 1)
    ]
    words = f"Best macro accuracy of each of {len(listed)} sets of encoders, from {percent(listed[0].mean)} down"
    drawn = chart(
        "subsets",
        words,
        (5.2, 0.9 + 0.24 * len(listed)),
        dots([e.mean for e in listed], [e.sd if e.sd == e.sd else 0 for e in listed], "macro accuracy", marked),
    )
    left = len(trials.by_subset) - len(listed)
    more = f" {left} worse sets are in trials.parquet." if left else ""
    head = ("set of encoders", "macro accuracy", "standard deviation", "with")
    return joined(
        tag("h3", "Sets of encoders"),
        figure(
            drawn, f"The number is the row of the table. Blue: the encoders in use. Whiskers: standard deviation.{more}"
        ),
        table(head, rows, caption="Each set of encoders under the settings that suit it best", words=True),
    )


def _sensitivities(trials: Trials) -> Html:
    if not trials.sensitivity:
        return para("Only one value of every setting was tried.")
    pictures, rows = [], []
    for name, values in trials.sensitivity.items():
        rows += [(f"{name} = {_value(v.value)}", percent(v.best, 2), percent(v.held, 2)) for v in values]
        if all(isinstance(v.value, (int, float)) and not isinstance(v.value, bool) for v in values):
            words = f"Macro accuracy by {name}: " + ", ".join(f"{v.value:g} {percent(v.best)}" for v in values)
            pictures.append(
                figure(chart(f"sensitivity-{name}", words, (3.4, 2.5), _accuracy(values, name)), words + ".")
            )
    return joined(
        tag("h3", "Sensitivity to the settings"),
        tag("div", *pictures, class_="grid") if pictures else Html(""),
        note(
            "Blue, solid: the best trial with this value, all else free. Orange, dashed: all else as in the best trial."
        ),
        table(("setting", "best with it", "all else as in the best trial"), rows, caption="Macro accuracy by setting"),
    )


def _accuracy(values: Sequence[Sensitivity], name: str) -> Draw:
    x = [float(v.value) for v in values]
    lines: list[Line] = [(x, [v.best for v in values], RIGHT, "-"), (x, [v.held for v in values], WRONG, "--")]
    plain = curves(lines, name, "macro accuracy")

    def draw(axes: Any) -> None:
        plain(axes)
        axes.yaxis.set_major_formatter("{x:.1%}")

    return draw


def _expected(tuning: Mapping[str, Any] | None) -> Html:
    """What the choice scored on cells that took no part in it, which is what to expect."""
    held = (tuning or {}).get("held_out") or {}
    if held.get("mean") is None:
        return para("No cells were kept back from the choice: expect less than its score.")
    spread = f", standard deviation {percent(held['sd'])}" if held.get("sd") is not None else ""
    return para(
        tag("strong", f"Held out: macro accuracy {percent(held['mean'])}"),
        f"{spread}, on {held.get('cells', 0):,} cells that took no part ({held.get('how', '')}). Expect this.",
    )


def _told(tuning: Mapping[str, Any] | None) -> Html:
    """What the manifest says of the tuning, as it stands there, without the long parts."""
    if not tuning:
        return Html("")
    rows = [(str(key).replace("_", " "), _value(value)) for key, value in tuning.items() if key not in _LONG]
    return tag(
        "details",
        tag("summary", "How it was tuned"),
        table(("what", "value"), rows, caption="From the manifest", words=True),
    )


def _settings(best: SubsetBest) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in best.settings.items())


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not said"}[value]
    if isinstance(value, float):
        return number(value, 4).rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_value(each)}" for key, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(each) for each in value)
    return str(value)
