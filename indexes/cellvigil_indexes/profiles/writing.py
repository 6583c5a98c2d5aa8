"""Well profiles as a table, one row a well and time point: Parquet or CSV by the file's suffix. Writes the one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from cellvigil.data import F32
from cellvigil.errors import StoreError, UsageError
from cellvigil.store.names import readable
from cellvigil_indexes.profiles.values import WellProfile

SUFFIXES = (".parquet", ".csv")


def check_suffix(out: Path) -> None:
    """Raises UsageError for a file that is neither Parquet nor CSV."""
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out.name} is neither .parquet nor .csv", hint="choose the format by the file's suffix")


def write_profiles(out: Path, profiles: Sequence[WellProfile], vectors: F32) -> None:
    """Write profiles and their (n, d) vectors, columns `profile_0` and on. `out` appears whole or not at all.

    Raises UsageError as `check_suffix` does, StoreError where it cannot be written.
    """
    check_suffix(out)
    table = pa.table(
        {
            "source": [readable(each.series[0]) for each in profiles],
            "experiment": [readable(each.series[1]) for each in profiles],
            "plate": [readable(each.series[2]) for each in profiles],
            "well": [readable(each.well) for each in profiles],
            "timepoint": pa.array([each.timepoint for each in profiles], pa.int32()),
            "acquired_at": pa.array([each.acquired_at for each in profiles], pa.timestamp("us", tz="UTC")),
            "arm": [readable(each.arm) or None for each in profiles],
            "role": [None if each.plan is None else each.plan.role for each in profiles],
            "fields": pa.array([each.fields for each in profiles], pa.int32()),
            "cells": pa.array([each.cells for each in profiles], pa.int32()),
            **{f"profile_{place}": vectors[:, place] for place in range(vectors.shape[1])},
        }
    )
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    write = pyarrow.parquet.write_table if out.suffix == ".parquet" else pyarrow.csv.write_csv
    try:
        write(table, unfinished)
        unfinished.replace(out)
    except OSError as error:
        raise StoreError(f"the table cannot be written: {error.strerror}", where=out) from error
    finally:
        unfinished.unlink(missing_ok=True)
