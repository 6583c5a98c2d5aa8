"""The truth beside a rehearsal's images: every cell, every well, the plate's layout and the settings, as CSV and JSON.

A cell is counted in `wells.csv` when its outline does not touch the image's border, as the daemon counts. Debris is
counted from `SMALLEST_UM2` on: smaller specks are in `cells.csv` with `detectable` false.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from cellvigil.rehearse.scene import STATES, Scene, Well
from cellvigil.rehearse.shape import outlines, shapes_of

SMALLEST_UM2 = 30.0
"""Area below which nothing counts as a cell: the segmenter's default `min_area_um2`."""


@dataclass(frozen=True, slots=True)
class CellRow:
    """One cell in one frame."""

    well: str
    field: int
    timepoint: int
    cell_id: int  # the same cell keeps its id over time; unique in its field
    y_px: float  # centre; the first pixel's centre is 0; may lie outside the frame
    x_px: float
    radius_px: float
    state: str  # one of STATES
    arm: str
    in_frame_edge: bool  # its outline touches the image's border
    detectable: bool  # wholly inside, large enough, and not under a bubble


@dataclass(frozen=True, slots=True)
class WellRow:
    """One frame: counts of detectable cells by state."""

    well: str
    field: int
    timepoint: int
    arm: str
    hours: float
    live: int
    apoptotic: int
    necrotic: int
    debris: int
    defocused: bool


def cell_rows(scene: Scene, shape: tuple[int, int], pixel_size_um: float, mitosis: float) -> list[CellRow]:
    """The cells that show in the frame, also those cut by its border."""
    shapes = shapes_of(scene.cells, mitosis)
    centres = np.stack([scene.cells["y_um"], scene.cells["x_um"]], axis=1) / pixel_size_um
    reach = outlines(shapes) / pixel_size_um
    first, last = centres + reach.min(axis=1), centres + reach.max(axis=1)
    limit = np.array(shape) - 1
    shows = (last > -0.5).all(axis=1) & (first < limit + 0.5).all(axis=1)
    cut = (first < 0.5).any(axis=1) | (last > limit - 0.5).any(axis=1)
    large = np.pi * shapes.radius**2 >= SMALLEST_UM2
    found = large & ~cut & ~_hidden(scene)
    return [
        CellRow(
            scene.well.name,
            scene.field,
            scene.timepoint,
            int(scene.cells["id"][row]),
            round(float(centres[row, 0]), 2),
            round(float(centres[row, 1]), 2),
            round(float(shapes.radius[row] / pixel_size_um), 2),
            STATES[scene.cells["state"][row]],
            scene.well.arm,
            bool(cut[row]),
            bool(found[row]),
        )
        for row in np.flatnonzero(shows)
    ]


def well_row(scene: Scene, cells: Sequence[CellRow]) -> WellRow:
    """The counts of one frame."""
    counts = Counter(cell.state for cell in cells if cell.detectable)
    return WellRow(
        scene.well.name,
        scene.field,
        scene.timepoint,
        scene.well.arm,
        round(scene.hours, 4),
        counts["live"],
        counts["apoptotic"],
        counts["necrotic"],
        counts["debris"],
        scene.defocus_um > 0,
    )


class TruthWriter:
    """Writes the truth frame by frame, so that a rehearsal that is stopped leaves what it has shown."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], wells: Iterable[Well]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "assay.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        _write_plate(folder / "plate.csv", wells)
        self._files: list[IO[str]] = []
        self._cells = self._open(folder / "cells.csv", CellRow)
        self._wells = self._open(folder / "wells.csv", WellRow)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    def add(self, cells: Iterable[CellRow], well: WellRow) -> None:
        """Append one frame's truth and flush it."""
        self._cells.writerows(_plain(cell) for cell in cells)
        self._wells.writerow(_plain(well))
        for file in self._files:
            file.flush()

    def _open(self, path: Path, row: type) -> Any:
        file = path.open("w", encoding="utf-8", newline="")
        self._files.append(file)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(part.name for part in fields(row))
        return writer


def read_wells(path: Path) -> list[WellRow]:
    """The rows of a `wells.csv`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            WellRow(
                line["well"],
                int(line["field"]),
                int(line["timepoint"]),
                line["arm"],
                float(line["hours"]),
                int(line["live"]),
                int(line["apoptotic"]),
                int(line["necrotic"]),
                int(line["debris"]),
                line["defocused"] == "true",
            )
            for line in csv.DictReader(file)
        ]


def read_cells(path: Path) -> list[CellRow]:
    """The rows of a `cells.csv`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            CellRow(
                line["well"],
                int(line["field"]),
                int(line["timepoint"]),
                int(line["cell_id"]),
                float(line["y_px"]),
                float(line["x_px"]),
                float(line["radius_px"]),
                line["state"],
                line["arm"],
                line["in_frame_edge"] == "true",
                line["detectable"] == "true",
            )
            for line in csv.DictReader(file)
        ]


def _write_plate(path: Path, wells: Iterable[Well]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("well", "compound", "dose", "role"))
        writer.writerows(
            (well.name, well.compound, f"{well.dose_um:g} uM" if well.compound else "", well.arm) for well in wells
        )


def _plain(row: CellRow | WellRow) -> tuple[object, ...]:
    return tuple(str(value).lower() if isinstance(value, bool) else value for value in astuple(row))


def _hidden(scene: Scene) -> npt.NDArray[np.bool_]:
    """Cells whose centre lies under an air bubble, (n,)."""
    dy = scene.cells["y_um"][:, None] - scene.bubbles[None, :, 0]
    dx = scene.cells["x_um"][:, None] - scene.bubbles[None, :, 1]
    return np.asarray((np.hypot(dy, dx) < scene.bubbles[None, :, 2]).any(axis=1))
