"""One plate's place on the disk: begun, laid out, and listed for readers. Touches that plate's folder only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellvigil.errors import store_failure
from cellvigil.journal import Journal, fsync_path
from cellvigil.store.commit import replace_file
from cellvigil.store.plate import Field, Plate, Table
from cellvigil.store.recover import JOURNAL


@dataclass(slots=True, eq=False)
class Place:
    """One plate that this store has open."""

    folder: Path
    journal: Journal
    plate: Plate
    touched: bool = False  # written in this session


def begin(store: Path, folder: Path) -> Place:
    """A new plate's folder, its name durable, its journal empty. Raises StoreFull or StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for parent in (folder.parent, folder.parent.parent, store):
            fsync_path(parent)
    except OSError as error:
        raise store_failure("the plate cannot be begun", error, where=folder) from error
    return Place(folder, Journal(folder / JOURNAL, end=0, following=1), Plate())


def prepare(place: Place, one: Field, tables: Sequence[Table]) -> None:
    """Make the arrays that a frame needs; a new field's are not listed, so no reader sees them before its frame."""
    known = (one.well, one.name) in place.plate.fields
    wanted = [table.name for table in tables if table.name not in one.tables]
    if known and not wanted:
        return
    planned = Field(one.well, one.name, one.path, one.committed, one.tables | dict.fromkeys(wanted))
    files = place.plate.field_files(planned)
    _lay_out(place.folder, one.path, {name: files[name] for name in (wanted if known else files)})


def list_fields(place: Place) -> None:
    """Name fields that committed for the first time in the documents of their well and plate: now readers see them."""
    fresh = {one.path for one in place.plate.fields.values()} - place.plate.listed
    if fresh:
        files = place.plate.listing_files()
        above = [name for path in sorted(fresh) for name in (path.split("/")[0], path.rpartition("/")[0])]
        for name in dict.fromkeys([*above, ""]):  # the plate last: what it names is there already
            replace_file(place.folder / name / "zarr.json", files[name])
        place.plate.listed |= fresh


def _lay_out(folder: Path, field_path: str, files: Mapping[str, bytes]) -> None:
    """Make a field's folders and zarr.json files.

    The documents are not fsynced, since opening makes them again from the journal; the folders' names are, since
    committed chunks will lie in them.
    """
    try:
        for name, content in files.items():
            (folder / field_path / name).mkdir(parents=True, exist_ok=True)
            replace_file(folder / field_path / name / "zarr.json", content, durable=False)
        inside = {(folder / field_path / name).parent for name in files}
        above = {folder, *(folder / part for part in Path(field_path).parents), folder / field_path}
        for parent in sorted(inside | above):
            fsync_path(parent)
    except OSError as error:
        raise store_failure("the plate cannot be laid out", error, where=folder) from error
