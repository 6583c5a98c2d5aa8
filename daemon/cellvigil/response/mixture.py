"""What an unmixed well says about a state's share, and how sure that is: from the cells, and from the confusion. Pure.

The share of a state among alive, dying and dead is a ratio of unmixed shares. Its variance from the sampling of cells
is written as a polynomial of the true share (`intervals.score_ends` needs it so); its variance from the confusion
matrix comes from the covariance of the unmixing map over resampled matrices, carried over to the ratio to first
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellvigil.response.unmixing import unmixed, unmixing_map
from cellvigil.response.values import F64, Ints

DRAWS = 1000  # resampled confusion matrices: the standard deviation they give is good to about 2 %
_SEED = 1


@dataclass(frozen=True, slots=True, eq=False)
class Unmixing:
    """A confusion matrix made ready for use."""

    rates: F64  # (C, M) P(called | true), rows sum to 1; M = C + 1, unknown last
    map: F64  # (C, M) shares of calls -> shares of true classes, where none is held at zero
    doubt: F64  # (C M, C M) covariance of that map's entries over resampled matrices
    living: Ints  # places of the classes that a share divides by

    def shares(self, called: F64) -> F64:
        """(n, C) shares of true classes for (n, M) shares of calls."""
        return unmixed(called, self.rates)

    @property
    def condition(self) -> float:
        """How much the unmixing may multiply relative errors: largest by smallest singular value."""
        return float(np.linalg.cond(self.rates))


def unmixing(cells: F64, living: Ints) -> Unmixing:
    """From (C, M) counts of independent cells, each row with at least one."""
    rates = cells / cells.sum(axis=1, keepdims=True)
    draws = drawn_rates(cells, DRAWS)
    maps = unmixing_map(draws).reshape(DRAWS, -1)
    return Unmixing(rates, unmixing_map(rates), np.cov(maps, rowvar=False), living)


def drawn_rates(cells: F64, draws: int) -> F64:
    """(draws, C, M) confusion matrices that the counts leave possible: a Dirichlet a row, with one cell of prior."""
    gamma = np.random.default_rng(_SEED).standard_gamma(cells + 1 / cells.shape[1], size=(draws, *cells.shape))
    return np.asarray(gamma / gamma.sum(axis=2, keepdims=True))


@dataclass(frozen=True, slots=True, eq=False)
class StateShare:
    """One state's share among the living places, of n mixtures."""

    share: F64  # (n,) 0..1; NaN where nothing is left of alive, dying and dead
    spread: F64  # (n, 4) variance times effective cells, as a polynomial of the true share
    pull: F64  # (n, C M) how the share moves with the entries of the unmixing map

    def doubt(self, using: Unmixing) -> F64:
        """(n,) variance of the share that comes from the confusion matrix."""
        return np.asarray(((self.pull @ using.doubt) * self.pull).sum(axis=1))


def state_share(using: Unmixing, true: F64, state: int) -> StateShare:
    """The share of the class at `state` (one of `using.living`) in mixtures `true` (n, C)."""
    living = np.zeros(true.shape[1])
    living[using.living] = 1
    own = np.zeros_like(living)
    own[state] = 1
    mass = true @ living
    mass = np.where(mass > 1e-9, mass, np.nan)[:, None]
    share = true[:, [state]] / mass
    others = true * (living - own)
    rest = others.sum(axis=1, keepdims=True)
    even = (living - own) / max(living.sum() - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        others = np.where(rest > 0, others / rest, even)
    start = (true * (1 - living) + mass * others) @ using.rates
    slope = mass * (own - others) @ using.rates
    up, down = using.map[state], using.map[using.living].sum(axis=0)
    spread = np.stack(
        [
            start @ up**2,
            slope @ up**2 - 2 * start @ (up * down),
            start @ down**2 - 2 * slope @ (up * down),
            slope @ down**2,
        ],
        axis=-1,
    )
    pull = ((own - share * living) / mass)[:, :, None] * (true @ using.rates)[:, None, :]
    return StateShare(share[:, 0], spread / mass**2, pull.reshape(len(true), using.rates.size))
