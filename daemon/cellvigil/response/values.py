"""What the response is computed from, and what it is: arrays of one plate. Pure values.

Axes: W wells (in the order of `PlateCounts.wells`), T time points (`PlateCounts.timepoints`), F fields of view of a
well, S states (the index's classes by id, then "unknown").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cellvigil.data import UNKNOWN, frozen_array

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PlateCounts:
    """Cells that count, by well, time, field and state: the ledger's table of one plate, without names of frames."""

    wells: tuple[str, ...]  # W
    timepoints: tuple[int, ...]  # T, ascending; ordinals as in FrameKey
    states: tuple[str, ...]  # S: the classes of the index that called last, then UNKNOWN
    groups: Mapping[str, str]  # class -> alive | dying | dead | artefact | none
    acquired_s: F64  # (W, T) seconds since 1970, UTC: median of the fields; NaN where there is no frame
    counts: I32  # (W, T, F, S); 0 where there is no frame, or one that is excluded
    counted: Bools  # (W, T, F) whether the field has a frame that counts (in focus, well exposed, not debris)
    settled: Bools  # (W, T) every expected field has come, or the frame timeout has passed: the value is published
    version: I32  # (W, T) number of the index that called, the one that called last the highest; -1 = no frame

    def __post_init__(self) -> None:
        for name in ("acquired_s", "counts", "counted", "settled", "version"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))

    def columns(self, *wanted: str) -> Ints:
        """The places on the S axis of the classes of these groups; "unknown" asks for that state itself."""
        found = [
            place
            for place, state in enumerate(self.states)
            if (state == UNKNOWN and UNKNOWN in wanted) or self.groups.get(state) in wanted
        ]
        return np.asarray(found, dtype=np.int64)

    def total(self, *wanted: str) -> I32:
        """(W, T) cells of these groups over the fields that count."""
        return np.asarray(self.counts[..., self.columns(*wanted)].sum(axis=(2, 3)), dtype=np.int32)

    @property
    def usable(self) -> Bools:
        """(W, T) whether there is a settled value with at least one field that counts."""
        return np.asarray(self.settled & self.counted.any(axis=2))

    def latest(self) -> Ints:
        """(W,) place on the T axis of each well's newest usable value; -1 where it has none."""
        usable = self.usable
        last = usable.shape[1] - 1 - np.argmax(usable[:, ::-1], axis=1) if usable.shape[1] else np.zeros(len(usable))
        return np.where(usable.any(axis=1), last, -1).astype(np.int64)

    def at(self, places: Ints) -> PlateCounts:
        """The same wells with one time point each (T = 1): `places` (W,) on the T axis; -1 = none (an empty value)."""
        rows, there = np.arange(len(self.wells)), places >= 0
        columns = np.where(there, places, 0)
        return replace(
            self,
            timepoints=(int(self.timepoints[int(places.max())]) if there.any() else 0,),
            acquired_s=np.where(there, self.acquired_s[rows, columns], np.nan)[:, None],
            counts=np.where(there[:, None, None], self.counts[rows, columns], 0)[:, None],
            counted=(self.counted[rows, columns] & there[:, None])[:, None],
            settled=(self.settled[rows, columns] & there)[:, None],
            version=np.where(there, self.version[rows, columns], -1)[:, None].astype(np.int32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Figures and the ends of their 95 % intervals; three arrays of one shape, NaN where there is none."""

    value: F64
    low: F64
    high: F64

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, frozen_array(np.asarray(getattr(self, name), dtype=np.float64)))
