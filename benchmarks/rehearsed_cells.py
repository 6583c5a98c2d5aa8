"""Rehearsed cells as one microscope or another shows them, through the pipeline's own steps: vectors, true states.

Used by `align_guards.py`. A microscope is a change of the rehearsed frames before they are cut and embedded: everything
after the camera is the pipeline (`pipeline.baseline_of`, `prepare`, `embed`), so cells are also found differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

import cv2
import numpy as np

from cellvigil import pipeline
from cellvigil.data import Array, Frame, FrameKey
from cellvigil.pipeline import Recipe
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.optics import SATURATION, bright_field
from cellvigil.rehearse.scene import Scene
from cellvigil.rehearse.score import match_cells
from cellvigil.rehearse.truth import cell_rows

SPURIOUS, CUT = "spurious", "cut"  # matches no true cell; matches one that counts for nothing (cut, hidden, too small)


def _other(picture: Array, contrast: float, blur_px: float, fall: float, noise: float, gamma: float) -> Array:
    """The picture through another lamp, objective and camera, u16."""
    light = picture.astype(np.float32) / SATURATION
    ground = np.median(light)
    light = ground + contrast * (light - ground)
    if blur_px:
        light = cv2.GaussianBlur(light, (0, 0), blur_px)
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in light.shape)
    light = light * (1 - fall * 0.5 * (y[:, None] ** 2 + x[None, :] ** 2))
    light = np.clip(light, 0, 1) ** gamma
    seed = int(picture[:64, :64].sum())  # the frame's own, whatever was drawn before
    light = light + np.random.default_rng(seed).normal(0, noise, light.shape)
    return np.asarray(np.clip(light, 0, 1) * SATURATION, dtype=np.uint16)


MICROSCOPES: Mapping[str, Callable[[Array], Array]] = {
    "same": lambda picture: picture,
    "near": lambda picture: _other(picture, 0.8, 0.7, 0.2, 0.003, 0.9),
    "soft": lambda picture: _other(picture, 1.0, 1.6, 0.0, 0.0, 1.0),
    "pale": lambda picture: _other(picture, 0.45, 0.0, 0.3, 0.008, 1.0),
    "harsh": lambda picture: _other(picture, 1.3, 0.0, 0.15, 0.02, 1.8),
    "other": lambda picture: _other(picture, 0.6, 1.3, 0.3, 0.012, 0.7),
}
"""A little of all; blurred; little contrast under an uneven lamp; grainy with a steep gamma; some of all."""


@dataclass(frozen=True)
class Rehearsed:
    """Found cells of one assay on one microscope. Row i of every array is cell i."""

    embeddings: dict[str, Array]  # encoder -> (n, d)
    states: Array  # (n,) true state, SPURIOUS or CUT
    timepoints: Array  # (n,)
    treated: Array  # (n,) bool
    expected: dict[str, int]  # detectable true cells by state, found or not, after the baseline

    def rows(self, rows: Array) -> Rehearsed:
        """These cells only."""
        kept = {name: block[rows] for name, block in self.embeddings.items()}
        return Rehearsed(kept, self.states[rows], self.timepoints[rows], self.treated[rows], self.expected)


def rehearsed(assay: Assay, recipe: Recipe, microscope: str, keep: Path | None = None) -> Rehearsed:
    """Play the assay on a microscope, cut and embed its cells; `keep`: a file that keeps them between two runs."""
    if keep is not None and keep.exists():
        return _load(keep)
    change = MICROSCOPES[microscope]
    scenes = list(simulate(assay))
    first = [_frame(assay, scene, change) for scene in scenes[:4]]
    baseline = pipeline.baseline_of(first, recipe)
    blocks: dict[str, list[Array]] = {encoder.name: [] for encoder in recipe.encoders}
    states: list[str] = []
    times: list[int] = []
    treated: list[bool] = []
    expected: dict[str, int] = {}
    for scene in scenes:
        prepared = pipeline.prepare(_frame(assay, scene, change), recipe, baseline)
        [found] = pipeline.embed([prepared], recipe)
        for name, block in found.items():
            blocks[name].append(block)
        truth = cell_rows(scene, assay.frame_shape, assay.micrometres_a_pixel, assay.mitosis)
        for row in truth:
            if row.detectable:
                expected[row.state] = expected.get(row.state, 0) + 1
        own = [SPURIOUS] * len(prepared.cells)
        for cell, place in match_cells(prepared.cells.centroids_px, own, truth).pairs:
            own[cell] = truth[place].state if truth[place].detectable else CUT
        states += own
        times += [scene.timepoint] * len(own)
        treated += [scene.well.name in assay.treated] * len(own)
    whole = {name: np.concatenate(parts) for name, parts in blocks.items()}
    made = Rehearsed(whole, np.array(states), np.array(times), np.array(treated), expected)
    if keep is not None:
        _save(made, keep)
    return made


def _frame(assay: Assay, scene: Scene, change: Callable[[Array], Array]) -> Frame:
    picture = change(bright_field(scene, assay.optics))
    key = FrameKey("bench", assay.experiment, assay.plate, scene.well.name, str(scene.field), scene.timepoint)
    at = assay.started_at.replace(tzinfo=UTC) + timedelta(hours=scene.hours)
    size = assay.micrometres_a_pixel
    return Frame(key, at, picture[None], ("Bright Field",), (size, size), ())


def _save(made: Rehearsed, path: Path) -> None:
    names, counts = list(made.expected), list(made.expected.values())
    blocks = {f"embedding_{name}": block for name, block in made.embeddings.items()}
    np.savez(path, states=made.states, timepoints=made.timepoints, treated=made.treated, names=names, counts=counts,
             **blocks)  # fmt: skip


def _load(path: Path) -> Rehearsed:
    with np.load(path) as kept:
        blocks = {name.removeprefix("embedding_"): kept[name] for name in kept.files if name.startswith("embedding_")}
        expected = dict(zip(kept["names"].tolist(), kept["counts"].tolist(), strict=True))
        return Rehearsed(blocks, kept["states"], kept["timepoints"], kept["treated"], expected)
