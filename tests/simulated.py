"""Simulated frames as the pipeline sees them, for the tests: the picture, the truth, and the cells found in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cellvigil.config import Segment
from cellvigil.data import Cells, Frame, FrameKey, ImageRule
from cellvigil.normalize import analysis_image, intensity_range
from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.holotomography import refractive_index
from cellvigil.rehearse.scene import Scene
from cellvigil.rehearse.score import Matching, match_cells
from cellvigil.rehearse.truth import cell_rows
from cellvigil.segment import cells_from_labels, opencv_segmenter

RULE = ImageRule()


def assay_of(kind: str = "gen5", **settings: Any) -> Assay:
    """One control and one treated well, every frame in focus and without bubbles unless asked for."""
    usual = {"seed": 3, "wells": ("A1", "B1"), "treated": ("B1",), "timepoints": 4, "minutes": 360.0, "dosed_at": 0}
    return Assay(**{"kind": kind, "defocus_rate": 0.0, "bubble_rate": 0.0, **usual, **settings})


def plane_of(assay: Assay, scene: Scene, **changes: Any) -> np.ndarray:
    """The raw label-free plane of a scene; `changes` are fields of the scene, such as `defocus_um`."""
    paint = optics.bright_field if assay.kind == "gen5" else refractive_index
    return np.asarray(paint(replace(scene, **changes), assay.optics))


def frames_of(assay: Assay) -> list[tuple[Scene, Frame]]:
    """Every scene of an assay with its frame."""
    pixel_um = (assay.micrometres_a_pixel,) * 2
    pairs = []
    for scene in simulate(assay):
        key = FrameKey("scope", assay.experiment, assay.plate, scene.well.name, str(scene.field), scene.timepoint)
        moment = datetime(2024, 3, 1, tzinfo=UTC)
        pairs.append((scene, Frame(key, moment, plane_of(assay, scene)[None], ("BF",), pixel_um, ())))
    return pairs


def range_of(frame: Frame) -> tuple[float, float]:
    """The intensity range that one frame alone would give."""
    return intensity_range([frame.pixels[0]], RULE.intensity)


def cells_of(frame: Frame, intensity: tuple[float, float], settings: Segment | None = None) -> Cells:
    """The cells of a frame, found as the service finds them."""
    image = analysis_image(frame, "", RULE, intensity)
    labels = opencv_segmenter(settings or Segment())(image.pixels, image.pixel_size_um)
    return cells_from_labels(labels, frame.pixels.shape[1:], frame.pixel_size_um)


def matching_of(assay: Assay, scene: Scene, cells: Cells) -> Matching:
    """What was found, against what was there; cells that touch the border are left out, as in the counts."""
    inner = cells.centroids_px[~cells.touches_edge]
    truth = cell_rows(scene, assay.frame_shape, assay.micrometres_a_pixel, assay.mitosis)
    return match_cells(inner, ["live"] * len(inner), truth)
