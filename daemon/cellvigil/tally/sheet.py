"""One plate's counts as dense arrays that grow with the ledger: what changed is folded in, the rest stays. Pure.

`PlateCounts` are cut from it for `response`. Fields of a well stand in the order of their names and wells in plate
order, so that the arrays follow from the journal alone, and not from when somebody looked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellvigil.data import UNKNOWN
from cellvigil.ledger import CalledBy, FieldCounts, WellTime
from cellvigil.response.values import F64, I32, Bools, Ints, PlateCounts

_AXES = {
    "acquired_s": (np.float64, math.nan),
    "first_s": (np.float64, math.nan),
    "present": (np.int32, 0),
    "version": (np.int32, -1),
    "focus": (np.float64, math.nan),
    "probability": (np.float64, math.nan),
    "novel": (np.float64, math.nan),
    "typical": (np.float64, math.nan),
    "agreement": (np.float64, math.nan),
}
"""The arrays over (W, T): their type, and what stands where there is no frame."""

_NEAREST = {"dying": "dead", "dead": "dying"}
"""Where cells of a group go if the newest index has no class of that group."""

_NO_INDEX = 0
"""The version of an index of which the journal says nothing: none of those it knows."""


@dataclass(frozen=True, slots=True)
class Index:
    """What a sheet needs to know of the indexes that called on a plate."""

    states: tuple[str, ...]  # classes of the one that called last, by id, then UNKNOWN
    groups: Mapping[str, str]  # of these classes
    columns: Mapping[str, int]  # class of any of them, or UNKNOWN -> place among `states`; absent = has none
    versions: Mapping[str, int]  # sha256 -> its order on this plate, from 1; the one that called last has the highest

    @classmethod
    def of(cls, last: CalledBy, every: Sequence[CalledBy]) -> Index:
        """Counts of an older index's class go by its name, else to the first class of the same group, else (of those
        dying and dead) to the first of the other of these two, else nowhere.

        Among several nobody can say which; but a group must keep its cells: without those alive, a value that the older
        index made would show a dead well, and without those dying an onset that was found would be taken back.
        """
        states = (*last.classes, UNKNOWN)
        columns = {}
        for called in every:
            for name in called.classes:
                group = called.groups.get(name, "none")
                alike = [one for near in (group, _NEAREST.get(group)) for one in last.classes
                         if last.groups.get(one) == near]  # fmt: skip
                if name not in last.classes and alike:
                    columns[name] = states.index(alike[0])
        columns |= {state: place for place, state in enumerate(states)}
        order = [*(called.sha256 for called in every if called.sha256 != last.sha256), last.sha256]
        return cls(states, dict(last.groups), columns, {sha256: number for number, sha256 in enumerate(order, start=1)})


@dataclass(slots=True, eq=False)
class Sheet:
    """The arrays of one plate. `take` adds, `counts` cuts; not safe for threads."""

    index: Index
    expected_fields: int = 1  # a well in which more were ever seen has those
    wells: tuple[str, ...] = ()  # W, in plate order
    timepoints: tuple[int, ...] = ()  # T, ascending
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of each well, sorted
    over: dict[str, Any] = field(default_factory=dict)  # the arrays of _AXES, each (W, T)
    cells: I32 = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.int32))  # (W, T, F, S) of excluded ones too
    counted: Bools = field(default_factory=lambda: np.zeros((0, 0, 0), np.bool_))  # (W, T, F)

    def __post_init__(self) -> None:
        self.over = {name: np.full((0, 0), blank, kind) for name, (kind, blank) in _AXES.items()}
        self.cells = np.zeros((0, 0, 0, len(self.index.states)), np.int32)

    def take(self, values: Sequence[WellTime]) -> list[tuple[str, int]]:
        """Fold well-time values in. Returns places (well, timepoint) to be taken again: of wells with a new field."""
        named: dict[str, set[str]] = {}
        for value in values:
            named.setdefault(value.well, set()).update(one.field for one in value.fields)
        moved = self.widen([(value.well, value.timepoint) for value in values], named)
        rows = {well: row for row, well in enumerate(self.wells)}
        columns = {timepoint: column for column, timepoint in enumerate(self.timepoints)}
        for value in values:
            self._put(value, rows[value.well], columns[value.timepoint])
        done = {(value.well, value.timepoint) for value in values}
        return [
            (well, timepoint)
            for well in moved
            for column, timepoint in enumerate(self.timepoints)
            if self.over["present"][rows[well], column] and (well, timepoint) not in done
        ]

    @property
    def expected(self) -> Ints:
        """(W,) fields that each well should have."""
        return np.asarray(
            [max(self.expected_fields, len(self.fields.get(well, ()))) for well in self.wells], dtype=np.int64
        )

    def settled(self, now_s: float, timeout_s: float) -> Bools:
        """(W, T) whether every expected field has come, or the first came `timeout_s` ago."""
        present, first = self.over["present"], self.over["first_s"]
        with np.errstate(invalid="ignore"):
            waited = now_s - first >= timeout_s
        return np.asarray((present > 0) & ((present >= self.expected[:, None]) | waited))

    def counts(self, settled: Bools) -> PlateCounts:
        """What `response` takes, with arrays of its own."""
        return PlateCounts(
            wells=self.wells,
            timepoints=self.timepoints,
            states=self.index.states,
            groups=self.index.groups,
            acquired_s=self.over["acquired_s"].copy(),
            counts=np.where(self.counted[..., None], self.cells, 0),
            counted=self.counted.copy(),
            settled=settled,
            version=self.over["version"].copy(),
        )

    def debris(self) -> F64:
        """(W, T) share of cells called artefact, over all fields, those left out too; NaN without cells."""
        artefacts = [place for place, name in enumerate(self.index.states) if self.index.groups.get(name) == "artefact"]
        whole = self.cells.sum(axis=(2, 3))
        part = self.cells[..., artefacts].sum(axis=(2, 3))
        return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))

    def widen(self, places: Iterable[tuple[str, int]], fields: Mapping[str, Collection[str]]) -> list[str]:
        """Make room for places (well, timepoint) and for these wells' fields; returns the wells whose fields moved."""
        places = set(places)
        wells = tuple(sorted({*self.wells, *(well for well, _ in places)}, key=_plate_order))
        timepoints = tuple(sorted({*self.timepoints, *(timepoint for _, timepoint in places)}))
        moved = []
        for well, names in fields.items():
            before = self.fields.get(well, ())
            if not set(names) <= set(before):
                self.fields[well] = tuple(sorted({*before, *names}))
                if before:
                    moved.append(well)
        deep = max((len(names) for names in self.fields.values()), default=0)
        if (wells, timepoints, deep) != (self.wells, self.timepoints, self.cells.shape[2]):
            self._grow(wells, timepoints, deep)
        return moved

    def _grow(self, wells: tuple[str, ...], timepoints: tuple[int, ...], deep: int) -> None:
        old_wells, old_times = set(self.wells), set(self.timepoints)
        rows = np.asarray([row for row, well in enumerate(wells) if well in old_wells], dtype=np.int64)
        columns = np.asarray([column for column, one in enumerate(timepoints) if one in old_times], dtype=np.int64)
        at = np.ix_(rows, columns)
        for name, (kind, blank) in _AXES.items():
            wider = np.full((len(wells), len(timepoints)), blank, kind)
            wider[at] = self.over[name]
            self.over[name] = wider
        cells = np.zeros((len(wells), len(timepoints), deep, len(self.index.states)), np.int32)
        counted = np.zeros(cells.shape[:3], np.bool_)
        before = np.arange(self.cells.shape[2])
        at = np.ix_(rows, columns, before)
        cells[at], counted[at] = self.cells, self.counted
        self.wells, self.timepoints, self.cells, self.counted = wells, timepoints, cells, counted

    def _put(self, value: WellTime, row: int, column: int) -> None:
        over = self.over
        over["acquired_s"][row, column] = value.acquired_at.timestamp()
        over["first_s"][row, column] = value.committed_at.timestamp()
        over["present"][row, column] = value.fields_present
        over["version"][row, column] = self.index.versions.get(value.bundle, _NO_INDEX)
        over["focus"][row, column] = value.focus
        over["probability"][row, column] = value.probability
        over["novel"][row, column] = value.novel
        over["typical"][row, column] = value.typical
        over["agreement"][row, column] = value.agreement
        cells = np.zeros(self.cells.shape[2:], np.int32)
        counted = np.zeros(self.cells.shape[2], np.bool_)
        for one in value.fields:
            place = self.fields[value.well].index(one.field)
            counted[place] = one.counted
            self._spread(one, cells[place])
        self.cells[row, column], self.counted[row, column] = cells, counted

    def _spread(self, one: FieldCounts, into: I32) -> None:
        for state, cells in one.counts.items():
            column = self.index.columns.get(state)
            if column is not None and cells:
                into[column] += cells


def _plate_order(well: str) -> tuple[int, str, int, str]:
    """Rows as a plate counts them (A..Z, AA..AF), then columns."""
    row = well.rstrip("0123456789")
    column = well[len(row) :]
    return (len(row), row, int(column) if column else -1, well)
