"""How far the cells of control wells have come from where they were at a fit: pure, arrays in, figures out.

Each frame is its counted cells' mean vector. At the fit these means had a centre and a spread; a control frame's
distance from that centre, in units of that spread, is about 1 while nothing drifts. Drift looks at control wells only,
since a drug's effect is a shift too (reference/methods.md, "Transport").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellvigil.data import Embeddings

MOST = 12
"""Control frames that are looked at, the newest ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """Where control wells were at a fit."""

    centre: Embeddings  # encoder name -> (d_e,) f32
    spread: Mapping[str, float]  # encoder name -> root mean square distance of a frame from the centre

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        centre = {name: [float(value) for value in vector] for name, vector in self.centre.items()}
        return {"centre": centre, "spread": dict(self.spread)}


def hold_of(means: Sequence[Embeddings]) -> Hold | None:
    """From each frame's mean vector (encoder -> (d_e,)); None for fewer than two frames, or where all are alike."""
    if len(means) < 2:
        return None
    stacks = {name: np.stack([mean[name] for mean in means]).astype(np.float64) for name in means[0]}
    centre = {name: stack.mean(axis=0) for name, stack in stacks.items()}
    squares = {name: ((stack - centre[name]) ** 2).sum() / (len(means) - 1) for name, stack in stacks.items()}
    if not all(math.isfinite(square) and square > 0 for square in squares.values()):
        return None
    spread = {name: math.sqrt(square) for name, square in squares.items()}
    return Hold({name: vector.astype(np.float32) for name, vector in centre.items()}, spread)


def hold_from(plain: Mapping[str, Any]) -> Hold | None:
    """What `Hold.plain` gave; None for {}."""
    if not plain:
        return None
    centre = {name: np.asarray(vector, dtype=np.float32) for name, vector in plain["centre"].items()}
    return Hold(centre, {name: float(value) for name, value in plain["spread"].items()})


def ratio(hold: Hold, means: Sequence[Embeddings]) -> float:
    """The median frame's distance from the hold's centre, in its spread, over all encoders; NaN without a frame."""
    if not means:
        return math.nan
    return float(np.median([_distance(hold, mean) for mean in means]))


def _distance(hold: Hold, mean: Embeddings) -> float:
    squares = [
        float(((mean[name].astype(np.float64) - centre) ** 2).sum()) / hold.spread[name] ** 2
        for name, centre in hold.centre.items()
    ]
    return math.sqrt(sum(squares) / len(squares))
