"""What an open store holds: its plates and its ledger, kept in step with the journals. Knows no lock; `writer` does.

What is journaled here (a plate's beginning, its geometry, tables, indexes, settings) comes before the first frame that
relies on it, and each line stands alone: an error between two of them, or before the frame, leaves nothing to undo.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cellvigil.data import Calls, FrameKey, Record
from cellvigil.errors import StoreError, StoreFull, store_failure
from cellvigil.journal import Line
from cellvigil.ledger import Ledger, Series, called_by, joined
from cellvigil.store import lines
from cellvigil.store.fit import SourcePlan
from cellvigil.store.gone import come_back, folder_of
from cellvigil.store.layout import Geometry
from cellvigil.store.place import Place, begin
from cellvigil.store.plate import Table, geometry_line
from cellvigil.store.recover import FORMAT, JOURNAL


class Conflict(StoreError):
    """A frame contradicts what the store holds: it cannot be committed as it is, others can."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a store is to be written."""

    now: Callable[[], datetime]  # aware
    embeddings: bool  # whether cells' embeddings are kept
    plans: Mapping[str, SourcePlan]  # by source
    min_free_mb: float  # with less room (1e6 bytes) nothing is written; 0 = until the disk says no


@dataclass(slots=True, eq=False)
class Holdings:
    """The plates of one store that is open for writing."""

    path: Path
    ledger: Ledger
    rules: Rules
    places: dict[Path, Place]  # by the plate's folder
    untold: dict[tuple[FrameKey, int], Line] = field(default_factory=dict)
    """Lines of frames that were committed by a call that failed for other frames: told when they are tried again."""

    def see_room(self) -> None:
        """Raise StoreFull if the disk has less room than the rules ask for."""
        if not self.rules.min_free_mb:
            return
        try:
            disk = os.statvfs(self.path)
        except OSError as error:
            raise store_failure("the store cannot be written", error, where=self.path) from error
        free_mb = disk.f_bavail * disk.f_frsize / 1e6
        if free_mb < self.rules.min_free_mb:
            what = f"{free_mb:.0f} MB free, store.min_free_mb asks for {self.rules.min_free_mb:g}"
            raise StoreFull(what, where=self.path, hint="free some space on that disk; writing goes on by itself")

    def known(self, series: Series) -> Place | None:
        """The plate of a series, if it is begun. Raises Conflict if another series has its folder."""
        folder = folder_of(self.path, series)
        place = self.places.get(folder)
        if place is None or not any(place.plate.series):
            return None
        if place.plate.series != series:
            what = f"{place.plate.series} and {series} have one folder"
            raise Conflict(what, where=folder, hint="rename one of them")
        return place

    def place(self, series: Series) -> Place:
        """The plate of a series, begun on the disk if it is new. Raises Conflict, StoreFull or StoreError."""
        if (place := self.known(series)) is not None:
            return place
        folder = folder_of(self.path, series)
        if self.ledger.is_gone(series):
            self.ledger.add(come_back(self.path, series, committed_at=lines.utc(self.rules.now())))
        if (place := self.places.get(folder)) is None:
            if (folder / JOURNAL).exists():  # one that opening passed over: see `recover.own_folders`
                what, hint = (
                    f"another plate's journal and {series} have one folder",
                    "move that folder out of the store",
                )
                raise Conflict(what, where=folder, hint=hint)
            place = self.places[folder] = begin(self.path, folder)
        self.take(place, place.journal.append([{"kind": "plate", "format": FORMAT, "series": list(series)}]))
        return place

    def introduce(self, place: Place, record: Record, geometry: Geometry, tables: Sequence[Table]) -> None:
        """Journal what a record relies on and the plate does not know yet; rare, so a commit of its own."""
        if place.plate.geometry is None:
            entry = {**geometry_line(geometry), "series": list(place.plate.series)}
            self.take(place, place.journal.append([entry]))
        index = lines.Index(
            record.classes, record.groups, record.confusion, record.confusion_overridden, record.aligned_from
        )
        self.announce(place, record.calls, index, tables, record.provenance)

    def announce(
        self,
        place: Place,
        calls: Calls,
        index: lines.Index,
        tables: Sequence[Table],
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """Journal the tables, the index and the provenance that the plate does not know yet."""
        fresh = lines.table_lines(place.plate, tables)
        known = self.ledger.bundle(place.plate.series, calls.bundle_sha256)
        line = lines.bundle_line(calls, index)
        if known is None or joined(known, called_by(line)) != known:
            fresh.append(line)
        if provenance is not None:
            fresh += lines.setting_lines(place.plate, provenance)
        if fresh:
            series = list(place.plate.series)
            self.take(place, place.journal.append([{**line, "series": series} for line in fresh]))

    def take(self, place: Place, journaled: Sequence[Line]) -> None:
        """Fold lines that are durable into the plate and the ledger."""
        place.touched = True
        for line in journaled:
            place.plate.apply(line)
            self.ledger.add(line)
