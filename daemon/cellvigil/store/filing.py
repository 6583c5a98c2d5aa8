"""Frames that are filed together: each planned alone, then all committed at once. Writes through `commit` only.

Planning gives every frame its slot and its field's folder as if the frames before it in the group were committed
already, so that a group leaves the very store that its frames would have left one by one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from cellvigil.data import FrameKey, Record
from cellvigil.errors import StoreError
from cellvigil.journal import Line, seal
from cellvigil.store import encode, lines
from cellvigil.store.commit import Chunk, Part, commit
from cellvigil.store.fit import SourcePlan, check_cells, fitting_geometry
from cellvigil.store.holdings import Conflict, Holdings
from cellvigil.store.place import Place, list_fields, prepare
from cellvigil.store.plate import Field, Plate, Table, canonical

Trait = TypeVar("Trait")


@dataclass(frozen=True, slots=True, eq=False)
class Filing:
    """One frame to commit, and the sighting that its time point came from (`Ledger.ordinals` gives it back)."""

    record: Record
    folder: str = ""
    number: int = -1


@dataclass(frozen=True, slots=True)
class Committed:
    """A frame that is in the store."""

    key: FrameKey
    t: int  # its slot in the plate's arrays
    revision: int
    line: Mapping[str, Any]  # the journal line that committed it; {} if it was committed, and told, before


@dataclass(slots=True, eq=False)
class _Seats:
    """The slots and folders of one plate that frames of the group get before any of them is committed."""

    plate: Plate
    slots: dict[tuple[int, int], int] = field(default_factory=dict)  # (timepoint, revision) -> slot
    fields: dict[tuple[str, str], Field] = field(default_factory=dict)  # (well, field name)

    def slot(self, timepoint: int, revision: int) -> int:
        """The slot of a round."""
        asked = (timepoint, revision)
        found = self.plate.slot(*asked)
        return found if found == self.plate.slots.get(asked) else self.slots.get(asked, found + len(self.slots))

    def field(self, key: FrameKey) -> Field:
        """The field of a frame."""
        one = self.plate.place(key)
        if (key.well, key.field) in self.plate.fields:
            return one
        before = sum(other.well_path == one.well_path for other in self.fields.values())
        path = f"{one.well_path}/{int(one.path.rpartition('/')[2]) + before}"
        return self.fields.get((key.well, key.field), replace(one, path=path))

    def keep(self, key: FrameKey, revision: int, one: Field, slot: int) -> None:
        """Give a frame what `slot` and `field` said."""
        if (key.well, key.field) not in self.plate.fields:
            self.fields.setdefault((key.well, key.field), one)
        if slot != self.plate.slots.get((key.timepoint, revision)):
            self.slots.setdefault((key.timepoint, revision), slot)


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """A frame that fits, as it will be written."""

    record: Record
    place: Place
    one: Field
    tables: tuple[Table, ...]
    chunks: Sequence[Chunk]
    entry: dict[str, Any]

    @property
    def name(self) -> tuple[FrameKey, int]:
        return self.record.frame.key, self.record.revision


class Group:
    """Filings that are committed together: `add` each, then `commit` all."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._seats: dict[Place, _Seats] = {}
        self._planned: dict[tuple[FrameKey, int], _Planned] = {}

    def add(self, filing: Filing) -> Committed:
        """What the filing will be once `commit` returns; its line is {} as yet.

        Raises BadFile, ValueError or Conflict if it does not fit (then it is not in the group, and nothing of the group
        has changed), and StoreFull or StoreError if the disk fails.
        """
        record = filing.record
        key, revision = record.frame.key, record.revision
        if (t := self._slot_before(record)) is not None:
            return Committed(key, t, revision, {})
        self._holdings.see_room()
        place = self._holdings.place(key.series)
        planned = self._plan(filing, place)
        seal(planned.entry)  # ValueError for what JSON has no word for: before it can cost the others anything
        slot = int(planned.entry["t"])
        self._seats[place].keep(key, revision, planned.one, slot)
        self._planned[(key, revision)] = planned
        return Committed(key, slot, revision, {})

    def commit(self) -> None:
        """Write all that was added. Raises StoreFull or StoreError: then none is committed, but on plates before."""
        for (place, _), mine in self._by(lambda one: (one.place, one.one.path)).items():
            tables = {table.name: table for one in mine for table in one.tables}
            prepare(place, mine[0].one, list(tables.values()))
        by_place = self._by(lambda one: one.place)
        commit([self._part(place, mine) for place, mine in by_place.items()])
        for place in by_place:
            with contextlib.suppress(StoreError):  # the frames are committed: `publish` lists them later, or tells
                list_fields(place)

    def _plan(self, filing: Filing, place: Place) -> _Planned:
        record, plate, rules = filing.record, place.plate, self._holdings.rules
        key = record.frame.key
        geometry = fitting_geometry(record.frame, plate.geometry, rules.plans.get(key.source, SourcePlan()))
        check_cells(record)
        rows = encode.row_tables(record, plate, embeddings=rules.embeddings)
        tables = tuple(table for table, _ in rows)
        self._holdings.introduce(place, record, geometry, tables)
        seats = self._seats.setdefault(place, _Seats(plate))
        one, slot = seats.field(key), seats.slot(key.timepoint, record.revision)
        chunks = encode.frame_chunks(place.folder, one, slot, record, plate.known_geometry)
        chunks += [encode.table_chunk(place.folder, one, slot, table.name, block) for table, block in rows]
        setting = plate.settings[canonical(record.provenance)]
        now = rules.now()
        entry = lines.frame_line(
            record,
            one,
            slot,
            setting=setting,
            channels=len(plate.known_geometry.channels),
            tables=tables,
            chunks=chunks,
            committed_at=now,
        )
        entry |= {"folder": filing.folder, "number": filing.number}
        if (older := self._superseded(record)) is not None:
            entry["supersedes"] = older
        return _Planned(record, place, one, tables, chunks, entry)

    def _slot_before(self, record: Record) -> int | None:
        """The slot of a revision that is committed, or in the group, with the same files. Raises Conflict."""
        key, revision = record.frame.key, record.revision
        known = self._holdings.ledger.frame(key, revision)
        planned = self._planned.get((key, revision))
        if known is not None:
            files, slot = known.files, known.t
        elif planned is not None:
            files, slot = planned.record.frame.files, int(planned.entry["t"])
        else:
            return None
        damaged = self._holdings.ledger.is_lost(key, revision)
        if damaged or {ref.digest for ref in files} != {ref.digest for ref in record.frame.files}:
            state = "was found damaged" if damaged else "is in the store with other files"
            following = max(self._holdings.ledger.revision(key), *(r for k, r in self._planned if k == key), 0) + 1
            what, hint = f"{key} revision {revision} {state}", f"commit it as revision {following}"
            raise Conflict(what, where=self._holdings.path, hint=hint)
        return slot

    def _superseded(self, record: Record) -> int | None:
        """The slot of the frame's newest revision so far, if this one is newer."""
        key = record.frame.key
        slots = {one.record.revision: int(one.entry["t"]) for one in self._planned.values() if one.name[0] == key}
        if (older := self._holdings.ledger.frame(key)) is not None:
            slots[older.revision] = older.t
        newest = max(slots, default=record.revision)
        return slots[newest] if newest < record.revision else None

    def _by(self, trait: Callable[[_Planned], Trait]) -> dict[Trait, list[_Planned]]:
        found: dict[Trait, list[_Planned]] = {}
        for one in self._planned.values():
            found.setdefault(trait(one), []).append(one)
        return found

    def _part(self, place: Place, mine: Sequence[_Planned]) -> Part:
        def take(journaled: Sequence[Line]) -> None:
            self._holdings.take(place, journaled)
            self._holdings.untold.update(zip((one.name for one in mine), journaled, strict=True))

        return Part(place.journal, [one.entry for one in mine], [chunk for one in mine for chunk in one.chunks], take)
