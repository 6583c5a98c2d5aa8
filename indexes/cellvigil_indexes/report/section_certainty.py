"""How far a call is to be trusted: certainty of right and wrong calls, reliability, coverage. Findings in, HTML out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.charts import RIGHT, WRONG, Draw, Line, chart, curves, histogram, reliability
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import figure, note, number, para, percent, table
from cellvigil_indexes.report.outoffold import F64, OutOfFold

_STYLES = ((WRONG, "--"), (RIGHT, "-"), ("#009E73", "-."))


def certainty(found: Findings) -> Html:
    """Out-of-fold certainties, then what calibration measured."""
    if found.called is None:
        words = "Other groups have too few cells to call a cell by them: nothing can be said of certainty."
        if found.index.voters:
            words = "The fit of an aligned index knew every cell of it: none can be called as if it had been held out."
        return joined(para(words), _calibration(found))
    return joined(
        tag("h3", "Right and wrong calls by certainty"),
        _histograms(found.called),
        _rankings(found),
        tag("h3", "Calibration"),
        _calibration(found),
    )


def _histograms(called: OutOfFold) -> Html:
    shown: list[tuple[str, str, F64, float, str]] = [
        ("C of the papers", "hist-c", called.certainty, 100.0, "C = (1 - H) x 100 %"),
        ("Vote share", "hist-share", called.share, 1.0, "weighted vote share of the called class"),
    ]
    if called.probability is not None:
        shown.append(("Probability", "hist-p", called.probability, 1.0, "calibrated probability of being right"))
    pictures = []
    for title, name, values, top, label in shown:
        right, wrong = values[called.right], values[~called.right]
        words = f"{title}: {_median(right)} in the median for right calls, {_median(wrong)} for wrong ones"
        drawn = chart(name, words, (3.6, 2.8), histogram(right, wrong, top, label))
        pictures.append(figure(drawn, words + "."))
    wrong_calls = int((~called.right).sum())
    marks = [
        tag("li", tag("span", sign, style=f"color:{colour}", aria_hidden="true"), f" {words}")
        for sign, colour, words in (
            ("■", RIGHT, f"right ({int(called.right.sum()):,} calls)"),
            ("▨", WRONG, f"wrong ({wrong_calls:,} calls)"),
        )
    ]
    return joined(
        tag("ul", *marks, class_="legend", aria_label="Right and wrong calls by colour"),
        tag("div", *pictures, class_="grid"),
        note(
            "Every cell is called by cells of other groups. C is shown as the papers define it (Frontiers in Oncology "
            "2025, section 3.3). It is a stopping rule, not a confidence: with c classes it cannot be below "
            "1 - log c / log k, and the search goes on until it is high."
        ),
    )


def _rankings(found: Findings) -> Html:
    rows = [
        (name, number(each.auroc), percent(each.area), percent(each.best_area)) for name, each in found.rankings.items()
    ]
    lines: list[Line] = [
        ([point[0] for point in each.curve], [point[1] for point in each.curve], *style)
        for each, style in zip(found.rankings.values(), _STYLES, strict=False)
    ]
    styles = zip(found.rankings, ("orange, dashed", "blue, solid", "green, dash-dotted"), strict=False)
    words = "Accuracy of the most certain calls by the share that is kept; " + "; ".join(f"{n}: {s}" for n, s in styles)
    head = ("certainty", "AUROC of being right", "mean accuracy over all coverages", "at best")
    return joined(
        figure(chart("coverage", words, (5.2, 2.8), _percent_curves(lines)), words + "."),
        table(head, rows, caption="How well each certainty tells right from wrong calls"),
        note(
            "AUROC: the chance that a right call is the more certain one of a right and a wrong one; 0.5 tells nothing."
        ),
    )


def _percent_curves(lines: Sequence[Line]) -> Draw:
    plain = curves(lines, "share of cells kept, the most certain ones", "accuracy")

    def draw(axes: Any) -> None:
        plain(axes)
        axes.set_xlim(1.02, 0.08)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.yaxis.set_major_formatter("{x:.1%}")

    return draw


def _calibration(found: Findings) -> Html:
    calibration = found.index.calibration
    if calibration is None:
        return para("This index is not calibrated: its calls have no probability, and no set with a promised coverage.")
    measured = calibration.measured
    parts = []
    for number_, (where, each) in enumerate(_with(measured, "bins", "")):
        if each["bins"]:
            parts.append(_diagram(each, f"reliability{number_}", where))
    for where, each in _with(measured, "by_class", ""):
        parts.append(_coverage(each, where, calibration.conformal.promise if calibration.conformal else None))
    facts = list(_leaves(measured))
    if calibration.conformal is not None:
        facts.insert(
            0, ("conformal set", f"k {calibration.conformal.k}, promise {percent(calibration.conformal.promise)}")
        )
    if calibration.novel_below is not None:
        facts.append(("novel below p of", number(calibration.novel_below, 4)))
    title = "What calibration was fitted on, and measured"
    listing = table(("what", "value"), facts, caption="From the manifest", words=True)
    return joined(*parts, tag("details", tag("summary", title), listing))


def _diagram(told: Mapping[str, Any], name: str, where: str) -> Html:
    bins = told["bins"]
    error = percent(told.get("error"), 2)
    words = (
        f"Reliability diagram, {where or 'calibration'}: {sum(each['n'] for each in bins):,} cells in {len(bins)} "
        f"bins, debiased calibration error {error}, plug-in (biased upwards) {percent(told.get('plug_in'), 2)}"
    )
    rows = [
        (
            percent(b["probability"]),
            percent(b["accuracy"]),
            f"{percent(b['low'])} to {percent(b['high'])}",
            f"{b['n']:,}",
        )
        for b in bins
    ]
    return joined(
        figure(
            chart(name, words, (3.6, 3.4), reliability(bins)),
            words + ". Whiskers: 95 % (Wilson), as if cells were independent; dashed: a promise kept.",
        ),
        tag(
            "details",
            tag("summary", "The bins"),
            table(("mean probability", "share right", "95 % interval", "cells"), rows, caption="Bins of the diagram"),
        ),
    )


def _coverage(told: Mapping[str, Any], where: str, promise: float | None) -> Html:
    rows = [_coverage_row("all classes", told)]
    rows += [_coverage_row(name, each) for name, each in told["by_class"].items()]
    words = f"Coverage of the conformal sets, {where}" + (f"; promised: {percent(promise)}" if promise else "")
    return table(("class", "cells", "covered", "mean classes a set"), rows, caption=words)


def _coverage_row(name: str, told: Any) -> tuple[str, str, str, str]:
    if not isinstance(told, Mapping):  # a bare share
        return name, percent(None), percent(told), percent(None)
    cells = told.get("n", told.get("cells"))
    return name, number(cells, 0), percent(told.get("covered")), number(told.get("mean_size"), 2)


def _with(values: Mapping[str, Any], key: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping inside that has this key, with the name it stands under."""
    if key in values:
        yield where, values
    for name, each in values.items():
        if isinstance(each, Mapping) and name != key:
            yield from _with(each, key, f"{where}, {name}".removeprefix(", ").replace("_", " "))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Plain values by their path; the long lists that are drawn elsewhere left out."""
    for name, each in values.items():
        path = f"{prefix}{name}".replace("_", " ")
        if isinstance(each, Mapping) and name != "by_class":
            yield from _leaves(each, f"{path}, ")
        elif isinstance(each, float):
            yield path, number(each, 4)
        elif isinstance(each, (str, int)):
            yield path, str(each)
        elif isinstance(each, list) and each and all(isinstance(part, str) for part in each):
            yield path, ", ".join(each)


def _median(values: F64) -> str:
    middle = sorted(values.tolist())[len(values) // 2] if len(values) else None
    return number(middle, 0 if middle is not None and middle > 1 else 2)
