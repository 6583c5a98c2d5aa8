"""How a cell looks in label-free bright field, slightly out of focus as it is used for counting. Pure.

Each cell is painted by the depth below its own outline: a bright halo outside, a dark rim, a bright line inside it,
then cytoplasm with granules and hints of a nucleus. The canvas holds contrast: 0 is the empty ground, 1 twice that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32
from cellvigil.rehearse.patch import Patch, blob, patches, table_depths, table_rows, turned
from cellvigil.rehearse.scene import APOPTOTIC, DEBRIS, LIVE, NECROTIC, Floats
from cellvigil.rehearse.shape import Shapes

_NO_NUCLEUS = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """Contrast of one cell against the ground, and the width of its rim."""

    halo: float
    rim: float
    line: float
    lens: float  # brightening below the rim, as a thick round body gathers light
    level: float  # of the cytoplasm
    grain: float  # sigma of the granules
    nucleus: float
    rim_um: float


_LOOKS = {
    LIVE: Look(0.15, -0.24, 0.09, 0.02, -0.005, 0.050, -0.075, 0.75),
    APOPTOTIC: Look(0.17, -0.30, 0.05, 0.17, -0.085, 0.075, _NO_NUCLEUS, 0.65),
    NECROTIC: Look(0.07, -0.17, 0.02, 0.00, -0.016, 0.034, -0.120, 0.60),
    DEBRIS: Look(0.13, -0.34, 0.00, 0.24, -0.100, 0.060, _NO_NUCLEUS, 0.60),
}
_MITOTIC = Look(0.25, -0.34, 0.14, 0.12, 0.010, 0.040, -0.170, 0.80)


def look_of(state: int, course: float, mitotic: float, traits: Floats) -> Look:
    """The look of one cell; its contrast and the brightness of its cytoplasm vary from cell to cell."""
    look = _MITOTIC if mitotic > 0 else _LOOKS[state]
    gain = 0.8 + 0.45 * float(traits[30])
    if state == NECROTIC:
        gain *= 1 - 0.35 * course
    if state == APOPTOTIC:
        gain *= 0.75 + 0.25 * min(1.0, course / 0.15)
    level = 0.06 * (float(traits[31]) - 0.5)
    return Look(
        gain * look.halo,
        gain * look.rim,
        gain * look.line,
        gain * look.lens,
        gain * look.level + level,
        gain * look.grain,
        gain * look.nucleus,
        look.rim_um,
    )


def paint(canvas: F32, shapes: Shapes, states: np.ndarray, centres_px: Floats, pixel_size_um: float) -> None:
    """Paint every cell onto the contrast canvas (Y, X), in place; the small dense ones last, as they lie on top."""
    order = [int(row) for row in np.argsort(np.isin(states, (APOPTOTIC, DEBRIS)), kind="stable")]
    frame = (canvas.shape[0], canvas.shape[1])
    for patch in patches(shapes, order, centres_px, frame, pixel_size_um):
        row = patch.index
        state, mitotic, body = int(states[row]), float(shapes.mitotic[row]), float(shapes.body[row])
        look = look_of(state, float(shapes.course[row]), mitotic, patch.traits)
        profile, cover = _profiles(look)
        entries = table_rows(patch.depth)
        inside = cover[entries]
        texture = patch.grain * np.float32(look.grain)
        if look.nucleus != _NO_NUCLEUS:
            texture += nucleus(patch, body, look.nucleus, state, mitotic)
        ground = canvas[patch.window]
        ground *= 1 - inside
        ground += profile[entries] + texture * inside


def nucleus(patch: Patch, body_um: float, depth: float, state: int, mitotic: float) -> F32:
    """The nucleus' own contrast, (h, w): a ring with nucleoli, a plate of chromosomes, or the knot of a dead cell."""
    traits = patch.traits
    angle, away = 2 * np.pi * float(traits[32]), 0.22 * body_um * float(traits[33])
    y_um, x_um = away * np.sin(angle), away * np.cos(angle)
    along, across = turned(patch, angle, y_um, x_um)
    if mitotic > 0:
        plate = (along / np.float32(0.6 * body_um)) ** 4 + (across / np.float32(0.17 * body_um)) ** 2
        return np.asarray(np.float32(depth) * np.exp(-plate), dtype=np.float32)
    if state == NECROTIC:
        knot = body_um * (0.36 + 0.14 * float(traits[34]))
        clump = ((along / np.float32(knot)) ** 2 + (across / np.float32(0.8 * knot)) ** 2) ** 2
        return np.asarray(np.float32(depth) * np.exp(-clump), dtype=np.float32)
    size = body_um * (0.5 + 0.1 * float(traits[34]))
    reach = np.sqrt((along / np.float32(size)) ** 2 + (across / np.float32(0.8 * size)) ** 2)
    picture = np.float32(depth) * np.exp(-(((reach - 1) * np.float32(size / 0.7)) ** 2))
    picture -= np.float32(0.45 * depth) * np.exp(-(reach**4))
    for spot in range(2):
        turn = 2 * np.pi * float(traits[35 + spot])
        picture += np.float32(1.6 * depth) * blob(
            patch.dy, patch.dx, y_um + 0.45 * size * np.sin(turn), x_um + 0.45 * size * np.cos(turn), 0.9
        )
    return np.asarray(picture, dtype=np.float32)


def _profiles(look: Look) -> tuple[F32, F32]:
    """Contrast and cover (0..1) by depth, as depth tables."""
    depth = table_depths()
    cover = 1 / (1 + np.exp(-np.clip(depth / 0.12, -50, 50)))
    profile = look.halo * np.exp(-(((depth + 0.9) / 0.8) ** 2)) * (1 - cover)
    profile += look.rim * np.exp(-(((depth - 0.55 * look.rim_um) / look.rim_um) ** 2)) * cover
    profile += look.line * np.exp(-(((depth - 2.4 * look.rim_um) / (0.9 * look.rim_um)) ** 2))
    profile += (look.level + look.lens * -np.expm1(-np.maximum(depth, 0) / 2.0)) * cover
    return profile.astype(np.float32), cover.astype(np.float32)
