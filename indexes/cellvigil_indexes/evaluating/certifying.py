"""Fits the certainty of a part of an index as `build` fits that of a whole one: in every fold it is fitted anew.

The probability is fitted on all cells of the part, each called by other groups. Conformal sets need calibration cells
that are no references: those that the index set aside when it was built, else a tenth of the part's own; these then
come from an index of the other nine tenths, so that the calls themselves lose no reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.data import I64
from cellvigil_indexes import setaside
from cellvigil_indexes.bank import Bank, bank_of
from cellvigil_indexes.calibrating import DEEPEST, calibrate, novelty_p_of, witnessed
from cellvigil_indexes.crossfit import grouped_neighbours, parted_neighbours
from cellvigil_indexes.evaluating.parts import part_of
from cellvigil_indexes.sampling import ASKED_AT_MOST, sampled
from cellvigil_indexes.settings import IndexSettings, settings_of

SHARE = 0.1
"""Of a part's cells, that are set aside where its index has set none aside."""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """What calls cells that are in neither index."""

    index: ReferenceIndex  # makes the call, and its probability
    sets: ReferenceIndex | None  # makes the conformal sets; None: there are none


def plain(index: ReferenceIndex, rows: I64, seed: int) -> Caller:
    """The part as it is: no probability, no sets."""
    del seed
    return Caller(part_of(index, rows), None)


def certified(
    index: ReferenceIndex,
    rows: I64,
    seed: int,
    *,
    aside: Bank | None = None,
    settings: IndexSettings | None = None,
    encoders: Sequence[str] = (),
) -> Caller:
    """The part with its certainty fitted. `aside`: cells of the index's classes that are none of its references.

    `settings` and `encoders` default to the index's own. What cannot be fitted is None.
    """
    how = settings or settings_of(index.manifest)
    part = part_of(index, rows, how, encoders)
    if aside is not None:
        whole = _calibrated(part, aside, how)
        return Caller(whole, whole if _has_sets(whole) else None)
    taken = setaside.chosen(bank_of(part), SHARE, seed, k_min=part.k_min)
    if not taken.any():
        return Caller(_calibrated(part, None, how), None)
    rest = part_of(index, rows[~taken], how, encoders)
    rest = _calibrated(rest, bank_of(part).rows(np.flatnonzero(taken)), how)
    return Caller(_calibrated(part, None, how), rest if _has_sets(rest) else None)


def _calibrated(part: ReferenceIndex, aside: Bank | None, settings: IndexSettings) -> ReferenceIndex:
    asked = sampled(part.labels, ASKED_AT_MOST)
    bank, names = bank_of(part), [encoder.name for encoder in part.encoders]
    near = grouped_neighbours(bank, names, settings, asked, least=DEEPEST)
    others = parted_neighbours(bank, names, settings, asked, grouped=near)
    novelty = np.asarray(part.novelty)
    seen = witnessed(others, bank, settings.depth, asked=asked, p_of=novelty_p_of(bank, asked, novelty))
    found = calibrate(bank, aside, settings, names, near=near, asked=asked, novelty=novelty, seen=seen)
    return replace(part, calibration=found)


def _has_sets(index: ReferenceIndex) -> bool:
    return index.calibration is not None and index.calibration.conformal is not None
