"""One plate in memory: what its journal says of geometry, slots, fields and tables. Pure but for `T`, which it is told.

The writer asks it where things go; recovery asks it what should be there. Folding the journal's lines gives the same
plate that wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from cellvigil.data import FrameKey
from cellvigil.ledger import Series
from cellvigil.store import layout, names
from cellvigil.store.columns import FEATURES
from cellvigil.store.layout import Document, Geometry, rendered

FEATURES_TABLE = "cells/features"
PROFILE_TABLES = "cells/profile-"
"""What the names of tables begin with that hold one row a frame: the mean embedding of its counted cells."""


@dataclass(frozen=True, slots=True)
class Table:
    """One per-cell table: (T, 8192, columns) in every field that has rows in it."""

    name: str  # its path in the field: "cells/features"
    dtype: str  # "float32" or "float16"
    columns: int
    attributes: Mapping[str, Any]


_FEATURES = Table(FEATURES_TABLE, "float32", len(FEATURES), {"columns": list(FEATURES)})


@dataclass(slots=True, eq=False)
class Field:
    """One field of view of a plate."""

    well: str
    name: str
    path: str  # its folder in the plate: "A/1/0"
    committed: set[int] = field(default_factory=set)  # slots
    tables: dict[str, None] = field(default_factory=dict)  # the tables it has rows in, features included; in order

    @property
    def well_path(self) -> str:
        """The well's folder in the plate: "A/1"."""
        return self.path.rpartition("/")[0]


@dataclass(slots=True, eq=False)
class Plate:
    """The state of one plate."""

    series: Series = ("", "", "")  # source, experiment, plate; empty before the first line
    geometry: Geometry | None = None
    times: int = 0  # T: how many slots the arrays show
    slots: dict[tuple[int, int], int] = field(default_factory=dict)  # (timepoint, revision) -> slot
    fields: dict[tuple[str, str], Field] = field(default_factory=dict)  # (well, field name), committed ones only
    tables: dict[str, Table] = field(default_factory=lambda: {FEATURES_TABLE: _FEATURES})  # by name
    settings: dict[str, int] = field(default_factory=dict)  # canonical provenance -> number
    listed: set[str] = field(default_factory=set)  # paths of the fields that the plate's and wells' documents name
    dropped: dict[int, frozenset[str]] = field(default_factory=dict)  # slot -> tiers that retention deleted
    _rounds: dict[int, tuple[int, int]] = field(default_factory=dict)  # slot -> (timepoint, revision)
    _filled: dict[int, int] = field(default_factory=dict)  # slot -> fields that committed it
    _free: int = 0  # the next slot
    _begun: int = -1  # the latest time point that has a frame
    _rendered: dict[str, bytes] = field(default_factory=dict)  # zarr.json by array
    _rendered_for: int = -1  # the `times` it was rendered for

    def apply(self, line: Mapping[str, Any]) -> None:
        """Fold one journal line in."""
        kind = line.get("kind", "")
        if "t" in line:  # also of a frame whose own line went bad: what was said of its slot must meet no other frame
            self._free = max(self._free, int(line["t"]) + 1)
        if not any(self.series) and (parts := line.get("series") or line.get("key")):
            self.series = (parts[0], parts[1], parts[2])
        if kind == "frame":
            self._frame(line)
        elif kind == "calls":
            self._field(line["key"][3], line["key"][4], line["path"]).tables[line["table"]] = None
        elif kind == "geometry":
            self.geometry = geometry_of(line)
        elif kind == "table":
            self.tables[line["name"]] = Table(line["name"], line["dtype"], line["columns"], line["attributes"])
        elif kind == "dropped":
            slot = int(line["t"])
            self.dropped[slot] = self.dropped.get(slot, frozenset()) | frozenset(line["tiers"])
        elif kind == "setting":
            self.settings[canonical(line["provenance"])] = int(line["setting"])

    def slot(self, timepoint: int, revision: int) -> int:
        """The slot of a round: the one it has, or the next free one, in order of first commit.

        What comes to a round after retention has deleted of its slot gets a slot of its own, and is kept as long.
        """
        known = self.slots.get((timepoint, revision), self._free)
        return self._free if known in self.dropped else known

    def place(self, key: FrameKey) -> Field:
        """The field of a frame; a new one gets the next free folder in its well. Not kept until a frame commits."""
        if (known := self.fields.get((key.well, key.field))) is not None:
            return known
        well_path = "/".join(names.row_and_column(key.well))
        taken = [int(one.path.rpartition("/")[2]) for one in self.fields.values() if one.well_path == well_path]
        return Field(key.well, key.field, f"{well_path}/{max(taken, default=-1) + 1}")

    def settled(self, overdue: int) -> int:
        """How many slots may be shown: those before the first that is still being filled.

        A slot is full when every field of the plate has committed it. It is not waited for when it holds a revision
        (only what was rewritten comes again), when its time point is `overdue` or earlier, or when a time point two
        later has begun.
        """
        for slot in range(self.times, self._free):
            timepoint, revision = self._rounds.get(slot, (-1, 1))  # a slot lost with its journal line is not waited for
            waived = revision > 0 or timepoint <= overdue or self._begun >= timepoint + 2
            if not waived and self._filled.get(slot, 0) < len(self.fields):
                return slot
        return max(self._free, self.times)

    def array_names(self, one: Field) -> list[str]:
        """The arrays of a field, as folders within it. A table whose journal line is lost is left as it is."""
        tables = (name for name in dict.fromkeys((FEATURES_TABLE, *one.tables)) if name in self.tables)
        return ["0", "1", "labels/cells/0", "labels/cells/1", *tables]

    def chunk_names(self, slot: int, tiers: Collection[str]) -> list[str]:
        """Where a slot's chunks of some tiers would lie, over all fields, within the plate; not all need be there."""
        arrays = [(one.path, name) for one in self.fields.values() for name in self.array_names(one)]
        return [f"{path}/{name}/{chunk_name(name, slot)}" for path, name in arrays if tier_of(name) in tiers]

    def array_file(self, name: str) -> bytes:
        """The zarr.json of one array, the same in every field; its shape as `times` says."""
        if self._rendered_for != self.times:
            self._rendered, self._rendered_for = {}, self.times
        if name not in self._rendered:
            self._rendered[name] = rendered(self._array(name))
        return self._rendered[name]

    def field_files(self, one: Field) -> dict[str, bytes]:
        """Every zarr.json of a field by its folder within the field."""
        geometry = self.known_geometry
        groups = {
            "": layout.field(geometry, one.well, one.name, geometry_line(geometry)),
            "labels": layout.labels_group(),
            "labels/cells": layout.label_image(geometry),
            "cells": layout.group(),
        }
        arrays = {name: self.array_file(name) for name in self.array_names(one)}
        return {name: rendered(document) for name, document in groups.items()} | arrays

    def listing_files(self) -> dict[str, bytes]:
        """The zarr.json of the plate, its rows and its wells, by folder; only what holds a committed frame."""
        wells: dict[str, list[Field]] = {}
        for one in self.fields.values():
            wells.setdefault(one.well_path, []).append(one)
        if not wells:
            return {}
        documents = {path.partition("/")[0]: layout.group() for path in wells}
        for path, fields in wells.items():
            folders = sorted((one.path.rpartition("/")[2] for one in fields), key=int)
            documents[path] = layout.well(fields[0].well, folders)
        places = [(row, column) for row, _, column in (path.partition("/") for path in wells)]
        documents[""] = layout.plate(self.series[2], places, max(len(fields) for fields in wells.values()))
        return {name: rendered(document) for name, document in documents.items()}

    def _array(self, name: str) -> Document:
        geometry = self.known_geometry
        if name in ("0", "1"):
            return layout.image_array(geometry, geometry.reduced if name == "1" else geometry.shape, self.times)
        if name.startswith("labels/"):
            return layout.label_array(geometry.reduced if name.endswith("1") else geometry.shape, self.times)
        table = self.tables[name]
        return layout.table_array(table.dtype, table.columns, self.times, table.attributes)

    @property
    def known_geometry(self) -> Geometry:
        """The geometry. Raises ValueError before the first frame."""
        if self.geometry is None:
            raise ValueError("the plate has no frame yet, so no geometry")
        return self.geometry

    def _field(self, well: str, name: str, path: str) -> Field:
        known = self.fields.get((well, name))
        if known is None:
            known = self.fields[(well, name)] = Field(well, name, path)
        return known

    def _frame(self, line: Mapping[str, Any]) -> None:
        *_, well, name, timepoint = line["key"]
        slot, begun = int(line["t"]), (int(timepoint), int(line["revision"]))
        one = self._field(well, name, line["path"])
        if self.slots.get(begun) != slot or self._rounds.get(slot) != begun:
            self.slots[begun] = slot
            self._rounds[slot] = begun
            self._begun = max(self._begun, begun[0])
        if slot not in one.committed:
            one.committed.add(slot)
            self._filled[slot] = self._filled.get(slot, 0) + 1
        if line["n_cells"]:
            for table in (FEATURES_TABLE, *line["tables"]):
                one.tables[table] = None


def tier_of(array: str) -> str:
    """The tier (`ledger.TIERS`) that an array of a field belongs to, by its folder within the field."""
    if array in ("0", "1"):
        return "pixels"
    if array.startswith("labels/"):
        return "labels"
    return "embeddings" if array.startswith("cells/embedding-") else "measurements"


def rows_in(array: str, n_cells: int) -> int:
    """How many rows a frame of so many cells has in a table."""
    return 1 if array.startswith(PROFILE_TABLES) else n_cells


def is_derived(array: str) -> bool:
    """Whether an array is a reduced level: it can be made again from the full one."""
    return array in ("1", "labels/cells/1")


def chunk_name(array: str, slot: int) -> str:
    """The name of a slot's one chunk in an array's folder."""
    return f"c.{slot}.0.0.0" if array in ("0", "1") else f"c.{slot}.0.0"


def geometry_line(geometry: Geometry) -> dict[str, Any]:
    """The journal line that fixes a plate's geometry."""
    return {
        "kind": "geometry",
        "channels": list(geometry.channels),
        "dtype": geometry.dtype,
        "shape": list(geometry.shape),
        "pixel_size_um": list(geometry.pixel_size_um),
        "windows": [list(window) for window in geometry.windows],
        "interval_s": geometry.interval_s,
    }


def geometry_of(line: Mapping[str, Any]) -> Geometry:
    """The geometry that a journal line fixed."""
    height, width = line["shape"]
    size_y, size_x = line["pixel_size_um"]
    return Geometry(
        channels=tuple(line["channels"]),
        dtype=line["dtype"],
        shape=(height, width),
        pixel_size_um=(size_y, size_x),
        windows=tuple((low, high) for low, high in line["windows"]),
        interval_s=line["interval_s"],
    )


def canonical(provenance: Mapping[str, str]) -> str:
    """One text for equal provenances."""
    return "\n".join(f"{name}={provenance[name]}" for name in sorted(provenance))
