"""A table of labels for cells of a store: CSV or Parquet, with the columns of `cellvigil table`. Reads that file only.

A person exports the table, fills in a column `class` (and perhaps `group`), and gives it back; rows whose class is
empty say nothing. Other columns are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from cellvigil.errors import UsageError
from cellvigil_indexes.inputs.faults import Faults

_TEXTS = ("experiment", "plate", "well", "field", "class")
_NUMBERS = ("timepoint", "cell")
_OPTIONAL = ("source", "group", "revision")
_KNOWN = (*_TEXTS, *_NUMBERS, *_OPTIONAL)


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled cell, as the table names it."""

    place: str  # "row 12"
    frame: tuple[str, str, str, str, int]  # experiment, plate, well, field, timepoint
    cell: int  # its label in the frame's label image, 1 is the first
    class_name: str
    source: str | None  # None: the table has no such column
    revision: int | None  # of the frame; None: the current one
    group: str


def read_labels(path: Path, faults: Faults) -> list[Row]:
    """The labelled rows, in their order; rows with a cell or time point that is no number are noted.

    Raises UsageError if the file does not open or lacks a column.
    """
    table = _table(path)
    names = set(table.column_names)
    if missing := [name for name in (*_TEXTS, *_NUMBERS) if name not in names]:
        what = f"the table of labels has no column {', '.join(missing)}; it has {', '.join(table.column_names[:12])}"
        hint = "export one with `cellvigil table` and add a column `class` (and `group`, if you like)"
        raise UsageError(what, where=path, hint=hint)
    if twice := sorted(name for name in names if table.column_names.count(name) > 1 and name in _KNOWN):
        raise UsageError(f"the table of labels has several columns {', '.join(twice)}", where=path, hint="leave one")
    wanted = [name for name in (*_TEXTS, *_NUMBERS, *_OPTIONAL) if name in names]
    columns = [[_text(value) for value in table.column(name).to_pylist()] for name in wanted]
    found: list[Row] = []
    for place, values in enumerate(zip(*columns, strict=True), start=1):
        if (row := _row(place, dict(zip(wanted, values, strict=True)), faults)) is not None:
            found.append(row)
    if not found and not faults.counts:
        raise UsageError("no row of the table has a class", where=path, hint="fill in the column `class`")
    return found


def _row(place: int, said: Mapping[str, str], faults: Faults) -> Row | None:
    if not said["class"].strip():
        return None
    try:
        timepoint, cell = (_whole(said[name]) for name in _NUMBERS)
        revision = _whole(said["revision"]) if said.get("revision") else None
    except ValueError as error:
        faults.add("rows with a number that is none", f"row {place}: {error}")
        return None
    return Row(
        place=f"row {place}",
        frame=(said["experiment"], said["plate"], said["well"], said["field"], timepoint),
        cell=cell,
        class_name=said["class"].strip(),
        source=said.get("source"),
        revision=revision,
        group=said.get("group", "").strip(),
    )


def _table(path: Path) -> Any:
    readers: Mapping[str, Callable[[Path], Any]] = {".parquet": pyarrow.parquet.read_table, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path.name} is neither .parquet nor .csv", hint="--labels takes one of these")
    try:
        return readers[path.suffix.lower()](path)
    except OSError as error:
        raise UsageError(f"the table of labels cannot be read: {error.strerror or error}", where=path) from None
    except pa.ArrowException as error:
        raise UsageError(f"the table of labels cannot be read: {error}", where=path) from None


def _csv(path: Path) -> Any:
    """Every column as text: a plate called 007 must stay that."""
    names: Sequence[str] = (*_TEXTS, *_NUMBERS, *_OPTIONAL)
    types = {name: pa.string() for name in names}
    return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _whole(text: str) -> int:
    """A whole number, however a spreadsheet wrote it: 7, 7.0."""
    value = float(text)
    if not value.is_integer():
        raise ValueError(f"{text!r} is no whole number")
    return int(value)
