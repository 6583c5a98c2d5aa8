"""Charts as SVG that stands in the page itself: no font, script or picture from elsewhere. Needs matplotlib.

Class names are not drawn here (they are foreign text, in any script): the page's own legend says them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I16
from cellvigil.errors import UsageError
from cellvigil.markup import Html, tag

# Okabe and Ito's colours, which the colour-blind tell apart, too; yellow darkened to be seen on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#7A6A00", "#333333")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
F64 = npt.NDArray[np.float64]

RIGHT, WRONG = "#0072B2", "#D55E00"

Draw = Callable[[Any], None]
"""Fills axes."""

Line = tuple[Sequence[float], Sequence[float], str, str]
"""x, y, colour, matplotlib's line style."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: small, searchable, in the reader's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a949b",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 10,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "grid.color": "#e4e8ea",
    "axes.axisbelow": True,
}


def look(class_id: int) -> tuple[str, str, str]:
    """Colour, matplotlib's marker and the same as a letter; 64 classes differ in one or the other."""
    turn = class_id // len(PALETTE)
    shape = (class_id + turn) % len(MARKERS)
    return PALETTE[class_id % len(PALETTE)], MARKERS[shape], SIGNS[shape]


def chart(name: str, words: str, size: tuple[float, float], draw: Draw) -> Html:
    """An SVG image of the axes that `draw` fills; `name` is unique in the page, `words` say what is to be seen.

    Raises UsageError where matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the extra `report`
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise UsageError("matplotlib is not installed", hint="pip install 'cellvigil[report]'") from None
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        canvas = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(canvas)
        draw(canvas.subplots())
        file = io.StringIO()
        canvas.savefig(file, format="svg", dpi=144, metadata={"Date": None}, transparent=True)
    return _inlined(file.getvalue(), name, words)


def scatter(points: F32, labels: I16, order: Sequence[int]) -> Draw:
    """Cells in two dimensions by class, as one picture inside the SVG; the commonest class is drawn first."""

    def draw(axes: Any) -> None:
        for class_id in order:
            here = labels == class_id
            colour, marker, _ = look(class_id)
            size = 10.0 if len(points) <= 2000 else 5.0
            x, y = points[here].T
            axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0, alpha=0.75, rasterized=True)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(True)

    return draw


def stacked(parts: dict[str, Sequence[float]], colours: Sequence[str], xlabel: str, ylabel: str) -> Draw:
    """Bars 1, 2, ... of parts that sum to 1, the first part at the bottom."""

    def draw(axes: Any) -> None:
        low = np.zeros(len(next(iter(parts.values()))))
        places = np.arange(1, len(low) + 1)
        for heights, colour in zip(parts.values(), colours, strict=False):
            axes.bar(places, heights, bottom=low, color=colour, width=0.85)
            low = low + np.asarray(heights)
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1), xlim=(0.4, len(low) + 0.6))
        axes.set_xticks(places[:: 1 + len(low) // 21])
        axes.yaxis.set_major_formatter("{x:.0%}")

    return draw


def histogram(right: F64, wrong: F64, top: float, xlabel: str) -> Draw:
    """Right and wrong calls by certainty from 0 to `top`, as shares of each, so that few wrong ones can be seen."""

    def draw(axes: Any) -> None:
        edges = np.linspace(0, top, 21)
        for values, colour, hatch in ((right, RIGHT, None), (wrong, WRONG, "////")):
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                axes.hist(
                    values, bins=edges, weights=weights, histtype="stepfilled", alpha=0.45, color=colour, hatch=hatch
                )
                axes.hist(values, bins=edges, weights=weights, histtype="step", lw=1.4, color=colour)
        axes.set(xlabel=xlabel, ylabel="share of right / of wrong calls", xlim=(0, top))
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(axis="y")

    return draw


def reliability(bins: Sequence[dict[str, float]]) -> Draw:
    """Share of right calls against probability, with intervals; the diagonal is a promise kept."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], "--", color="#8a949b", lw=1)
        x = np.array([each["probability"] for each in bins])
        y = np.array([each["accuracy"] for each in bins])
        spread = [y - np.array([each["low"] for each in bins]), np.array([each["high"] for each in bins]) - y]
        axes.errorbar(x, y, yerr=np.maximum(spread, 0), fmt="o-", ms=4, lw=1.2, capsize=2.5, color=RIGHT)
        axes.set(xlabel="probability of being right, mean of the bin", ylabel="share that was right", ylim=(0, 1.03))
        axes.set_xlim(0, 1.03)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid()

    return draw


def curves(lines: Sequence[Line], xlabel: str, ylabel: str) -> Draw:
    """Lines with a dot at every point."""

    def draw(axes: Any) -> None:
        for x, y, colour, style in lines:
            axes.plot(x, y, style, marker="o", ms=3.5, lw=1.4, color=colour)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid()

    return draw


def dots(values: Sequence[float], errors: Sequence[float], xlabel: str, marked: int | None) -> Draw:
    """Values 1, 2, ... from above as dots with deviations; one of them marked."""

    def draw(axes: Any) -> None:
        places = np.arange(1, len(values) + 1)
        axes.errorbar(values, places, xerr=errors, fmt="none", ecolor="#7b8a93", capsize=3, lw=1.2)
        colours = [RIGHT if i == marked else "#9fb4c0" for i in range(len(values))]
        axes.scatter(values, places, s=52, c=colours, edgecolors="#333333", linewidths=0.6, zorder=3)
        axes.set(xlabel=xlabel, yticks=places, ylim=(len(values) + 0.6, 0.4))
        axes.xaxis.set_major_formatter("{x:.1%}")
        axes.grid()

    return draw


def _inlined(svg: str, name: str, words: str) -> Html:
    """The <svg> element alone, named for a screen reader; its ids are its own, however many stand in one page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(xlink:href="#|url\(#)([^")]+)', rf"\1{name}-\2", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = body.replace("<svg ", '<svg role="img" aria-label="@words" ', 1)
    quoted = tag("i", title=words).removeprefix('<i title="').removesuffix('"></i>')
    return Html(body.replace("@words", quoted, 1))
