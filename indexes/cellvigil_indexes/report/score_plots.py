"""Two charts of an alignment: a cluster's matching scores (the transfer paper's figure 11), and two sets of cells.

Class names are not drawn (see `charts`): numbers stand for them, and the page's own legend says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil_indexes.aligning.sharing.matching import MatchSettings, probability
from cellvigil_indexes.report.carried import Sheet
from cellvigil_indexes.report.charts import Draw, look

F64 = npt.NDArray[np.float64]

LEVELS = (0.3, MatchSettings().least_probability, 0.9)
"""Matching probabilities whose contours are drawn: the middle one is the least that a match needs."""
_LINES = ((":", 0.8), ("-", 1.3), ("--", 0.8))
_TOLD = 0.05  # a smaller p is not written: the dot's place says enough
_WIDTH, _HEIGHT, _GAP = 0.72, 0.17, 0.07  # of a label and beside its dot, in the axes' unit
_GREY = "#8a949b"


def score_plot(row: F64, column: F64, chosen: int) -> Draw:
    """One cluster: a dot a class at (M^row, M^col) of equations 21 and 22, with contours of p of equation 23.

    `row` and `column` are (classes,), -1..1; `chosen` is the class that the cluster matches, -1 for none. A dot is
    labelled with the class's number (from 1), and with p where that is not about 0; where there is no room, not at all.
    """
    sure = np.clip(probability(row, column), 0.0, 1.0)

    def draw(axes: Any) -> None:
        _contours(axes)
        for class_id in range(len(row)):
            colour = look(class_id)[0] if class_id == chosen else _GREY
            size = 52 if class_id == chosen else 20
            axes.scatter(row[class_id], column[class_id], s=size, c=colour, linewidths=0, zorder=3)
        for class_id, (x, y, side) in _placed(row, column, sure).items():
            axes.text(
                x,
                y,
                _label(class_id, sure),
                ha=side,
                va="center",
                fontsize=8,
                fontweight="bold" if class_id == chosen else "normal",
                color="#1d2429" if class_id == chosen else "#56646e",
                zorder=4,
            )
        axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=(-1, 0, 1), yticks=(-1, 0, 1), aspect="equal")
        axes.set_xlabel("M row", fontsize=8)
        axes.set_ylabel("M col", fontsize=8)
        axes.tick_params(labelsize=8)

    return draw


def domains(sheet: Sheet, order: Sequence[int]) -> Draw:
    """References by class (as everywhere on the page) over the target's cells, which are small dark crosses."""

    def draw(axes: Any) -> None:
        for class_id in order:
            here = sheet.labels == class_id
            colour, marker, _ = look(class_id)
            x, y = sheet.references[here].T
            axes.scatter(x, y, s=13, c=colour, marker=marker, linewidths=0, alpha=0.6, rasterized=True)
        x, y = sheet.target.T
        axes.scatter(x, y, s=11, c="#111111", marker="+", linewidths=0.7, alpha=0.75, rasterized=True)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(True)

    return draw


def _contours(axes: Any) -> None:
    grid = np.linspace(-1.08, 1.08, 109)
    x, y = np.meshgrid(grid, grid)
    heights = probability(x, y)
    axes.contourf(x, y, heights, levels=[LEVELS[1], 2.0], colors=["#e3f1ea"])
    axes.contour(
        x, y, heights, levels=list(LEVELS), colors=["#56646e"],
        linestyles=[style for style, _ in _LINES], linewidths=[width for _, width in _LINES],
    )  # fmt: skip


def _label(class_id: int, sure: F64) -> str:
    return f"{class_id + 1}: {sure[class_id]:.2f}" if sure[class_id] >= _TOLD else str(class_id + 1)


def _placed(row: F64, column: F64, sure: F64) -> dict[int, tuple[float, float, str]]:
    """Where labels stand, the likeliest class's first: (x, y, the side that is at x). One without room has none."""
    taken: list[tuple[float, float, float]] = []
    found: dict[int, tuple[float, float, str]] = {}
    for class_id in np.argsort(-sure, kind="stable").tolist():
        width = _WIDTH if sure[class_id] >= _TOLD else _WIDTH / 4
        for side, up in (("left", 0.09), ("right", 0.09), ("left", -0.11), ("right", -0.11)):
            x = row[class_id] + (_GAP if side == "left" else -_GAP)
            y, start = column[class_id] + up, x if side == "left" else x - width
            inside = start > -1.3 and start + width < 1.1 and -1.08 < y < 1.03
            if inside and not any(_cover((start, start + width, y), other) for other in taken):
                taken.append((start, start + width, y))
                found[class_id] = (float(x), float(y), side)
                break
    return found


def _cover(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < _HEIGHT
