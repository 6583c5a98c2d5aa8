"""Every sampled reference cell called by the cells of other parts: calls that can be right or wrong. Pure.

The papers' certainty C = (1 - H) x 100 % (Frontiers in Oncology 2025, section 3.3) stands beside what is ours: the vote
share, and the calibrated probability of being right where the index has one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from cellvigil import decide
from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I64, Bools, Calls
from cellvigil_indexes.bank import bank_of
from cellvigil_indexes.crossfit import leaving_parts_out, parts_of
from cellvigil_indexes.settings import settings_of

F64 = npt.NDArray[np.float64]

ASKED_AT_MOST = 3_000
"""Reference cells that a report calls; of a larger index a seeded sample."""


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """What m reference cells were called by the cells of other parts. Row i of everything is cell rows[i]."""

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
    """Call these cells by the other parts of the index, with all that the index's calibration adds.

    Each as an index without its part would call it (`crossfit`), no deeper than the smallest rest allows. None where
    other parts have fewer than k_min cells, and for an aligned index: its fit knew every cell.
    """
    if not len(rows) or index.voters:
        return None
    settings, names, bank = decide.Settings.of(index), [encoder.name for encoder in index.encoders], bank_of(index)
    wanted = min(decide.neighbours_needed(index, settings), len(index))
    cuts = decide.depths(settings, wanted)
    near = leaving_parts_out(bank, names, settings_of(index.manifest), wanted, rows=rows, cuts=cuts)
    there = int((near.ids >= 0).sum(axis=1).min())
    if there < index.k_min:
        return None
    ids, distances, part = near.ids[:, :there], near.distances[:, :there], parts_of(bank)
    found, order = [], []
    for number in np.unique(part[rows]):
        here, others = np.flatnonzero(part[rows] == number), np.flatnonzero(part != number)
        rest = replace(index, labels=bank.labels[others], novelty=index.novelty[others])
        calls = decide.call(np.searchsorted(others, ids[here]).astype(np.int32), distances[here], rest, settings)
        found.append(replace(calls, neighbours=np.where(calls.neighbours < 0, -1, others[calls.neighbours])))
        order.append(here)
    calls = _joined(found, np.argsort(np.concatenate(order)))
    right = np.asarray(calls.best_ids == index.labels[rows])
    return OutOfFold(rows, calls, distances[:, : calls.neighbours.shape[1]].astype(np.float64), right)


def _joined(parts: list[Calls], order: I64) -> Calls:
    """The parts' calls one behind the other, put into this order."""
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])[order]
        for field in fields(Calls)
        if field.name not in ("unknown_reason", "bundle_sha256", "voters")
    }
    reasons = [reason for part in parts for reason in part.unknown_reason]
    one = parts[0]
    return Calls(
        **arrays,
        unknown_reason=tuple(reasons[i] for i in order),
        bundle_sha256=one.bundle_sha256,
        voters=one.voters,
    )
