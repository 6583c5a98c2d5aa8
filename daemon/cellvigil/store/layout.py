"""The zarr.json documents of a plate: OME-Zarr 0.5 groups and Zarr 3 arrays. Pure: dicts in, dicts out.

Laid out as reference/store.md says (its figures are why): keys joined by ".", so that a frame makes no directories;
`dimension_names` on every array; one reduced level for plate views; no per-frame attributes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellvigil.store.names import readable
from cellvigil.store.shards import ROWS, ROWS_INNER

Document = dict[str, Any]
REDUCED = 4
"""The reduced level has one pixel for 4 x 4."""

_COLOURS = (("dapi", "0000FF"), ("hoechst", "0000FF"), ("gfp", "00FF00"), ("fitc", "00FF00"), ("rfp", "FF0000"))
_MORE_COLOURS = (("texas", "FF0000"), ("propidium", "FF0000"), ("cy5", "FF00FF"), ("yfp", "FFFF00"), ("cfp", "00FFFF"))


@dataclass(frozen=True, slots=True)
class Geometry:
    """What every frame of a plate shares; fixed by its first frame."""

    channels: tuple[str, ...]  # C names; a frame may lack some, never bring others
    dtype: str  # "uint8", "uint16" or "float32"
    shape: tuple[int, int]  # (Y, X) pixels
    pixel_size_um: tuple[float, float]  # (y, x) micrometres
    windows: tuple[tuple[float, float], ...]  # per channel: display range in raw values, from the first frame
    interval_s: float | None  # seconds between time points, where the configuration says; a slot's nominal length

    @property
    def reduced(self) -> tuple[int, int]:
        """(Y, X) of the reduced level, rounded up."""
        return (-(-self.shape[0] // REDUCED), -(-self.shape[1] // REDUCED))


def rendered(document: Document) -> bytes:
    """A zarr.json as it is written; on one line, since a plate's are written by the thousand."""
    return json.dumps(document).encode() + b"\n"


def group(attributes: Mapping[str, Any] | None = None) -> Document:
    """A group with these attributes."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def plate(name: str, wells: Sequence[tuple[str, str]], most_fields: int) -> Document:
    """The plate's own document. `wells`: (row, column) of every well that holds a committed frame."""
    rows = sorted({row for row, _ in wells}, key=lambda row: (len(row), row))
    columns = sorted({column for _, column in wells}, key=lambda column: (len(column), column))
    listed = sorted((rows.index(row), columns.index(column), row, column) for row, column in wells)
    body = {
        "name": readable(name),
        "version": "0.5",
        "field_count": most_fields,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [{"path": f"{row}/{column}", "rowIndex": r, "columnIndex": c} for r, c, row, column in listed],
    }
    return group({"ome": {"version": "0.5", "plate": body}})


def well(name: str, fields: Iterable[str]) -> Document:
    """A well's document. `fields`: the folder of each field that holds a committed frame."""
    images = [{"path": path} for path in fields]
    return group(
        {"ome": {"version": "0.5", "well": {"version": "0.5", "images": images}}, "cellvigil": {"well": readable(name)}}
    )


def field(geometry: Geometry, well_name: str, field_name: str, note: Mapping[str, Any]) -> Document:
    """A field's document: its two levels and how its channels are shown; `note` is the geometry as the journal has it,
    so that either can be made again from the other.
    """
    well_name, field_name = readable(well_name), readable(field_name)
    name = f"{well_name} field {field_name}"
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale(geometry, name, with_channels=True)],
        "omero": {"version": "0.5", "channels": [_channel(geometry, place) for place in range(len(geometry.channels))]},
    }
    return group({"ome": ome, "cellvigil": {"well": well_name, "field": field_name, "geometry": dict(note)}})


def labels_group() -> Document:
    """The group that holds the label images."""
    return group({"ome": {"version": "0.5", "labels": ["cells"]}})


def label_image(geometry: Geometry) -> Document:
    """The cells' label image: 0 is background, i is the cell in row i - 1 of the tables."""
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale(geometry, "cells", with_channels=False)],
        "image-label": {"version": "0.5", "source": {"image": "../../"}},
    }
    return group({"ome": ome})


def image_array(geometry: Geometry, shape: tuple[int, int], times: int) -> Document:
    """(T, C, Y, X), a shard a time point, an inner chunk a channel."""
    size = 4 if geometry.dtype == "float32" else int(geometry.dtype.removeprefix("uint")) // 8
    count = len(geometry.channels)
    codecs = [_sharding((1, 1, *shape), size)]
    dimensions = ("t", "c", "y", "x")
    whole = (times, count, *shape)
    return _array(whole, (1, count, *shape), geometry.dtype, codecs=codecs, dimensions=dimensions)


def label_array(shape: tuple[int, int], times: int) -> Document:
    """(T, Y, X) i32, a chunk a time point."""
    codecs = [_LITTLE, {"name": "zstd", "configuration": {"level": 1, "checksum": True}}]
    return _array((times, *shape), (1, *shape), "int32", codecs=codecs, dimensions=("t", "y", "x"))


def table_array(dtype: str, columns: int, times: int, attributes: Mapping[str, Any]) -> Document:
    """(T, 8192, columns), a shard a time point; rows beyond a frame's cells read NaN."""
    codecs = [_sharding((1, ROWS_INNER, columns), 2 if dtype == "float16" else 4)]
    return _array(
        (times, ROWS, columns),
        (1, ROWS, columns),
        dtype,
        fill="NaN",
        codecs=codecs,
        dimensions=("t", "cell", "column"),
        attributes=attributes,
    )


_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def _sharding(inner: tuple[int, ...], item_size: int) -> Document:
    blosc = {"typesize": item_size, "cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "blocksize": 0}
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(inner),
            "codecs": [_LITTLE, {"name": "blosc", "configuration": blosc}],
            "index_codecs": [_LITTLE, {"name": "crc32c"}],
            "index_location": "end",
        },
    }


def _array(
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    *,
    fill: float | str = 0,
    codecs: list[Document],
    dimensions: tuple[str, ...],
    attributes: Mapping[str, Any] | None = None,
) -> Document:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": dict(attributes or {}),
        "dimension_names": list(dimensions),
        "storage_transformers": [],
    }


def _multiscale(geometry: Geometry, name: str, *, with_channels: bool) -> Document:
    time = {"name": "t", "type": "time"} | ({"unit": "second"} if geometry.interval_s else {})
    channel = [{"name": "c", "type": "channel"}] if with_channels else []
    space = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    head = [geometry.interval_s or 1.0] + [1.0] * len(channel)
    datasets = []
    for path, factor in (("0", 1), ("1", REDUCED)):
        scale = [*head, *(size * factor for size in geometry.pixel_size_um)]
        # The centre of a reduced pixel lies between the centres of the pixels that it stands for.
        shift = [*[0.0] * len(head), *(size * (factor - 1) / 2 for size in geometry.pixel_size_um)]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": path, "coordinateTransformations": transforms})
    method = "mean" if with_channels else "nearest"
    return {"name": name, "type": method, "axes": [time, *channel, *space], "datasets": datasets}


def _channel(geometry: Geometry, place: int) -> Document:
    start, end = geometry.windows[place]
    most = {"uint8": 255.0, "uint16": 65535.0}.get(geometry.dtype, max(end, start + 1.0))
    label = readable(geometry.channels[place])
    colour = next((code for part, code in (*_COLOURS, *_MORE_COLOURS) if part in label.lower()), "FFFFFF")
    window = {"start": start, "end": end, "min": min(start, 0.0), "max": most}
    return {"label": label or f"channel {place}", "color": colour, "active": True, "window": window}
