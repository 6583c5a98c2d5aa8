"""A record as the chunks that it will be. Pure: nothing is written here. Its journal line is made in `lines`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from cellvigil.data import Array, Bools, Calls, Record
from cellvigil.store import columns, names, shards
from cellvigil.store.commit import Chunk
from cellvigil.store.layout import REDUCED, Geometry
from cellvigil.store.plate import (
    FEATURES_TABLE,
    PROFILE_TABLES,
    Field,
    Plate,
    Table,
    chunk_name,
    is_derived,
    tier_of,
)


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
    return [
        *image_chunks(plate_folder, one, slot, shards.image_shard(planes), shards.image_shard(_means(planes))),
        chunk(plate_folder, one, slot, "labels/cells/0", shards.label_chunk(labels)),
        chunk(plate_folder, one, slot, "labels/cells/1", shards.label_chunk(_nearest(labels))),
    ]


def image_chunks(plate_folder: Path, one: Field, slot: int, full: bytes, reduced: bytes) -> list[Chunk]:
    """The two levels of a frame's image."""
    return [chunk(plate_folder, one, slot, "0", full), chunk(plate_folder, one, slot, "1", reduced)]


def chunk(plate_folder: Path, one: Field, slot: int, array: str, data: bytes) -> Chunk:
    """The chunk of one array of a field; `array` is its folder within the field."""
    return Chunk(plate_folder / one.path / array / chunk_name(array, slot), data, tier_of(array), is_derived(array))


def reduced_image(data: bytes, geometry: Geometry) -> bytes:
    """The shard of the reduced level, made from the full level's: the bytes that the writer writes.

    Raises StoreError if `data` is damaged.
    """
    return shards.image_shard(_means(shards.read_planes(data, len(geometry.channels), geometry.shape, geometry.dtype)))


def reduced_labels(data: bytes, geometry: Geometry) -> bytes:
    """The label chunk of the reduced level, made from the full level's: the bytes that the writer writes.

    Raises StoreError if `data` is damaged.
    """
    return shards.label_chunk(_nearest(shards.read_labels(data, geometry.shape)))


def table_chunk(plate_folder: Path, one: Field, slot: int, table: str, rows: Array) -> Chunk:
    """The chunk of one per-cell table."""
    return chunk(plate_folder, one, slot, table, shards.rows_shard(rows))


def row_tables(record: Record, plate: Plate, *, embeddings: bool) -> list[tuple[Table, Array]]:
    """Features, calls, embeddings and profile of a record, each with its table; none without cells."""
    if not len(record.cells):
        return []
    found: list[tuple[Table, Array]] = [(plate.tables[FEATURES_TABLE], columns.feature_rows(record.cells))]
    found.append(calls_block(plate, record.calls, record.classes))
    for encoder, block in record.embeddings.items() if embeddings else ():
        sha256 = record.provenance.get(f"encoder:{encoder}", "")
        with np.errstate(over="ignore"):  # beyond half precision's 65,504 a value becomes infinite, and says so
            found.append((_embedding_table(plate, encoder, sha256, block.shape[1]), block.astype(np.float16)))
    counted = ~record.cells.touches_edge
    if record.embeddings and counted.any():
        found.append(_profile(record, counted))
    return found


def sums(chunks: Iterable[Chunk], one: Field, channels: int) -> dict[str, int | list[int | None]]:
    """CRC-32C by array, so that `verify` sees every flipped bit: of each plane of "0", and of each table's chunk.

    Masks carry a checksum of their own; reduced levels follow from the full ones.
    """
    found: dict[str, int | list[int | None]] = {}
    for part in chunks:
        array = part.path.parent.as_posix().rpartition(f"/{one.path}/")[2]
        if array == "0":
            found[array] = shards.plane_sums(part.data, channels)
        elif array.startswith("cells/"):
            found[array] = shards.checksum(part.data)
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


def _profile(record: Record, counted: Bools) -> tuple[Table, Array]:
    """The mean embedding of the counted cells, encoders side by side: (1, sum of d_e) f32, and its table.

    Wells are profiled from these means ("Cell-DINO", PLOS Computational Biology 2025: cell, field of view, well). They
    are kept where embeddings are not, and for as long as measurements.
    """
    means = [block[counted].mean(axis=0, dtype=np.float64).astype(np.float32) for block in record.embeddings.values()]
    made_by = [
        {"encoder": name, "sha256": record.provenance.get(f"encoder:{name}", ""), "dimension": block.shape[1]}
        for name, block in record.embeddings.items()
    ]
    identity = hashlib.sha256("\n".join(f"{e['encoder']} {e['sha256']} {e['dimension']}" for e in made_by).encode())
    row = np.concatenate(means)[None]
    return Table(f"{PROFILE_TABLES}{identity.hexdigest()[:12]}", "float32", row.shape[1], {"encoders": made_by}), row


def _padded(image: Array) -> Array:
    height, width = image.shape
    return np.pad(image, ((0, -height % REDUCED), (0, -width % REDUCED)), mode="edge")


def _means(planes: Sequence[Array | None]) -> list[Array | None]:
    return [None if plane is None else _mean(plane) for plane in planes]


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
