"""The demo's two pictures: the curves with the truth beside them, and a frame with its cells outlined by state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cellvigil import table
from cellvigil.data import I32, Array
from cellvigil.demo.result import Result
from cellvigil.rehearse.scene import STATES
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
    for points in result.wells.values():
        axes.plot([p[0] for p in points], [p[1] for p in points], "-", color="#888888", lw=0.6, zorder=0)
    axes.set(xlabel="hours", ylabel="dying and dead cells", ylim=(0, 1), title="Simulated assay: counted and true")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=120)


def draw_frame(store: Path, out: Path) -> None:
    """The frame with the most different states, its cells outlined by called state. Needs matplotlib."""
    batch = max(table.rows(store), key=lambda rows: (len(set(rows.to_pydict()["state"])), rows.num_rows))
    cells = batch.to_pydict()
    frames = {
        (row["well"], row["field"], row["timepoint"]): row
        for rows in table.frame_rows(store)
        for row in rows.to_pylist()
        if row["current"]
    }
    place = (cells["well"][0], cells["field"][0], cells["timepoint"][0])
    folder = plate_folders(store)[0] / frames[place]["path"]
    slot = frames[place]["t"]
    image = np.asarray(zarr.open_array(folder / "0", mode="r")[slot, 0])
    labels: I32 = np.asarray(zarr.open_array(folder / "labels" / "cells" / "0", mode="r")[slot])
    figure, axes = _canvas(10.0, 10.0 * image.shape[0] / image.shape[1] + 0.6)
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    for state in (*STATES, "unknown"):
        mine = [cell for cell, called in zip(cells["cell"], cells["state"], strict=True) if called == state]
        if mine:
            axes.contour(_mask(labels, mine), levels=[0.5], colors=COLOURS[state], linewidths=1.2)
            axes.plot([], [], color=COLOURS[state], label=f"{state} ({len(mine)})")
    axes.set_title(f"Well {place[0]}, {frames[place]['acquired_at']:%H:%M}: simulated cells, by called state")
    axes.axis("off")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=5, frameon=False)
    figure.savefig(out, dpi=120)


def _mask(labels: I32, mine: list[int]) -> Array:
    return np.isin(labels, mine).astype(np.float32)


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes, without a screen and without pyplot's global state. Sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - the extra `demo`
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
