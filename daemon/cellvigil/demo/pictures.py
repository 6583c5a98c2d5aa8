"""The demo's two pictures: the curves with the truth beside them, and a frame with its cells outlined by state."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zarr

from cellvigil import table
from cellvigil.data import I32, Array
from cellvigil.demo.response import Response
from cellvigil.demo.result import Result
from cellvigil.store.recover import plate_folders

# Okabe and Ito's colours, which the colour-blind tell apart, too.
COLOURS = {"live": "#009E73", "apoptotic": "#E69F00", "necrotic": "#D55E00", "debris": "#56B4E9", "unknown": "#999999"}
ARM_COLOURS = {"control": "#009E73", "treated": "#D55E00"}


def draw_curves(result: Result, out: Path) -> None:
    """Share of dying and dead cells over time, by arm and by well: counted and true. Needs matplotlib."""
    figure, axes = _canvas(9.0, 5.0)
    for arm in sorted({row.arm for row in result.arms}):
        rows = [row for row in result.arms if row.arm == arm]
        hours, colour = [row.hours for row in rows], ARM_COLOURS.get(arm, "#333333")
        axes.plot(hours, [row.true_share for row in rows], "--", color=colour, lw=1.5, label=f"{arm}, true")
        axes.plot(hours, [row.counted_share for row in rows], "-o", color=colour, ms=4, label=f"{arm}, counted")
    if result.response is not None:
        _draw_response(axes, result.response)
    axes.plot([], [], "-", color="#bbbbbb", lw=0.7, label="single wells, counted")
    for points in result.wells.values():
        axes.plot([p[0] for p in points], [p[1] for p in points], "-", color="#bbbbbb", lw=0.7, zorder=0)
    axes.set(xlabel="hours", ylabel="dying and dead cells", ylim=(0, 1), title="Simulated assay: counted and true")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=120)


def _draw_response(axes: Any, response: Response) -> None:
    """The arms' intervals, when the drug came, and when each well's onset was found."""
    for arm, course in response.arms.items():
        colour = ARM_COLOURS["control" if arm == "control" else "treated"]
        axes.fill_between(course.hours, course.low, course.high, color=colour, alpha=0.12, lw=0)
    axes.fill_between([], [], [], color="#888888", alpha=0.2, lw=0, label="95 % interval of an arm (over its wells)")
    axes.axvline(response.drug_h, color="#333333", lw=0.8, ls=":")
    axes.annotate("drug", (response.drug_h, 0.5), xytext=(4, 0), textcoords="offset points", fontsize=9)
    for well, hours in response.onset_h.items():
        at = response.drug_h + hours
        axes.plot([at], [0.02], "^", color=ARM_COLOURS["treated"], ms=7)
        axes.annotate(well, (at, 0.02), xytext=(5, 2), textcoords="offset points", fontsize=9)
    axes.plot([], [], "^", color=ARM_COLOURS["treated"], ms=7, label="onset of a well's response, found")


def draw_frame(store: Path, out: Path) -> None:
    """The frame that shows the states best, each cell outlined by the state it was called. Needs matplotlib."""
    batch = max(table.rows(store), key=_variety)
    cells = batch.to_pydict()
    place = (cells["well"][0], cells["field"][0], cells["timepoint"][0])
    frame = next(
        row
        for rows in table.frame_rows(store)
        for row in rows.to_pylist()
        if row["current"] and (row["well"], row["field"], row["timepoint"]) == place
    )
    folder = plate_folders(store)[0] / frame["path"]
    image = np.asarray(zarr.open_array(folder / "0", mode="r")[frame["t"], 0])
    labels: I32 = np.asarray(zarr.open_array(folder / "labels" / "cells" / "0", mode="r")[frame["t"]])
    figure, axes = _canvas(10.0, 10.0 * image.shape[0] / image.shape[1] + 0.6)
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    axes.imshow(_outlines(labels, cells["cell"], cells["state"]))
    for state, count in Counter(cells["state"]).most_common():
        axes.plot([], [], color=COLOURS[state], lw=2, label=f"{state} ({count})")
    axes.set_title(f"Well {place[0]}, {frame['acquired_at']:%H:%M}: simulated cells, outlined by called state")
    axes.axis("off")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=5, frameon=False)
    figure.savefig(out, dpi=120)


def _variety(batch: Any) -> float:
    """How evenly the cells of one frame are spread over the states: the entropy of their shares."""
    counts = np.array(list(Counter(batch.to_pydict()["state"]).values()), dtype=np.float64)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _outlines(labels: I32, cells: list[int], states: list[str]) -> Array:
    """(Y, X, 4) f32 red, green, blue, opacity: the outermost two pixels of each cell in its state's colour."""
    palette = np.zeros((int(labels.max()) + 1, 4), dtype=np.float32)
    for cell, state in zip(cells, states, strict=True):
        code = COLOURS[state]
        palette[cell] = [*(int(code[place : place + 2], 16) / 255 for place in (1, 3, 5)), 1.0]
    inner = cv2.erode(labels.astype(np.float32), np.ones((5, 5), np.uint8)) == labels
    inner &= cv2.dilate(labels.astype(np.float32), np.ones((5, 5), np.uint8)) == labels
    return np.asarray(palette[np.where(inner, 0, labels)])


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes, without a screen and without pyplot's global state. Sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - the extra `demo`
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
