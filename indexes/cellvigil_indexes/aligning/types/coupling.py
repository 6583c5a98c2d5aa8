"""References carried to where the target's cells are, by one transport for all encoders (sections 3.2 and 3.3).

Our departures from the paper: cells are compared in the common frame (`frame`) and not as they came, where the shift
between the devices is part of every distance; the classes have the target's shares as masses (`masses`); and one plan
serves every encoder, so that a reference lies at the same target cells whichever encoder looks. Subsets of at most
2,000 on either side; a reference is where it lies on average over the target's subsets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellvigil.data import F32, I16, I64, Bools, Embeddings
from cellvigil_indexes.aligning.maps.barycentre import images
from cellvigil_indexes.aligning.maps.fused import fused_plan, problem
from cellvigil_indexes.aligning.maps.subsets import dealt
from cellvigil_indexes.aligning.settings import AlignSettings
from cellvigil_indexes.aligning.sharing.graph import geodesic
from cellvigil_indexes.aligning.values import F64

ITERATIONS = 10
"""Of a plan: it starts from the features alone, which decide nearly all of it at the default alpha."""


ALPHA = 0.1
"""Of the transport, where nobody asks for another: along the common axes features tell nearly all."""


def alpha_of(settings: AlignSettings) -> float:
    """The trade-off between features (0) and structure (1)."""
    return ALPHA if settings.alpha is None else settings.alpha


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of a transport. Row i of everything is cell i."""

    placed: F64  # (n, r) in the common frame
    embeddings: Embeddings  # encoder -> (n, d_e) as they came
    known: dict[bytes, F64] = field(default_factory=dict)  # structures of subsets, by their rows

    def rows(self, rows: I64) -> Side:
        """These cells only."""
        return Side(self.placed[rows], {name: block[rows] for name, block in self.embeddings.items()})

    def structure(self, rows: I64, k: int) -> F64:
        """Geodesic distances within these cells, (n, n); found once."""
        key = rows.tobytes()
        if key not in self.known:
            self.known[key] = geodesic(joined(self.rows(rows).embeddings), k)
        return self.known[key]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """References at target cells."""

    vectors: dict[str, F32]  # encoder -> (N, d_e) in the target's space
    kept: Bools  # (N,)
    told: list[dict[str, Any]]  # cost and iterations of every plan


def transported(
    own: Side, labels: I16, masses: F64, target: Side, settings: AlignSettings, *, against: F64 | None = None
) -> Carried:
    """Carry references (N) whose cells weigh `masses`, sum 1, to the target's cells (M).

    `against` (M, classes), in usual costs between cells: what it costs besides to lay a class on a cell.

    Raises UsageError where POT is not installed, or all cells are the same.
    """
    rng = np.random.default_rng(settings.seed)
    weighing = np.flatnonzero(masses > 0)
    mine = [weighing[rows] for rows in dealt(len(weighing), settings.subset, rng, labels[weighing])]
    theirs = dealt(len(target.placed), settings.subset, rng)[: settings.runs]
    there = [_part(target, rows, settings, None if against is None else against[rows]) for rows in theirs]
    out = {name: np.zeros(block.shape, dtype=np.float32) for name, block in own.embeddings.items()}
    kept, told = np.zeros(len(labels), dtype=bool), []
    for rows in mine:
        here, weight = _part(own, rows, settings, None), masses[rows] / masses[rows].sum()
        done = _averaged(here, labels[rows], weight, there, settings)
        for name, block in done.vectors.items():
            out[name][rows] = block
        kept[rows] = done.kept
        told.extend(done.told)
    return Carried(out, kept, told)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A subset of a side."""

    side: Side
    structure: F64  # (n, n)
    against: F64 | None  # (n, classes), of target cells


def _part(side: Side, rows: I64, settings: AlignSettings, against: F64 | None) -> _Part:
    """With its geodesic distances; for alpha 0, at which nobody looks at them, with ones."""
    bent = alpha_of(settings) > 0
    structure = side.structure(rows, settings.graph_k) if bent else np.ones((len(rows), len(rows)))
    return _Part(side.rows(rows), structure, against)


def _averaged(here: _Part, labels: I16, weight: F64, there: list[_Part], settings: AlignSettings) -> Carried:
    """One subset of the references, each where it lies on average over the target's subsets."""
    own, told = here.side, []
    times = np.zeros(len(labels))
    sums = {name: np.zeros((len(labels), block.shape[1])) for name, block in own.embeddings.items()}
    for part in there:
        cells = len(part.side.placed)
        costs = _costs(own.placed, part.side.placed, labels, part.against)
        equal = np.full(cells, 1.0 / cells)
        given = problem(costs, here.structure, part.structure, weight, equal, alpha=alpha_of(settings))
        plan = fused_plan(given, iterations=ITERATIONS)
        told.append({"cost": plan.cost, "iterations": plan.iterations, "start": plan.start})
        for name, block in part.side.embeddings.items():
            places, whole = images(plan.coupling, weight, np.asarray(block, dtype=np.float32))
            sums[name][whole] += places[whole]
        times += whole
    vectors = {name: (block / np.maximum(times, 1)[:, None]).astype(np.float32) for name, block in sums.items()}
    return Carried(vectors, times > 0, told)


def joined(embeddings: Embeddings) -> F32:
    """All encoders side by side, each with a spread of 1: (n, sum of d_e)."""
    blocks = [np.asarray(block, dtype=np.float32) for block in embeddings.values()]
    return np.concatenate([block / (float(block.std()) or 1.0) for block in blocks], axis=1)


def _costs(own: F64, theirs: F64, labels: I16, against: F64 | None) -> F64:
    """Squared distances in the frame, (n, m), and what speaks against a class at a cell."""
    squared = np.square(own).sum(axis=1)[:, None] + np.square(theirs).sum(axis=1) - 2.0 * (own @ theirs.T)
    costs = np.maximum(squared, 0.0)
    if against is not None:
        costs = costs / (float(costs.mean()) or 1.0) + against[:, labels].T
    return np.asarray(costs)
