"""Simulated assays with known shares, for `intervals.py`, `correction.py`: cells in fields, in wells, in arms.

Counts only, no images. Shares are Dirichlet around the arm's course with the well's correlation, and around the well's
with the field's; both are kept over time through a Gaussian copula, so that each time's distribution stays what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "daemon")]

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from scipy.special import gammaincinv, ndtr  # noqa: E402

from cellvigil.response.values import F64, PlateCounts  # noqa: E402 - found through the path set above

CLASSES = ("live", "apoptotic", "necrotic", "debris")
STATES = (*CLASSES, "unknown")
GROUPS = {"live": "alive", "apoptotic": "dying", "necrotic": "dead", "debris": "artefact"}
ARM_WELLS = (1, 2, 3, 4, 6, 8)  # of the treated arms
CONTROL = "arm 0"
SPREAD_KEPT = 0.95  # persistence of a well's own deviation from one time to the next
DEBRIS = 0.08  # by cells
MISSING = 0.1  # share of the fields

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What an assay is drawn from."""

    correlation: float  # of cells of one field, in their well
    fields: int  # a well
    cells: int  # a field, on average
    wells: float  # correlation of cells of one well, in their arm; a treated arm has half to twice that
    controls: int  # control wells
    persistence: float  # of a field's deviation from one time to the next
    treated: float = 1.0  # correlation in treated wells over that in control wells
    times: int = 6


@dataclass(frozen=True, eq=False)
class Assay:
    """One simulated assay."""

    facts: Facts
    arms: tuple[str, ...]  # (W,)
    wells: F64  # (W, T, 3) true shares of the wells
    means: F64  # (A, T, 3) true shares of the arms, by sorted name
    cells: Ints  # (W, T, F, 4) cells by true class
    counted: npt.NDArray[np.bool_]  # (W, T, F)
    seed: int = field(default=0)

    @property
    def controls(self) -> npt.NDArray[np.bool_]:
        """(W,) bool."""
        return np.array([arm == CONTROL for arm in self.arms])

    def counts(self, calls: Mapping[str, tuple[float, ...]] | None = None) -> PlateCounts:
        """What a service would have counted; `calls` = P(called | true) by class, unknown last; None: all are right."""
        shape = self.cells.shape[:3]
        random = np.random.default_rng((self.seed, 7))
        called = np.zeros((*shape, 5), dtype=np.int64)
        for place, name in enumerate(CLASSES):
            row = np.eye(5)[place] if calls is None else np.asarray(calls[name])
            called += random.multinomial(self.cells[..., place], row)
        return PlateCounts(
            wells=tuple(f"{place}" for place in range(shape[0])), timepoints=tuple(range(shape[1])), states=STATES,
            groups=GROUPS, acquired_s=np.zeros(shape[:2]), counts=called.astype(np.int32), counted=self.counted,
            settled=np.ones(shape[:2], dtype=np.bool_), version=np.zeros(shape[:2], dtype=np.int32),
        )  # fmt: skip


def any_facts(seed: int) -> Facts:
    """Drawn over what assays are like."""
    random = np.random.default_rng((seed, 1))
    return Facts(
        correlation=float(random.choice((0.02, 0.05, 0.1, 0.15))),
        fields=int(random.integers(1, 5)),
        cells=int(random.choice((20, 50, 100, 300))),
        wells=float(random.choice((0.005, 0.02, 0.05))),
        controls=int(random.choice((3, 6, 12))),
        persistence=float(random.choice((0.0, 0.6, 0.95))),
    )


def simulate(seed: int, facts: Facts | None = None) -> Assay:
    """An assay of controls and six treated arms."""
    facts, random = facts or any_facts(seed), np.random.default_rng((seed, 2))
    sizes = (facts.controls, *ARM_WELLS)
    arms = tuple(f"arm {place}" for place, size in enumerate(sizes) for _ in range(size))
    means = np.stack([course(random, facts.times, treated=place > 0) for place in range(len(sizes))])
    spread = np.repeat(facts.wells * 2 ** np.r_[0, random.uniform(-1, 1, len(ARM_WELLS))], sizes)
    wells = dirichlet(random, np.repeat(means, sizes, axis=0), spread, SPREAD_KEPT)
    within = np.where(np.array(arms) == CONTROL, 1, facts.treated) * facts.correlation
    fields = dirichlet(random, np.repeat(wells[:, :, None], facts.fields, axis=2), within, facts.persistence)
    shape = fields.shape[:3]
    sizes_of_fields = facts.cells * random.gamma(6, 1 / 6, size=(shape[0], 1, shape[2]))  # threefold, kept over time
    total = random.poisson(np.broadcast_to(sizes_of_fields, shape))
    debris = random.poisson(total * DEBRIS)
    cells = np.concatenate([random.multinomial(total, fields), debris[..., None]], axis=-1)
    return Assay(facts, arms, wells, means, cells, random.random(shape) > MISSING, seed)


def course(random: np.random.Generator, times: int, *, treated: bool) -> F64:
    """(T, 3) shares of live, apoptotic and necrotic over time: an arm's true mean."""
    end = random.uniform(0.02, 0.85) if treated else random.uniform(0.03, 0.15)
    dead = 0.02 + (end - 0.02) * np.linspace(0, 1, times) ** random.uniform(0.5, 2)
    dying = 0.03 + random.uniform(0, 0.1) * np.sin(np.linspace(0, np.pi, times))
    return np.stack([1 - dead - dying, dying, dead], axis=-1)


def dirichlet(random: np.random.Generator, mean: F64, correlation: F64, persistence: float) -> F64:
    """Shares around `mean` (W, T, ..., 3), each well with its intra-class correlation (W,), kept by `persistence`."""
    noise = random.standard_normal(mean.shape)
    for time in range(1, mean.shape[1]):
        noise[:, time] = persistence * noise[:, time - 1] + np.sqrt(1 - persistence**2) * noise[:, time]
    weight = ((1 - correlation) / correlation).reshape(-1, *(1,) * (mean.ndim - 1))
    drawn = np.maximum(gammaincinv(np.maximum(mean, 1e-6) * weight, ndtr(noise)), 1e-12)
    return np.asarray(drawn / drawn.sum(axis=-1, keepdims=True))


def stressed(seed: int) -> Facts:
    """As `any_facts`, but cells of treated wells resemble each other half as much again as those of control wells."""
    return replace(any_facts(seed), treated=1.5)


def clustered(sums: F64, sizes: F64) -> tuple[float, float]:
    """Mean over all rows and its standard error, from the sums and sizes of clusters (assays)."""
    mean = sums.sum() / sizes.sum()
    return float(mean), float(np.sqrt(np.square(sums - mean * sizes).sum()) / sizes.sum())
