"""Compares what a pipeline counted and called with a rehearsal's truth. Pure.

Shares are those of `cellvigil`: dying and dead cells over alive, dying and dead ones; debris and unknown have no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellvigil.rehearse.scene import GROUPS, STATES
from cellvigil.rehearse.truth import CellRow, WellRow

Counts = Mapping[str, int]
"""Number of cells by state; states that are not in STATES (unknown) are carried along and count for nothing."""


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm at one time: its counted wells together."""

    arm: str
    timepoint: int
    hours: float
    wells: int  # that were counted at this time
    counted: dict[str, int]  # by state
    true: dict[str, int]  # by state, of the same wells
    counted_share: float  # dying and dead; NaN without cells
    true_share: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the counts follow the truth, over wells and times."""

    points: int  # wells times time points compared
    share_error: float  # mean absolute difference of the dying-and-dead share, 0..1
    worst_error: float  # the largest of them
    correlation: float  # Pearson's, of the shares; NaN where one of the two never changes
    count_ratio: float  # cells counted over cells that were there, debris left out


def dead_share(counts: Counts) -> float:
    """Dying and dead cells over alive, dying and dead ones; NaN without any."""
    groups: Counter[str] = Counter()
    for state, count in counts.items():
        groups[GROUPS.get(state, "none")] += count
    gone = groups["dying"] + groups["dead"]
    whole = groups["alive"] + gone
    return gone / whole if whole else float("nan")


def score_counts(counted: Mapping[tuple[str, int], Counts], truth: Iterable[WellRow]) -> list[ArmRow]:
    """A table by arm and time, first arm first; only wells and times that were counted take part, fields summed."""
    true = _true_counts(truth)
    rows: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for key in sorted(set(counted) & set(true)):
        rows[true[key].arm, key[1]].append(key)
    table = []
    for (arm, timepoint), keys in sorted(rows.items()):
        ours = sum((Counter(counted[key]) for key in keys), Counter())
        theirs = sum((true[key].counts for key in keys), Counter())
        hours = true[keys[0]].hours
        shares = dead_share(ours), dead_share(theirs)
        table.append(ArmRow(arm, timepoint, hours, len(keys), dict(ours), _by_state(theirs), *shares))
    return table


def agreement(counted: Mapping[tuple[str, int], Counts], truth: Iterable[WellRow]) -> Agreement:
    """How well the wells' counts follow the truth; each counted well at each time is one point."""
    true = _true_counts(truth)
    keys = sorted(set(counted) & set(true))
    ours = np.array([dead_share(counted[key]) for key in keys])
    theirs = np.array([dead_share(true[key].counts) for key in keys])
    usable = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[usable], theirs[usable]
    moving = len(ours) > 1 and np.ptp(ours) > 0 and np.ptp(theirs) > 0
    gap = np.abs(ours - theirs)
    there = sum(_cells(true[key].counts) for key in keys)
    return Agreement(
        points=len(ours),
        share_error=float(gap.mean()) if len(gap) else float("nan"),
        worst_error=float(gap.max()) if len(gap) else float("nan"),
        correlation=float(np.corrcoef(ours, theirs)[0, 1]) if moving else float("nan"),
        count_ratio=sum(_cells(counted[key]) for key in keys) / there if there else float("nan"),
    )


@dataclass(frozen=True, slots=True)
class Matching:
    """Cells of one frame against its truth, one to one."""

    pairs: tuple[tuple[int, int], ...]  # (row of the cells, row of the truth), nearest first
    expected: int  # detectable cells of the truth
    found: int  # of these, matched
    spurious: int  # cells that match nothing
    confusion: Mapping[tuple[str, str], int]  # (true state, called state) of the found ones


@dataclass(frozen=True, slots=True)
class Figures:
    """Matchings of many frames together."""

    expected: int
    recall: float  # found over expected; NaN without any
    precision: float  # found over found and spurious; NaN without any
    balanced_accuracy: float  # mean over the true states of the share called right; NaN without any
    by_state: Mapping[str, float]  # share called right, of the found cells of each true state


def match_cells(centroids: npt.ArrayLike, states: Sequence[str], truth: Sequence[CellRow]) -> Matching:
    """Match found cells to one frame's true ones.

    Greedy by distance: of all pairs nearer than the true cell's radius the nearest is taken first, each cell once.
    (An optimal assignment would need a solver and differs only where cells overlap by half.) A cell that matches a true
    one cut by the border, hidden or too small is neither found nor spurious.

    Args:
        centroids: (n, 2) y, x in pixels.
        states: n called states, `unknown` included.
        truth: the truth's rows of that frame.
    """
    points = np.asarray(centroids, dtype=np.float64).reshape(-1, 2)
    places = np.array([(row.y_px, row.x_px) for row in truth]).reshape(-1, 2)
    reach = np.array([row.radius_px for row in truth])
    distance = np.hypot(*(points[:, None, :] - places[None, :, :]).transpose(2, 0, 1))
    near = np.argwhere(distance <= reach[None, :])
    order = np.argsort(distance[near[:, 0], near[:, 1]], kind="stable")
    free_cells, free_truth = set(range(len(points))), set(range(len(truth)))
    pairs = []
    for cell, row in near[order].tolist():
        if cell in free_cells and row in free_truth:
            pairs.append((cell, row))
            free_cells.remove(cell)
            free_truth.remove(row)
    found = [(cell, row) for cell, row in pairs if truth[row].detectable]
    return Matching(
        pairs=tuple(pairs),
        expected=sum(row.detectable for row in truth),
        found=len(found),
        spurious=len(free_cells),
        confusion=Counter((truth[row].state, states[cell]) for cell, row in found),
    )


def figures(matchings: Iterable[Matching]) -> Figures:
    """Recall, precision and balanced accuracy over frames; cells are pooled."""
    matchings = list(matchings)
    expected = sum(matching.expected for matching in matchings)
    found = sum(matching.found for matching in matchings)
    spurious = sum(matching.spurious for matching in matchings)
    confusion: Counter[tuple[str, str]] = Counter()
    for matching in matchings:
        confusion.update(matching.confusion)
    right = {}
    for state in STATES:
        whole = sum(count for (true, _), count in confusion.items() if true == state)
        if whole:
            right[state] = confusion[state, state] / whole
    return Figures(
        expected,
        found / expected if expected else float("nan"),
        found / (found + spurious) if found + spurious else float("nan"),
        sum(right.values()) / len(right) if right else float("nan"),
        right,
    )


@dataclass(frozen=True, slots=True)
class _TrueCounts:
    arm: str
    hours: float
    counts: Counter[str]


def _true_counts(truth: Iterable[WellRow]) -> dict[tuple[str, int], _TrueCounts]:
    """The truth by well and time, fields summed."""
    sums: dict[tuple[str, int], _TrueCounts] = {}
    for row in truth:
        counts = Counter({state: getattr(row, state) for state in STATES})
        before = sums.get((row.well, row.timepoint))
        sums[row.well, row.timepoint] = _TrueCounts(
            row.arm, row.hours, counts + (before.counts if before else Counter())
        )
    return sums


def _by_state(counts: Counter[str]) -> dict[str, int]:
    return {state: counts[state] for state in STATES}


def _cells(counts: Counts) -> int:
    return sum(count for state, count in counts.items() if GROUPS.get(state) in ("alive", "dying", "dead"))
