"""How a field looks in holotomography: the highest refractive index above each point, as Nanolive shows it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32
from cellvigil.rehearse.optics import Optics, blurred, centres_px, frame_rng
from cellvigil.rehearse.patch import Patch, blob, patches, table_depths, table_rows
from cellvigil.rehearse.scene import APOPTOTIC, DEBRIS, LIVE, NECROTIC, Floats, Scene
from cellvigil.rehearse.shape import shapes_of

MEDIUM = 1.337
"""Refractive index of the culture medium."""
_NOISE = 0.0005


@dataclass(frozen=True, slots=True)
class Index:
    """A cell's refractive index above the medium's."""

    rim: float  # just below the membrane
    middle: float  # deep inside
    grain: float  # sigma of the granules
    nucleolus: float


_INDICES = {
    LIVE: Index(0.010, 0.018, 0.0022, 0.009),
    APOPTOTIC: Index(0.022, 0.034, 0.0040, 0.000),
    NECROTIC: Index(0.006, 0.006, 0.0022, 0.006),
    DEBRIS: Index(0.020, 0.032, 0.0030, 0.000),
}
_MITOTIC = Index(0.015, 0.024, 0.0025, 0.010)


def refractive_index(scene: Scene, optics: Optics) -> F32:
    """The maximum projection of one field, (Y, X) f32 refractive index."""
    rng = frame_rng(scene, optics.seed, "holotomography")
    canvas = np.zeros(optics.shape, dtype=np.float32)
    shapes = shapes_of(scene.cells, optics.mitosis)
    states = scene.cells["state"]
    for patch in patches(shapes, range(len(states)), centres_px(scene, optics), optics.shape, optics.pixel_size_um):
        row = patch.index
        ground = canvas[patch.window]
        mitotic = bool(shapes.mitotic[row] > 0)
        picture = _cell(patch, int(states[row]), mitotic, float(shapes.course[row]), float(shapes.body[row]))
        np.maximum(ground, np.float32(scene.well.contrast) * picture, out=ground)
    for y_um, x_um, radius_um in scene.bubbles:
        _shadow(canvas, y_um / optics.pixel_size_um, x_um / optics.pixel_size_um, radius_um / optics.pixel_size_um)
    noise = rng.standard_normal((2, *optics.shape), dtype=np.float32)
    smooth = blurred(canvas, scene, optics, 0.15) + blurred(noise[0], scene, optics, 0.4) * np.float32(2 * _NOISE)
    return np.asarray(np.float32(MEDIUM) + smooth + np.float32(_NOISE) * noise[1], dtype=np.float32)


def _cell(patch: Patch, state: int, mitotic: bool, course: float, body_um: float) -> F32:
    look = _MITOTIC if mitotic else _INDICES[state]
    traits = patch.traits
    gain = (0.85 + 0.3 * float(traits[30])) * (1 - 0.35 * course if state == NECROTIC else 1.0)
    depth = table_depths()
    cover = 1 / (1 + np.exp(-np.clip(depth / 0.12, -50, 50)))
    profile = cover * (look.rim + (look.middle - look.rim) * -np.expm1(-np.maximum(depth, 0) / 2.5))
    rows = table_rows(patch.depth)
    inside = cover.astype(np.float32)[rows]
    # Droplets of fat are the brightest things in a live cell: the upper tail of the granules.
    droplets = np.maximum(patch.grain - np.float32(1.9), 0) * np.float32(0.012 if state == LIVE else 0.0)
    texture = patch.grain * np.float32(look.grain) + droplets
    if look.nucleolus:
        texture += _nucleus(patch, traits, body_um, look.nucleolus)
    picture = (profile.astype(np.float32)[rows] + texture * inside) * np.float32(gain)
    return np.asarray(picture, dtype=np.float32)


def _nucleus(patch: Patch, traits: Floats, body_um: float, nucleolus: float) -> F32:
    """A nucleus a little less dense than the cytoplasm, with two dense nucleoli."""
    angle, away = 2 * np.pi * float(traits[32]), 0.22 * body_um * float(traits[33])
    y_um, x_um = away * np.sin(angle), away * np.cos(angle)
    picture = np.float32(-0.35 * nucleolus) * blob(patch.dy, patch.dx, y_um, x_um, 0.5 * body_um)
    for spot in range(2):
        turn = 2 * np.pi * float(traits[35 + spot])
        at_y, at_x = y_um + 0.22 * body_um * np.sin(turn), x_um + 0.22 * body_um * np.cos(turn)
        picture += np.float32(nucleolus) * blob(patch.dy, patch.dx, at_y, at_x, 1.0)
    return np.asarray(picture, dtype=np.float32)


def _shadow(canvas: F32, y: float, x: float, radius: float) -> None:
    """An air bubble: no light comes through it, the reconstruction shows nothing there."""
    rows, columns = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    canvas[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 0
