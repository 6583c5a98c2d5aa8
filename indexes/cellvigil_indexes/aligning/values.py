"""What passes between the rooms of an alignment: targets, clusters, maps, voters. Values only, no methods that work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cellvigil.data import F32, I16, I32, I64, Bools, Embeddings

F64 = npt.NDArray[np.float64]

ORIGINAL, ALIGNED = "original", "aligned"
"""The spaces a voter may search in: the reference's vectors as they came, or as they were carried to the target."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """x -> (x - before) @ matrix + after: a map that carries any further cell too."""

    before: F32  # (d,) centre of the source
    matrix: F32  # (d, d), or (d,) for one that only stretches
    after: F32  # (d,) centre in the target


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Reference cells carried into a target's space; row i is reference cell i."""

    vectors: F32  # (N, d)
    kept: Bools  # (N,); False: the transport left it next to no mass, and its place says nothing
    affine: Affine | None = None  # None: a transport, which knows no cell but these
    told: Mapping[str, Any] = field(default_factory=dict)  # cost, iterations, regularisation, for a person


Mapper = Callable[[F32, I16, F32, F64 | None], Mapped]
"""(references (N, d), their labels (N,), target (M, d), the target's class shares (classes,) or None) -> Mapped.

With shares, the references of a class weigh together as much as its share says; with None, each cell weighs the same.
Raises UsageError for what cannot be mapped (too few cells, no spread), saying what to do.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Target cells grouped without labels (appendix A.1)."""

    labels: I32  # (M,) cluster ids, 0 and up
    central: tuple[I64, ...]  # rows of each cluster's central nodes, in the order they were found
    sparse: tuple[int, ...] = ()  # how many clusters the closeness filter took apart, with their sizes: for a person

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return len(self.central)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Clusters of the target against classes of the reference (appendix A.2)."""

    row: F64  # (clusters, classes) M^row of equation 21, -1..1
    column: F64  # (clusters, classes) M^col
    probability: F64  # (clusters, classes) equation 23, clipped to 0..1
    best: I32  # (clusters,) class ids; -1: no class reaches the least probability
    encoders: tuple[str, ...]  # those above the signal-to-noise limit (equation 19)


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Which classes of the reference a target has."""

    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    clusters: Clusters  # of the last run, for the report
    matches: Matches
    votes: Mapping[str, float]  # class -> share of the runs (2,000-cell subsets) in which a cluster matched it
    unmatched: I64  # target rows whose cluster matched no class (of the last run)
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class VoterPlan:
    """One opinion: some encoders, in one of the two spaces, and what it weighs."""

    name: str  # e.g. "efficientnet-lite0+mobilenetv2, aligned": no slash
    encoders: tuple[str, ...]
    space: str  # ORIGINAL or ALIGNED
    weight: float  # above 0; those of an alignment sum to 1
    scaling: str  # settings.SCALINGS: "none", "unit" or "discriminant"
    vectors: Embeddings  # encoder -> (n, d_e) f32 of the alignment's rows, in this voter's space


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """An index carried to a target, not yet written."""

    rows: I64  # (n,) reference cells that are kept, by their row in the index
    classes: tuple[str, ...]  # kept classes, in the order of the new class ids
    voters: tuple[VoterPlan, ...]  # at least one
    shares: Mapping[str, float]  # the target's class shares as estimated
    shared: Shared | None  # None: classes were not looked for (cell states, or not asked)
    extra: Embeddings  # encoder -> (u, d_e) target cells of clusters that matched nothing: references of a new class
    extra_labels: tuple[str, ...]  # their class names, "unmatched 1", ...
    accepted: bool  # on split-half agreement and the voters' agreement
    told: Mapping[str, Any]  # everything a person or the manifest should know; JSON values only
