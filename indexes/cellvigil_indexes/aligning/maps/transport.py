"""Fused Gromov-Wasserstein as a map: references carried to where the target's cells are (section 3.3).

References and target are dealt into subsets of at most 2,000, as the paper does, each reference subset is transported
to each target subset, and the images are recombined. Our departure: a reference stays one row. Its image is the AVERAGE
of its images in the target subsets (5 at most), where pooling them as rows of their own would multiply the references
and with them the votes of a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.data import F32, I16, I64, Bools, frozen_array
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.barycentre import images
from cellvigil_indexes.aligning.maps.comparing import BEFORE, distances
from cellvigil_indexes.aligning.maps.domains import cell_masses, check_domains
from cellvigil_indexes.aligning.maps.fused import ITERATIONS, Plan, fused_plan, problem
from cellvigil_indexes.aligning.maps.relaxed import relaxed_plan
from cellvigil_indexes.aligning.maps.subsets import dealt
from cellvigil_indexes.aligning.sharing.graph import NEIGHBOURS, geodesic
from cellvigil_indexes.aligning.values import F64, Mapped


@dataclass(frozen=True, slots=True)
class Transport:
    """How references are transported."""

    alpha: float = 0.5  # 0: features alone; 1: structure alone
    k: int = NEIGHBOURS  # of the graphs
    subset: int = 2000  # cells at a time, on either side
    target_subsets: int = 5  # at most
    before: str = "none"  # a key of BEFORE: in which space features are compared
    pull: float | None = None  # None: class masses are kept; else how strongly, see `relaxed`
    iterations: int = ITERATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha} must be from 0 (features alone) to 1 (structure alone)")
        if self.k < 1 or self.subset < 2 or self.target_subsets < 1 or self.iterations < 1:
            raise UsageError("k, target_subsets and iterations must be at least 1, subset at least 2")
        if self.before not in BEFORE:
            raise UsageError(f"before {self.before!r} is none of {', '.join(BEFORE)}")
        if self.pull is not None and not self.pull > 0:
            raise UsageError(f"pull {self.pull} must be above 0")


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One subset of a side."""

    compared: F32  # (n, d) vectors that costs are taken between
    vectors: F32  # (n, d) as they came
    structure: F64  # (n, n) geodesic distances within it


def fgw(references: F32, labels: I16, target: F32, shares: F64 | None, *, settings: Transport | None = None) -> Mapped:
    """References (N, d) at the barycentres of the target cells that they are coupled with (equation 4).

    With shares, a class's references have its share as their mass together. Rows that hardly any mass leaves are not
    kept. The map knows no cell but these references: `affine` is None.

    Raises UsageError for sides that cannot be mapped (`check_domains`), or where POT is not installed.
    """
    wanted = settings or Transport()
    check_domains(references, labels, target)
    masses = cell_masses(labels, shares)
    compared, asked = BEFORE[wanted.before](references, masses, target)
    rng = np.random.default_rng(wanted.seed)
    weighing = np.flatnonzero(masses > 0)
    own = [weighing[rows] for rows in dealt(len(weighing), wanted.subset, rng, labels[weighing])]
    theirs = dealt(len(target), wanted.subset, rng)[: wanted.target_subsets]
    there = [_side(asked, target, rows, wanted.k) for rows in theirs]
    out, kept = np.zeros(references.shape, dtype=np.float32), np.zeros(len(references), dtype=bool)
    told: list[dict[str, float | str]] = []
    for rows in own:
        here = _side(compared, references, rows, wanted.k)
        out[rows], kept[rows], plans = _averaged(here, labels[rows], there, shares, wanted)
        told.extend({"cost": plan.cost, "iterations": plan.iterations, "start": plan.start} for plan in plans)
    return Mapped(frozen_array(out), frozen_array(kept), None, {"alpha": wanted.alpha, "k": wanted.k, "plans": told})


def _side(compared: F32, vectors: F32, rows: I64, k: int) -> _Part:
    return _Part(compared[rows], vectors[rows], geodesic(vectors[rows], k))


def _averaged(
    here: _Part, labels: I16, there: list[_Part], shares: F64 | None, wanted: Transport
) -> tuple[F32, Bools, list[Plan]]:
    """The images (n, d) of one reference subset, averaged over the target subsets in which each is kept."""
    masses = cell_masses(labels, shares)
    total, times, plans = np.zeros(here.vectors.shape), np.zeros(len(here.vectors)), []
    for part in there:
        plan = _coupled(here, labels, part, masses, wanted)
        places, kept = images(plan.coupling, masses, part.vectors)
        total[kept] += places[kept]
        times += kept
        plans.append(plan)
    return (total / np.maximum(times, 1)[:, None]).astype(np.float32), times > 0, plans


def _coupled(here: _Part, labels: I16, part: _Part, masses: F64, wanted: Transport) -> Plan:
    costs = distances(here.compared, part.compared)
    equal = np.full(len(part.vectors), 1.0 / len(part.vectors))
    given = problem(costs, here.structure, part.structure, masses, equal, alpha=wanted.alpha)
    if wanted.pull is None:
        return fused_plan(given, iterations=wanted.iterations)
    return relaxed_plan(given, labels, pull=wanted.pull, iterations=wanted.iterations)
