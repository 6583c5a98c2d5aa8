"""The search itself: every trial scored on every split, and one chosen. Arrays in, a choice out; nothing is printed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cellvigil.errors import UsageError
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.splitting import Split
from cellvigil_indexes.tuning.choice import Tuned, ranked
from cellvigil_indexes.tuning.counting import counted
from cellvigil_indexes.tuning.grid import EXHAUSTIVE, Grid, Subset, power_set, with_one_less, with_one_more
from cellvigil_indexes.tuning.limits import check_bank, fitting, notes_on
from cellvigil_indexes.tuning.tables import Shelf, Table
from cellvigil_indexes.tuning.voting import cuts_of, macro_accuracies

F64 = npt.NDArray[np.float64]

Progress = Callable[[int, int], None]
"""Told (steps done, steps in all) after each; a KeyboardInterrupt out of it ends the search as any other does."""

ROOM = 2 * 1024**3
"""Bytes for distance tables; validation cells beyond what fits are left out, and that is said."""


def choose(
    bank: Bank,
    grid: Grid,
    splits: Sequence[Split],
    progress: Progress | None = None,
    *,
    exhaustive: int = EXHAUSTIVE,
    room: int = ROOM,
) -> Tuned:
    """Try the grid with every subset of the bank's encoders, by macro accuracy on the splits' validation cells.

    With more than `exhaustive` encoders the subsets are searched greedily, forward and backward. A KeyboardInterrupt
    ends the search with the best so far (`comparable` says among what).

    Raises UsageError for a bank of one class or with vectors that are not finite, a grid or splits that leave nothing
    to try; KeyboardInterrupt if nothing was scored yet.
    """
    check_bank(bank)
    kept = [fitting(bank, split, room) for split in splits]
    if not kept:
        raise UsageError("there is nothing to validate on")
    notes = notes_on(bank, grid, splits, kept)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as threads:
        search = _Search(bank, grid, kept, Shelf(bank, kept, room, threads), threads, progress or _silent)
        greedy = len(bank.embeddings) > exhaustive
        try:
            search.greedy() if greedy else search.all()
        except KeyboardInterrupt:
            if not search.scores:
                raise
            search.interrupted = True
    return search.result("greedy" if greedy else "exhaustive", notes)


@dataclass(slots=True, eq=False)
class _Search:
    """A search under way."""

    bank: Bank
    grid: Grid
    splits: Sequence[Split]
    shelf: Shelf
    threads: Executor
    progress: Progress
    scores: dict[Subset, F64] = field(default_factory=dict)  # (spaces, votes, splits); NaN: not scored
    done: int = 0
    interrupted: bool = False

    def all(self) -> None:
        """Every subset."""
        self.score(power_set(tuple(self.bank.embeddings)))

    def greedy(self) -> None:
        """Add the encoder that helps most, drop one that it does without, until neither makes a better trial."""
        names = tuple(self.bank.embeddings)
        best: Subset = ()
        while True:
            before = best
            for moves in (with_one_more(best, names), with_one_less(best)):
                self.score([subset for subset in moves if subset not in self.scores])
                best = self.leader()
            if best == before:
                return

    def leader(self) -> Subset:
        """The encoders of the best trial so far."""
        count = len(self.splits)
        return ranked(self.scores, self.grid, tuple(self.bank.embeddings), count, count)[0].encoders

    def score(self, subsets: Sequence[Subset]) -> None:
        """Score these subsets on all splits; split by split, so that what is cut off has compared like with like."""
        names = [name for name in self.bank.embeddings if any(name in subset for subset in subsets)]
        total = self.done + len(self.splits) * len(self.grid.spaces) * len(subsets)
        for number in range(len(self.splits)):
            for s, (metric, scaling) in enumerate(self.grid.spaces):
                tables = self.shelf.tables(number, (metric, scaling), names)
                for subset in subsets:
                    scored = self.one(number, [tables[name] for name in subset], metric, scaling)
                    self.keep(subset, s, number, scored)
                    self.done += 1
                    self.progress(self.done, total)

    def one(self, number: int, tables: Sequence[Table], metric: str, scaling: str) -> F64:
        """The scores of one subset in one space on one split, (votes,)."""
        split, classes = self.splits[number], len(self.bank.classes)
        labels = self.bank.labels[split.reference]
        sizes = np.bincount(labels, minlength=classes).astype(np.int64)
        counts = counted(
            [table.distances for table in tables],
            [table.scaled_by(scaling) for table in tables],
            labels,
            classes,
            cuts_of(self.grid.votes, len(split.reference)),
            squared=metric == "l2",
            threads=self.threads,
        )
        return macro_accuracies(counts, self.bank.labels[split.validation], sizes, self.grid.votes)

    def keep(self, subset: Subset, space: int, number: int, scored: F64) -> None:
        """Enter scores."""
        shape = (len(self.grid.spaces), len(self.grid.votes), len(self.splits))
        self.scores.setdefault(subset, np.full(shape, np.nan))[space, :, number] = scored

    def result(self, how: str, notes: Sequence[str]) -> Tuned:
        """What has been found. Of an interrupted search, see `comparable`."""
        scores, splits = comparable(self.scores, self.planned(how), how)
        trials = ranked(scores, self.grid, tuple(self.bank.embeddings), len(self.splits), splits)
        planned = self.planned(how) * len(self.grid.spaces) * len(self.grid.votes)
        return Tuned(trials[0], tuple(trials), how, splits, self.interrupted, planned, tuple(notes))

    def planned(self, how: str) -> int:
        """How many subsets there are to try."""
        return 2 ** len(self.bank.embeddings) - 1 if how == "exhaustive" else len(self.scores)


def comparable(scores: Mapping[Subset, F64], planned: int, how: str) -> tuple[dict[Subset, F64], int]:
    """The scores that an interrupted search can compare, and how many splits they are compared on.

    The splits that every trial has been scored on; if there are none, the first split and the trials that have it. A
    greedy search leaves out the subsets of the round that it was cut off in, unless it was the first.
    """
    whole = {subset: table for subset, table in scores.items() if not np.isnan(table).any()}
    if whole and how == "greedy":
        return whole, next(iter(whole.values())).shape[2]
    splits = min((~np.isnan(table).any(axis=(0, 1))).sum() for table in scores.values())
    return dict(scores), int(splits) if len(scores) == planned and splits else 1


def _silent(done: int, total: int) -> None:
    """Nobody wants to know."""
