"""Reading per-cell rows back, committed ones that are not published yet too. Touches nothing but the files it reads."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cellvigil.data import Array
from cellvigil.errors import StoreError
from cellvigil.store.shards import read_rows


def read_table(field: Path, table: str, t: int, count: int) -> dict[str, Array]:
    """The rows of one frame by column, each (count,); no rows for a frame without cells.

    `field` is the field's folder, `table` e.g. "cells/features". Raises StoreError if a file is missing or damaged.
    """
    columns = table_columns(field / table)
    if not count:
        return {name: np.empty(0, dtype=np.float32) for name in columns}
    rows = _read(field / table, t, count, len(columns), np.float32)
    return {name: rows[:, place] for place, name in enumerate(columns)}


def read_embedding(field: Path, table: str, t: int, count: int) -> Array:
    """The embeddings of one frame's cells, (count, d) f32 from the stored half precision. Raises StoreError."""
    columns = int(_document(field / table)["shape"][2])
    if not count:
        return np.empty((0, columns), dtype=np.float32)
    return _read(field / table, t, count, columns, np.float16).astype(np.float32)


def table_columns(table: Path) -> tuple[str, ...]:
    """The names of a table's columns, from its attributes. Raises StoreError."""
    try:
        return tuple(_document(table)["attributes"]["columns"])
    except KeyError:
        raise StoreError("the table does not name its columns", where=table) from None


def _read(table: Path, t: int, count: int, columns: int, dtype: type[np.generic]) -> Array:
    path = table / f"c.{t}.0.0"
    try:
        return read_rows(path.read_bytes(), count, columns, dtype)
    except OSError as error:
        raise StoreError(f"rows that the journal names cannot be read: {error.strerror}", where=path) from error


@lru_cache(maxsize=4096)
def _document(table: Path) -> dict[str, Any]:
    """An array's zarr.json; only its number of time points ever changes, and nobody here asks for that."""
    try:
        document: dict[str, Any] = json.loads((table / "zarr.json").read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"the table's zarr.json cannot be read: {error}", where=table) from error
    return document
