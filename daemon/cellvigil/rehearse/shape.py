"""The outlines of cells: which ground each one covers. Pure; the pictures and the truth both come from here.

A shape is a wavy disc and up to `LOBES` round lobes on it: the blebs of an apoptotic cell, later the bodies it falls
into, or the two halves of a cell that divides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.rehearse.cells import progress, radius_um
from cellvigil.rehearse.scene import APOPTOTIC, DEBRIS, LIVE, NECROTIC, Floats, Table, uniform

LOBES = 7
TRAITS = 40
"""Random numbers a cell has for its looks; which does what is said where it is used."""

_WAVINESS = {
    LIVE: (0.10, 0.05, 0.02),
    APOPTOTIC: (0.08, 0.06, 0.03),
    NECROTIC: (0.06, 0.04, 0.02),
    DEBRIS: (0.2, 0.15, 0.08),
}


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """What n cells look like from above; lengths in um, rows in the cells' order."""

    radius: Floats  # (n,) of the whole cell: what the truth tells
    body: Floats  # (n,) of the wavy disc
    waves: Floats  # (n, 3) amplitude of the outline's 2nd, 3rd and 5th harmonic, as shares of the body
    phases: Floats  # (n, 3) radians
    lobes: Floats  # (n, LOBES, 3) dy, dx, radius from the cell's centre; radius 0 = none
    course: Floats  # (n,) progress through the state, 0..1
    mitotic: Floats  # (n,) progress through mitosis, 0..1; 0 = not dividing
    traits: Floats  # (n, TRAITS) uniform numbers that stay with the cell


def shapes_of(cells: Table, mitosis: float) -> Shapes:
    """The shapes of `cells`; `mitosis` is the share of the cell cycle spent rounded up."""
    traits = uniform(cells["look"], TRAITS)
    state, course = cells["state"], progress(cells)
    mitotic = np.where(state == LIVE, np.clip((cells["cycle"] - (1 - mitosis)) / mitosis, 0, 1), 0)
    waves = np.array([_WAVINESS[code] for code in range(4)])[state] * (0.5 + traits[:, 0:3])
    waves[mitotic > 0] *= 0.2
    radius = radius_um(cells, mitosis)
    crumbling = np.where(state == APOPTOTIC, np.clip((course - 0.6) / 0.4, 0, 1), 0)
    body = np.where(state == APOPTOTIC, radius * (0.86 - 0.42 * crumbling), radius)
    lobes = _blebs(radius, course, crumbling, traits) * (state == APOPTOTIC)[:, None, None]
    return Shapes(radius, body, waves, 2 * np.pi * traits[:, 3:6], lobes, course, mitotic, traits)


def outlines(shapes: Shapes, points: int = 32) -> Floats:
    """Points on each cell's outer border, from its centre: (n, points, 2) dy, dx in um."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    reach = np.ones((len(shapes.body), points))
    for column, order in enumerate((2, 3, 5)):
        reach += shapes.waves[:, column, None] * np.cos(order * angle[None, :] - shapes.phases[:, column, None])
    reach *= shapes.body[:, None]
    along_y, along_x = np.sin(angle), np.cos(angle)
    for lobe in range(LOBES):
        dy, dx, radius = (shapes.lobes[:, lobe, part, None] for part in range(3))
        middle = dy * along_y + dx * along_x
        inside = radius**2 - (dy**2 + dx**2 - middle**2)
        reach = np.where((inside > 0) & (radius > 0), np.maximum(reach, middle + np.sqrt(np.maximum(inside, 0))), reach)
    return np.stack([reach * along_y, reach * along_x], axis=-1)


def _blebs(radius: Floats, course: Floats, crumbling: Floats, traits: Floats) -> Floats:
    """Blebs that swell on the rim in the first half of the course and stay as the body shrinks: (n, LOBES, 3)."""
    numbers = np.arange(LOBES)[None, :]
    count = 3 + np.floor(5 * traits[:, 6, None])
    grown = np.clip((course[:, None] - 0.06 - 0.14 * traits[:, 14 : 14 + LOBES]) / 0.25, 0, 1) * (numbers < count)
    size = radius[:, None] * (0.16 + 0.24 * traits[:, 7 : 7 + LOBES] ** 1.5) * grown * (1 + 0.3 * crumbling[:, None])
    angle = 2 * np.pi * (numbers + 0.9 * traits[:, 14 : 14 + LOBES]) / count + 2 * np.pi * traits[:, 28, None]
    out = radius[:, None] * (0.72 - 0.10 * crumbling[:, None] + 0.22 * traits[:, 21 : 21 + LOBES])
    return np.stack([out * np.sin(angle), out * np.cos(angle), size], axis=-1)
