"""The values of a rehearsal: what a cell is, what a well got, and what one field of view holds at one time.

Pure: no files, no images. Lengths are micrometres, times hours, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LIVE, APOPTOTIC, NECROTIC, DEBRIS = range(4)
STATES = ("live", "apoptotic", "necrotic", "debris")
"""State names by code: the classes of a rehearsal's reference and of its truth."""

GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}
"""What each state means for a count: `--states live=alive,apoptotic=dying,necrotic=dead,debris=artefact`."""

CONTROL, TREATED = "control", "treated"

CELL = np.dtype(
    [
        ("id", "i8"),  # unique in its field of view, never used again
        ("y_um", "f8"),  # centre, from the frame's first pixel's centre; may lie outside the frame
        ("x_um", "f8"),
        ("size_um", "f8"),  # radius of the live cell just before it divides
        ("cycle", "f8"),  # 0..1 through the cell cycle; live cells only
        ("state", "i1"),  # code of STATES
        ("age_h", "f8"),  # since the cell entered its state
        ("span_h", "f8"),  # how long the state's visible course takes
        ("start_um", "f8"),  # radius on entering the state
        ("look", "u4"),  # seed of everything about its looks that stays with it
    ]
)

Table = npt.NDArray[np.void]
"""A structured array of CELL records, (n,)."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Well:
    """One well: what it got, and how it differs from the others."""

    name: str  # "A1"
    arm: str  # CONTROL or TREATED
    compound: str  # "" in controls
    dose_um: float  # micromolar; 0 in controls
    kill_per_h: float  # highest hazard of death that the dose brings, 1/h
    size: float  # factor on cell radius, about 1
    density: float  # factor on cells a field, about 1
    brightness: float  # factor on the lamp, about 1
    contrast: float  # factor on the cells' contrast, about 1


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One field of view at one time: all that the optics need, and the truth."""

    well: Well
    field: int  # 1-based
    timepoint: int  # 0-based
    hours: float  # since the assay began
    cells: Table  # (n,) CELL records, also of cells just outside the frame
    bubbles: Floats  # (b, 3) y, x, radius in um
    defocus_um: float  # blur of a frame that the autofocus missed (Gaussian sigma, um); 0 = in focus


def uniform(seeds: npt.NDArray[Any], count: int) -> Floats:
    """`count` numbers in [0, 1) for each seed, always the same ones: (n,) integers -> (n, count).

    A counter-based hash (the finaliser of splitmix64; it wraps at 2^64): a cell keeps its looks without a generator.
    """
    state = seeds.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    state = state + np.arange(1, count + 1, dtype=np.uint64)[None, :] * np.uint64(0xD1B54A32D192ED03)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)
