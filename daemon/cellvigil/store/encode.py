"""A record as the chunks and the journal lines that it will be. Pure: nothing is written here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cellvigil.data import Array, Calls, Record
from cellvigil.ledger import CommittedFrame
from cellvigil.store import columns, names, shards
from cellvigil.store.commit import Chunk
from cellvigil.store.layout import REDUCED, Geometry
from cellvigil.store.plate import FEATURES_TABLE, Field, Plate, Table, canonical


def frame_chunks(plate_folder: Path, one: Field, slot: int, record: Record, geometry: Geometry) -> list[Chunk]:
    """The image and label chunks of a record, both levels."""
    pixels = record.frame.pixels
    planes = [
        pixels[record.frame.channels.index(name)] if name in record.frame.channels else None
        for name in geometry.channels
    ]
    if record.frame.channels == geometry.channels:  # names may repeat: then the order tells them apart
        planes = list(pixels)
    labels = np.asarray(record.cells.labels, dtype=np.int32)
    folder = plate_folder / one.path
    small = [None if plane is None else _mean(plane) for plane in planes]
    return [
        Chunk(folder / "0" / f"c.{slot}.0.0.0", shards.image_shard(planes)),
        Chunk(folder / "1" / f"c.{slot}.0.0.0", shards.image_shard(small)),
        Chunk(folder / "labels/cells/0" / f"c.{slot}.0.0", shards.label_chunk(labels)),
        Chunk(folder / "labels/cells/1" / f"c.{slot}.0.0", shards.label_chunk(_nearest(labels))),
    ]


def table_chunk(plate_folder: Path, one: Field, slot: int, table: str, rows: Array) -> Chunk:
    """The chunk of one per-cell table."""
    return Chunk(plate_folder / one.path / table / f"c.{slot}.0.0", shards.rows_shard(rows))


def row_tables(record: Record, plate: Plate, *, embeddings: bool) -> list[tuple[Table, Array]]:
    """Features, calls and embeddings of a record, each with the table that it belongs into; none without cells."""
    if not len(record.cells):
        return []
    found: list[tuple[Table, Array]] = [(plate.tables[FEATURES_TABLE], columns.feature_rows(record.cells))]
    found.append(calls_block(plate, record.calls, record.classes))
    for encoder, block in record.embeddings.items() if embeddings else ():
        sha256 = record.provenance.get(f"encoder:{encoder}", "")
        with np.errstate(over="ignore"):  # beyond half precision's 65,504 a value becomes infinite, and says so
            found.append((_embedding_table(plate, encoder, sha256, block.shape[1]), block.astype(np.float16)))
    return found


def calls_block(plate: Plate, calls: Calls, classes: tuple[str, ...]) -> tuple[Table, Array]:
    """Calls as rows, and the table that they belong into.

    A plate that an older version began keeps that version's columns, which are the first ones of ours.
    """
    ours = calls_table(calls.bundle_sha256, classes)
    table = plate.tables.get(ours.name, ours)
    return table, columns.call_rows(calls)[:, : table.columns]


def calls_table(bundle_sha256: str, classes: tuple[str, ...]) -> Table:
    """Where the calls of one index stand."""
    named = columns.call_columns(classes)
    name = f"cells/calls-{names.segment(bundle_sha256[:12])}"
    attributes = {"columns": list(named), "classes": list(classes), "bundle_sha256": bundle_sha256}
    return Table(name, "float32", len(named), attributes)


def table_lines(plate: Plate, tables: list[Table]) -> list[dict[str, Any]]:
    """The journal lines of tables that the plate does not know yet."""
    return [
        {
            "kind": "table",
            "name": table.name,
            "dtype": table.dtype,
            "columns": table.columns,
            "attributes": dict(table.attributes),
        }
        for table in tables
        if table.name not in plate.tables
    ]


def setting_lines(plate: Plate, provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    """The journal line that numbers a provenance (what made a record), if the plate does not know it yet."""
    if canonical(provenance) in plate.settings:
        return []
    return [
        {"kind": "setting", "setting": max(plate.settings.values(), default=-1) + 1, "provenance": dict(provenance)}
    ]


def utc(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def frame_line(
    record: Record, one: Field, slot: int, *, setting: int, tables: list[Table], committed_at: datetime
) -> dict[str, Any]:
    """The journal line that commits a record."""
    frame, cells = record.frame, record.cells
    key = frame.key
    return {
        "kind": "frame",
        "key": [*key.series, key.well, key.field, key.timepoint],
        "t": slot,
        "revision": record.revision,
        "path": one.path,
        "acquired_at": utc(frame.acquired_at),
        "committed_at": utc(committed_at),
        "files": [[ref.path, ref.size, ref.mtime_ns, ref.digest] for ref in frame.files],
        "n_cells": len(cells),
        "edge": int(np.count_nonzero(cells.touches_edge)),
        "counts": columns.state_counts(record.calls, ~cells.touches_edge, record.classes),
        "outcome": "excluded" if record.quality.excluded else "counted",
        "quality": _finite(asdict(record.quality)),
        "channels": list(frame.channels),
        "missing_channels": list(record.missing_channels),
        "pixel_size_um": [float(size) for size in frame.pixel_size_um],
        "shape": list(frame.pixels.shape),
        "bundle": record.calls.bundle_sha256,
        "tables": [table.name for table in tables if table.name != FEATURES_TABLE],
        "setting": setting,
        "stage_seconds": {stage: round(seconds, 6) for stage, seconds in record.stage_seconds.items()},
    }


def calls_line(
    frame: CommittedFrame, one: Field, table: Table, *, counts: Mapping[str, int], committed_at: datetime
) -> dict[str, Any]:
    """The journal line that commits another index's calls of a frame's cells."""
    key = frame.key
    return {
        "kind": "calls",
        "key": [*key.series, key.well, key.field, key.timepoint],
        "t": frame.t,
        "revision": frame.revision,
        "path": one.path,
        "committed_at": utc(committed_at),
        "bundle": table.attributes["bundle_sha256"],
        "table": table.name,
        "counts": dict(counts),
    }


def bundle_line(calls: Calls, classes: tuple[str, ...], groups: Mapping[str, str]) -> dict[str, Any]:
    """The journal line that names an index's classes and groups, once a plate."""
    return {
        "kind": "bundle",
        "sha256": calls.bundle_sha256,
        "classes": list(classes),
        "groups": dict(groups),
        "table": calls_table(calls.bundle_sha256, classes).name,
    }


def _padded(image: Array) -> Array:
    height, width = image.shape
    return np.pad(image, ((0, -height % REDUCED), (0, -width % REDUCED)), mode="edge")


def _mean(plane: Array) -> Array:
    padded = np.ascontiguousarray(_padded(plane), dtype=plane.dtype.newbyteorder("="))
    size = (padded.shape[1] // REDUCED, padded.shape[0] // REDUCED)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA))


def _nearest(labels: Array) -> Array:
    middle = REDUCED // 2
    return np.asarray(_padded(labels)[middle::REDUCED, middle::REDUCED])


def _embedding_table(plate: Plate, encoder: str, sha256: str, dimension: int) -> Table:
    """The encoder's table; another version of the same encoder gets a table of its own, as its vectors differ."""
    attributes = {"encoder": encoder, "encoder_sha256": sha256}
    plain = f"cells/embedding-{names.segment(encoder)}"
    table = Table(plain, "float16", dimension, attributes)
    if plate.tables.get(plain, table) == table:
        return table
    return Table(f"{plain}-{names.segment(sha256[:12])}-{dimension}", "float16", dimension, attributes)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no word for NaN or infinity: null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
