"""Shares corrected for how the index confuses its classes, where that is safe; a status that says why where not. Pure.

What is called is a mixture: shares of calls = true shares @ P(called | true), with P measured on cells that the index
did not hold. Constrained least squares takes it apart, over all classes and with "unknown" as a call; then shares are
taken over alive, dying and dead. It holds while P holds, on the plate's own cells: hence the checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellvigil.data import UNKNOWN, frozen_array
from cellvigil.response.correlation import DENOMINATOR, Correlation, counted_cells
from cellvigil.response.intervals import NORMAL, score_ends
from cellvigil.response.misfit import misfits
from cellvigil.response.mixture import Unmixing, state_share, unmixing
from cellvigil.response.shares import effective_cells
from cellvigil.response.values import F64, Bools, Estimate, Ints, PlateCounts

Status = Literal["no_confusion", "overridden", "ill_conditioned", "residual", "shifted", "ok"]

WORST_CONDITION = 10.0  # above it the unmixing multiplies errors by more than that, and the correction is no help
FIRST_TIMES = 3  # time points that a control well begins with; cells of a fresh plate are nearly all alive
MOST_DYING = 0.15  # dying and dead share in them, as in the alert for control wells
MOST_NOVEL = 0.3  # share of control cells with a novelty p-value of at most 0.1: three times what it is at home
LEAST_TYPICAL = 0.2  # share of them with one above 0.5: 0.5 at home, 0.28 in the demo, 0.16 by a blur hardly seen


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """How an index calls cells that it does not hold."""

    classes: tuple[str, ...]  # C
    counts: F64  # (C, C + 1) rows true class; columns called, by class, then unknown; independent cells, effectively
    overridden: bool = False  # it was measured with other settings than the ones that call now

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", frozen_array(self.counts, np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Mixtures:
    """The calls of a plate, taken apart; what `corrected` and the arms read their figures from."""

    unmixing: Unmixing
    states: Ints  # (C,) place of each class of the confusion on the S axis of the counts
    true: F64  # (W, T, C) shares of true classes among all cells; NaN where there is none
    fields: F64  # (W, T, F) cells, of every state


def corrected(
    counts: PlateCounts,
    confusion: Confusion | None,
    correlation: Correlation,
    *,
    novel: float = np.nan,
    typical: float = np.nan,
    controls: Bools | None = None,
) -> tuple[Estimate, Status]:
    """Corrected shares of the states that `shares.plain` has, and whether they may be used.

    Args:
        counts: of one plate.
        confusion: of the index that called last; None where it has none.
        correlation: of cells of one field.
        novel: share of the control wells' cells with a novelty p-value of at most 0.1; NaN = not known.
        typical: share of them with one above 0.5; NaN = not known.
        controls: (W,) the control wells; None = not known. Live cells that are called dying more often than was
            measured look like any mixture, and no cell need be novel: the start of the control wells gives them away.

    Returns:
        (W, T, S) with 95 % intervals, all NaN unless the status, of the whole plate, is "ok".
    """
    found, status = take_apart(counts, confusion, correlation, novel=novel, typical=typical, controls=controls)
    return well_shares(counts, found, correlation), status


def take_apart(
    counts: PlateCounts,
    confusion: Confusion | None,
    correlation: Correlation,
    *,
    novel: float = np.nan,
    typical: float = np.nan,
    controls: Bools | None = None,
    course: PlateCounts | None = None,
) -> tuple[Mixtures | None, Status]:
    """The mixtures behind a plate's calls, None unless the status is "ok".

    Arguments as for `corrected`; `course` is the whole time course, on which the fit is judged, where `counts` are only
    a part of it. Time points that another index called have no mixture.
    """
    places = None if confusion is None else _places(counts, confusion)
    if confusion is None or places is None or not (confusion.counts.sum(axis=1) > 0).all():
        return None, "no_confusion"
    if confusion.overridden:
        return None, "overridden"
    using = unmixing(confusion.counts, np.flatnonzero(np.isin(places, counts.columns(*DENOMINATOR))))
    if not using.condition <= WORST_CONDITION:
        return None, "ill_conditioned"
    whole = counts if course is None else course
    last = int(whole.version.max(initial=0))
    cells = _calls(counts, places, last)
    judged = cells if course is None else _calls(course, places, last)
    alive = np.isin(places, counts.columns("alive"))
    begins_dying = controls is not None and alive.any() and _begins_dying(using, alive, judged[controls])
    if begins_dying or novel > MOST_NOVEL or typical < LEAST_TYPICAL:
        return None, "shifted"
    if _does_not_fit(using, confusion.counts, judged, correlation):
        return None, "residual"
    return Mixtures(using, places, _true(using, cells.sum(axis=2)), cells.sum(axis=3)), "ok"


def _places(counts: PlateCounts, confusion: Confusion) -> Ints | None:
    """Where the confusion's classes stand on the S axis; None where the two do not name the same classes."""
    classes = [state for state in counts.states if state != UNKNOWN]
    if sorted(classes) != sorted(confusion.classes) or not classes:
        return None
    return np.array([counts.states.index(name) for name in confusion.classes], dtype=np.int64)


def _calls(counts: PlateCounts, places: Ints, last: int) -> F64:
    """(W, T, F, M) cells by call, unknown last, of the index numbered `last`; 0 where another one called."""
    cells = np.where((counts.version == last)[..., None, None], counted_cells(counts), 0)
    unknown = cells[..., counts.columns(UNKNOWN)].sum(axis=3, keepdims=True)
    return np.concatenate([cells[..., places], unknown], axis=3)


def _true(using: Unmixing, cells: F64) -> F64:
    """(W, T, C) from cells (W, T, M) by call."""
    total = cells.sum(axis=2)
    true = np.full((*total.shape, len(using.rates)), np.nan)
    there = total > 0
    true[there] = using.shares(cells[there] / total[there][:, None])
    return true


def _begins_dying(using: Unmixing, alive: Bools, cells: F64) -> bool:
    """Whether control wells (n, T, F, M) begin with few cells alive: they die, or live cells are called otherwise."""
    each = cells.sum(axis=2)
    seen = each.sum(axis=2) > 0
    first = (each * (seen & (seen.cumsum(axis=1) <= FIRST_TIMES))[..., None]).sum(axis=1)
    true = _true(using, first[seen.any(axis=1), None])[:, 0]
    living = true[:, using.living].sum(axis=1)
    dying = 1 - true[living > 0][:, alive].sum(axis=1) / living[living > 0]
    return len(dying) > 1 and bool(dying.mean() - NORMAL * dying.std(ddof=1) / np.sqrt(len(dying)) > MOST_DYING)


def _does_not_fit(using: Unmixing, confusion: F64, cells: F64, correlation: Correlation) -> bool:
    """As `misfits`, from cells (W, T, F, M). A well's times show the same cells again: together they count as one."""
    total = cells.sum(axis=(1, 2, 3))
    effective = effective_cells(cells.sum(axis=3), correlation.value)
    times = (effective > 0).sum(axis=1)
    there = total > 0
    if not there.any():
        return False
    called = cells.sum(axis=(1, 2))[there] / total[there][:, None]
    return misfits(using, confusion, called, effective.sum(axis=1)[there] / times[there])


def well_shares(counts: PlateCounts, found: Mixtures | None, correlation: Correlation) -> Estimate:
    """(W, T, S) corrected shares of the wells whose calls `take_apart` took apart; all NaN where it did not."""
    shape = (*counts.counts.shape[:2], len(counts.states))
    value, low, high = (np.full(shape, np.nan) for _ in range(3))
    if found is None:
        return Estimate(value, low, high)
    there = ~np.isnan(found.true[..., 0])
    effective = effective_cells(found.fields[there], correlation.value)
    for state in found.unmixing.living:
        one = state_share(found.unmixing, found.true[there], int(state))
        fixed = np.square(NORMAL) * one.doubt(found.unmixing)
        ends = score_ends(one.share, one.spread / effective[:, None], correlation.reach, fixed)
        for target, figures in zip((value, low, high), (one.share, *ends), strict=True):
            target[there, found.states[state]] = figures
    return Estimate(value, low, high)
