"""Reading per-cell rows back, committed ones that are not published yet too. Touches nothing but the files it reads."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.data import Array
from cellvigil.errors import StoreError
from cellvigil.store.plate import chunk_name, tier_of
from cellvigil.store.shards import read_rows

_REPAIR = "run `cellvigil repair`"


def read_table(field: Path, table: str, t: int, count: int, *, dropped: Collection[str] = ()) -> dict[str, Array]:
    """The rows of one frame by column, each (count,); no rows for a frame without cells.

    `field` is the field's folder, `table` e.g. "cells/features", `dropped` what `Ledger.dropped` says of the slot.
    Raises StoreError if a file is missing (saying so where retention deleted it) or damaged.
    """
    columns = table_columns(field / table)
    if not count:
        return {name: np.empty(0, dtype=np.float32) for name in columns}
    rows = _read(field / table, t, (count, len(columns)), np.float32, tier_of(table) in dropped)
    return {name: rows[:, place] for place, name in enumerate(columns)}


def read_embedding(field: Path, table: str, t: int, count: int, *, dropped: Collection[str] = ()) -> Array:
    """The embeddings of one frame's cells, (count, d) f32 from the stored half precision.

    `dropped`, and what it raises: as `read_table`.
    """
    columns = int(_document(field / table)["shape"][2])
    if not count:
        return np.empty((0, columns), dtype=np.float32)
    return _read(field / table, t, (count, columns), np.float16, tier_of(table) in dropped).astype(np.float32)


def read_profile(field: Path, table: str, t: int, *, dropped: Collection[str] = ()) -> dict[str, Array]:
    """The mean embedding of one frame's counted cells, encoder name -> (d_e,) f32. Arguments, errors: `read_table`."""
    made_by = table_attributes(field / table)["encoders"]
    ends = np.cumsum([each["dimension"] for each in made_by])
    row = _read(field / table, t, (1, int(ends[-1])), np.float32, tier_of(table) in dropped)[0]
    return {each["encoder"]: row[end - each["dimension"] : end] for each, end in zip(made_by, ends, strict=True)}


def table_columns(table: Path) -> tuple[str, ...]:
    """The names of a table's columns, from its attributes. Raises StoreError."""
    try:
        return tuple(_document(table)["attributes"]["columns"])
    except KeyError:
        raise StoreError("the table does not name its columns", where=table) from None


def table_attributes(table: Path) -> dict[str, Any]:
    """The attributes of a table. Raises StoreError."""
    found = _document(table).get("attributes")
    return found if isinstance(found, dict) else {}


def _read(table: Path, t: int, shape: tuple[int, int], dtype: type[np.generic], dropped: bool) -> Array:
    path = table / chunk_name(table.name, t)
    try:
        return read_rows(path.read_bytes(), *shape, dtype)
    except FileNotFoundError as error:
        if dropped:
            hint = "keep more with store.retention"
            raise StoreError(f"retention deleted the rows of slot {t}", where=table, hint=hint) from error
        raise StoreError("rows that the journal names are missing", where=path, hint=_REPAIR) from error
    except OSError as error:
        raise StoreError(f"rows that the journal names cannot be read: {error.strerror}", where=path) from error
    except (ValueError, RuntimeError) as error:
        raise StoreError(f"rows that the journal names are damaged: {error}", where=path, hint=_REPAIR) from error


@lru_cache(maxsize=4096)
def _document(table: Path) -> dict[str, Any]:
    """An array's zarr.json; only its number of time points ever changes, and nobody here asks for that."""
    try:
        document: dict[str, Any] = json.loads((table / "zarr.json").read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"the table's zarr.json cannot be read: {error}", where=table) from error
    return document
