"""Reduced levels made again from the full ones at opening. Touches the chunks of one plate's reduced levels only.

They are written without fsync (`commit.commit` argues why that is safe): after a power cut one may be absent, empty or
torn. Absent ones are always made anew; those so young that the system may not have written them back are read, unless
the last session closed the store and the machine has not been started since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cellvigil.errors import StoreError, StoreFull
from cellvigil.store.commit import replace_file
from cellvigil.store.encode import reduced_image, reduced_labels
from cellvigil.store.layout import Geometry
from cellvigil.store.named import Place
from cellvigil.store.plate import Plate, chunk_name, tier_of
from cellvigil.store.shards import read_labels, read_planes

_FULL = {"1": "0", "labels/cells/1": "labels/cells/0"}


def damaged(folder: Path, plate: Plate, young: Mapping[Place, bool]) -> list[tuple[Place, str]]:
    """The reduced levels among the `young` that do not decode, or (True) that a late channel may be lacking in."""
    if plate.geometry is None:
        return []
    return [
        (place, array)
        for place, attached in young.items()
        for array in _FULL
        if tier_of(array) not in plate.dropped.get(place.slot, ())
        if (attached and array == "1") or not _decodes(_chunk(folder, place, array), array, plate.geometry)
    ]


def make_anew(folder: Path, plate: Plate, wanted: Iterable[tuple[Place, str]]) -> tuple[int, int]:
    """Make reduced levels from the full ones; how many were made, and how many not.

    Not made is what has no whole full level, and what the disk has no room for: that is left absent, so that the next
    opening makes it. Raises StoreError if the disk fails otherwise.
    """
    made = unmade = 0
    for place, array in wanted:
        make = reduced_image if array == "1" else reduced_labels
        path = _chunk(folder, place, array)
        try:
            data = make(_chunk(folder, place, _FULL[array]).read_bytes(), plate.known_geometry)
        except (StoreError, FileNotFoundError):
            unmade += 1
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data, durable=False)
            made += 1
        except StoreFull:
            path.unlink(missing_ok=True)
            unmade += 1
    return made, unmade


def _chunk(folder: Path, place: Place, array: str) -> Path:
    return folder / place.path / array / chunk_name(array, place.slot)


def _decodes(path: Path, array: str, geometry: Geometry) -> bool:
    try:
        data = path.read_bytes()
        if array == "1":
            read_planes(data, len(geometry.channels), geometry.reduced, geometry.dtype)
        else:
            read_labels(data, geometry.reduced)
    except (FileNotFoundError, StoreError):
        return False
    return True
