"""Every sampled reference cell called by the cells of other groups: calls that can be right or wrong. Pure.

The papers' certainty C = (1 - H) x 100 % (Frontiers in Oncology 2025, section 3.3) stands beside what is ours: the vote
share, and the calibrated probability of being right where the index has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil import decide
from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I64, Bools, Calls
from cellvigil.neighbours import Neighbours
from cellvigil_indexes.bank import bank_of
from cellvigil_indexes.crossfit import leaving_groups_out
from cellvigil_indexes.settings import settings_of

F64 = npt.NDArray[np.float64]

ASKED_AT_MOST = 3_000
"""Reference cells that a report calls; of a larger index a seeded sample."""


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """What m reference cells were called by the cells of other groups. Row i of everything is cell rows[i]."""

    rows: I64  # (m,) rows of the index
    calls: Calls
    distances: F64  # (m, 5) to `calls.neighbours`; infinite where there is none
    right: Bools  # (m,)

    @property
    def certainty(self) -> F64:
        """The papers' C, 0..100 %."""
        return np.asarray(100 * (1 - self.calls.entropy.astype(np.float64)))

    @property
    def share(self) -> F64:
        """Weighted vote share of the class that was called, 0..1."""
        return np.asarray(self._of_best(self.calls.vote_share))

    @property
    def probability(self) -> F64 | None:
        """Calibrated probability of being right, 0..1; None where the index has none."""
        found = self._of_best(self.calls.probabilities)
        return found if np.isfinite(found).all() else None

    def _of_best(self, table: npt.NDArray[np.float32]) -> F64:
        return table[np.arange(len(self.rows)), self.calls.best_ids].astype(np.float64)


def called_by_others(index: ReferenceIndex, rows: I64) -> OutOfFold | None:
    """Call these cells by the cells of other groups, with all that the index's calibration adds.

    The search goes no deeper than the smallest rest allows; class weights are those of the whole index. None where
    other groups have fewer than k_min cells.
    """
    if not len(rows):
        return None
    settings, names = decide.Settings.of(index), [encoder.name for encoder in index.encoders]
    wanted = min(decide.neighbours_needed(index, settings), len(index))
    cuts = decide.depths(settings, wanted)
    near = leaving_groups_out(bank_of(index), names, settings_of(index.manifest), wanted, rows=rows, cuts=cuts)
    there = int((near.ids >= 0).sum(axis=1).min())
    if there < index.k_min:
        return None
    near = Neighbours(near.ids[:, :there], near.distances[:, :there])
    calls = decide.call(near.ids, near.distances, index, settings)
    right = np.asarray(calls.best_ids == index.labels[rows])
    return OutOfFold(rows, calls, near.distances[:, : calls.neighbours.shape[1]].astype(np.float64), right)
